"""The verdict: its intervals are those of known tests and hold the truth, and its words say what they say."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import t, ttest_ind

from unas_hw.finals import verdict as module
from unas_hw.finals.verdict import Advantage, Winner, verdict

CONTROL = [(0.900, 0.902), (0.911,), (0.889,), (0.905,)]


def interval(advantage: Advantage | None) -> tuple[float, float]:
    assert advantage and advantage.interval
    return advantage.interval


def finals(rng: np.random.Generator, spread: float, noise: float, selected: bool) -> list[tuple[float, float, float]]:
    """Advantages found, their margins and the true ones, in points: over random networks and over the largest."""
    true_N = np.append(rng.normal(90, spread, 12), 90.0)  # the last is the largest, of the mean accuracy
    true_N[:7] += 0.5 * spread
    first_N = true_N + rng.normal(0, noise, 13)
    best = int(first_N.argmax())
    again_N2 = true_N[:, None] + rng.normal(0, noise, (13, 2))
    of_winner = again_N2[best] if selected else np.append(first_N[best], again_N2[best, 0])
    winner: Winner = "largest" if best == 12 else "control" if best > 6 else "nominee"
    again = 7 if best != 7 else 8
    control = [[first_N[n], again_N2[n, 0]] if n == again else [first_N[n]] for n in range(7, 12)]
    found = verdict(
        (of_winner / 100).tolist(),
        [(np.array(each) / 100).tolist() for each in control],
        [first_N[12] / 100, again_N2[12, 0] / 100],
        images=10_000,
        winner_is=winner,
    )
    truths = zip((found.over_random, found.over_largest), (90.0, true_N[12]), strict=True)
    return [(each.points or 0.0, each.margin or 0.0, float(true_N[best] - of)) for each, of in truths if each]


@pytest.mark.parametrize(("spread", "noise"), [(1.0, 0.21), (0.3, 0.21), (0.0, 0.21), (1.0, 0.35), (0.0, 0.35)])
def test_intervals_hold_the_true_advantage_of_what_was_chosen(spread: float, noise: float) -> None:
    """0.21 points is what 10,000 images let expect at an accuracy of 90%."""
    rng = np.random.default_rng(0)
    found = [finals(rng, spread, noise, True) for _ in range(400)]
    for place in (0, 1):
        held = [abs(each[place][0] - each[place][2]) <= each[place][1] for each in found if len(each) > place]
        assert 0.85 <= np.mean(held) <= 0.99


def test_by_what_it_was_chosen_by_a_winner_would_be_too_good() -> None:
    errors = {}
    for fresh in (True, False):
        rng = np.random.default_rng(1)
        found = [finals(rng, 0.0, 0.21, fresh) for _ in range(400)]
        errors[fresh] = np.mean([points - true for (points, _, true), *_ in found])
    assert abs(errors[True]) < 0.04 and errors[False] > 0.1


def test_over_random_it_is_welchs_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXPECTED_DOF", 0)
    winner, control = (0.921, 0.925, 0.924), (0.90, 0.91, 0.88, 0.89)
    known: Any = ttest_ind(winner, control, equal_var=False)
    wanted = 100 * np.array(known.confidence_interval(0.95))
    found = verdict(winner, [(each,) for each in control], None, images=1000)
    assert interval(found.over_random) == pytest.approx(wanted)
    assert found.over_random.points == pytest.approx(100 * (np.mean(winner) - np.mean(control)))


def test_over_the_largest_it_is_students_interval_of_all_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXPECTED_DOF", 0)
    winner, largest = (0.921, 0.925, 0.924), (0.919, 0.916)
    known: Any = ttest_ind(winner, largest)
    once = verdict(winner, [(0.9,), (0.91,)], largest, images=1000)
    assert interval(once.over_largest) == pytest.approx(100 * np.array(known.confidence_interval(0.95)))
    noisy = verdict(winner, [(0.9, 0.92), (0.91,)], largest, images=1000)
    assert (
        noisy.over_largest and once.over_largest and (noisy.over_largest.margin or 0) > (once.over_largest.margin or 0)
    )


def test_few_repeats_are_pooled_with_what_the_images_let_expect() -> None:
    found = verdict((0.9, 0.9), [(0.9,), (0.9,)], (0.9, 0.9), images=10_000)
    variance = 4 / (4 + 2) * 100**2 * 0.9 * 0.1 / 20_000
    margin = t.ppf(0.975, 6) * variance**0.5
    assert found.over_largest and found.over_largest.margin == pytest.approx(margin, rel=1e-3)
    # networks that came out alike may still differ by the chance of a training
    assert found.over_random.margin and found.over_random.margin > 0.3
    fewer = verdict((0.9, 0.9), [(0.9,), (0.9,)], (0.9, 0.9), images=1000).over_largest
    assert fewer and fewer.margin == pytest.approx(margin * math.sqrt(10), rel=0.01)


def test_a_network_of_several_trainings_is_one_network() -> None:
    found = verdict((0.95, 0.95), [(0.90, 0.92), (0.93,)], None, images=10_000)
    assert found.over_random.points == pytest.approx(3.0)
    assert found.control == 3 and found.over_largest is None


@pytest.mark.parametrize(
    ("points", "margin", "more", "words"),
    [
        (0.62, 0.31, 0, "0.6 ± 0.3 points above random networks of this budget"),
        (-0.62, 0.31, 0, "0.6 ± 0.3 points below random networks of this budget"),
        (0.2, 0.3, 0, "0.2 ± 0.3 points above random networks of this budget: no better than random networks"),
        (-0.2, 0.3, 0, "0.2 ± 0.3 points below random networks of this budget: no better than random networks"),
        (0.34, 0.31, 0, "0.34 ± 0.31 points above random networks of this budget"),
        (0.0, 0.0, 0, "0.00 ± 0.00 points above random networks of this budget: no better than random networks"),
        (0.04, 0.02, 0, "0.04 ± 0.02 points above random networks of this budget"),
        (
            0.2,
            1.4,
            14,
            "0.2 ± 1.4 points above random networks of this budget: cannot be told, it takes about 14 more trainings",
        ),
        (
            0.2,
            9.0,
            1001,
            "0.2 ± 9.0 points above random networks of this budget: cannot be told, "
            "it takes more than a thousand more trainings",
        ),
        (
            0.2,
            None,
            1,
            "0.2 points above random networks of this budget: cannot be told, it takes at least 1 more training",
        ),
        (None, None, 2, "against random networks of this budget: cannot be told, it takes at least 2 more trainings"),
    ],
)
def test_words(points: float | None, margin: float | None, more: int, words: str) -> None:
    found = Advantage(over=module.RANDOM, points=points, margin=margin, more=more)
    assert found.words() == words
    assert found.told == ("cannot be told" not in words)


def test_words_of_both_and_json() -> None:
    found = verdict((0.922, 0.924), CONTROL, (0.921, 0.923), images=10_000)
    first, second = found.words().split("; ")
    assert first.startswith("2.2 ± ") and first.endswith(" points above random networks of this budget")
    assert second.startswith("0.1 ± ") and second.endswith(" points above the largest: no better than the largest")
    known = json.loads(json.dumps(found.as_json()))
    assert known == {
        "winner": "nominee",
        "random": 5,
        "largest": 2,
        "advantage_points": {"random": pytest.approx(2.15), "largest": pytest.approx(0.1)},
        "interval": {
            "random": pytest.approx([*interval(found.over_random)]),
            "largest": pytest.approx([*interval(found.over_largest)]),
        },
        "told": {"random": True, "largest": True},
        "words": found.words(),
    }


def test_the_largest_is_not_compared_with_itself() -> None:
    found = verdict((0.922, 0.924), CONTROL, (0.93,), images=10_000, winner_is="largest")
    assert found.words().startswith("the largest network is the one that ships; 2.2 ± ")
    known = found.as_json()
    assert (known["random"], known["largest"]) == (5, 0)
    assert {known[name]["largest"] for name in ("advantage_points", "interval", "told")} == {None}


def test_a_random_network_may_win() -> None:
    found = verdict((0.922, 0.924), CONTROL, (0.921,), images=10_000, winner_is="control")
    assert found.words().startswith("a random network of the control group won: it is the one that ships; 2.2 ± ")


def test_what_is_missing_is_said() -> None:
    nothing = verdict((), [], (), images=100)
    assert (nothing.over_random.more, nothing.over_random.points) == (3, None)
    assert nothing.over_largest and nothing.over_largest.more == 2
    one = verdict((0.92, 0.93), [(0.9,)], None, images=100)
    assert (one.over_random.more, one.over_random.interval) == (1, None)
    assert one.over_random.points == pytest.approx(2.5)


def test_without_a_repeat_chance_is_no_more_than_the_spread_of_random_networks() -> None:
    found = verdict((0.97,), [(0.91,), (0.89,), (0.90,)], (0.96,), images=10_000)
    assert found.over_largest and found.over_largest.interval is None and found.over_largest.more == 1
    assert found.over_random.margin == pytest.approx(t.ppf(0.975, 2) * math.sqrt(1 + 1 / 3))


def test_as_many_trainings_as_it_takes() -> None:
    control = [(0.88,), (0.92,), (0.88,), (0.92,)]
    found = verdict((0.9, 0.9), control, None, images=10**9).over_random
    spread = float(np.std([88, 92, 88, 92], ddof=1))
    networks = next(n for n in range(4, 99) if t.ppf(0.975, n - 1) * spread / n**0.5 < 1)
    assert not found.told and found.more == networks - 4
    far = verdict((0.915, 0.915), control, None, images=10**9).over_random
    assert not far.told and 0 < far.more < found.more, "1.5 points are told sooner from 0"
    wild = verdict((0.5, 0.5), [(0.1,), (0.9,)], None, images=100).over_random
    assert wild.more > module.MOST and "more than a thousand" in wild.words()
