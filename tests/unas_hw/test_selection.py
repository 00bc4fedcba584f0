"""What ships was measured and fits: of the most probable networks that do, the one with the lowest loss. Where the
device is slower than predicted the next round aims lower, and where nothing fits that is said, not hidden.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import pytest
import torch
from torch import Tensor

from latency_tables.table import LatencyTable
from profilers.profiler import Profiler
from profilers.registry import open_profiler
from profilers.timing import TimingRule
from unas_hw.budget import Budget
from unas_hw.distribution import ArchitectureDistribution
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import Meter, Reading, enough_for
from unas_hw.search import selection
from unas_hw.search.selection import BAND, CANDIDATES, ROUNDS, Path, Selection, select, select_first
from unas_hw.space import Architecture
from unas_hw.spaces.chain import ChainSpace


class FakeMeter:
    """Says what a function of the path says, and remembers what it was asked."""

    def __init__(self, space: ChainSpace, judged_ms: Callable[[Path], float], margin: float = 0.0) -> None:
        self.space, self.judged_ms, self.margin = space, judged_ms, margin
        self.rounds: list[list[Path]] = []

    def measure(self, architectures: Sequence[Architecture], *, label: str, rule: TimingRule) -> list[Reading]:
        assert label == "final"
        self.rounds.append([self.space.indices(each) for each in architectures])
        times = [self.judged_ms(path) for path in self.rounds[-1]]
        return [Reading(raw_ms=ms, scaled_ms=ms, margin=self.margin, anchor_scale=1.0) for ms in times]


def _loss(path: Path) -> float:
    return float(hash(path) % 1000)


def _losses(path: Path) -> Tensor:
    return torch.full((4,), _loss(path))


@pytest.fixture
def model(space: ChainSpace, table: LatencyTable) -> LatencyModel:
    return LatencyModel(space, table)


@pytest.fixture
def distribution() -> ArchitectureDistribution:
    made = ArchitectureDistribution((6, 7, 6))
    with torch.no_grad():
        made.alpha.copy_(torch.randn(3, 7, generator=torch.Generator().manual_seed(0)))
    return made


def _budget(model: LatencyModel, share: float) -> float:
    low, high = model.latency_ms(model.smallest), model.latency_ms(model.largest)
    return low + share * (high - low)


@pytest.fixture
def choose(
    model: LatencyModel, distribution: ArchitectureDistribution, rule: TimingRule
) -> Callable[..., list[Selection]]:
    def run(
        meter: object,
        budget_ms: float,
        losses: Callable[[Path], Tensor] = _losses,
        model: LatencyModel = model,
        rule: TimingRule = rule,
    ) -> list[Selection]:
        return list(select(distribution, model, cast(Meter, meter), budget_ms, losses, rule))

    return run


Choose = Callable[..., list[Selection]]


def test_of_the_networks_that_fit_the_one_with_the_lowest_loss_is_kept(
    space: ChainSpace, model: LatencyModel, choose: Choose
) -> None:
    meter, budget_ms = FakeMeter(space, model.latency_ms), _budget(model, 0.6)
    found = choose(meter, budget_ms)[-1]
    assert len(meter.rounds) == 1
    assert found.readings.keys() == set(meter.rounds[0])
    assert found.best == min(meter.rounds[0], key=_loss)


def test_of_many_networks_those_of_the_lowest_losses_are_measured(
    space: ChainSpace, model: LatencyModel, distribution: ArchitectureDistribution, rule: TimingRule
) -> None:
    meter, budget_ms, asked = FakeMeter(space, model.latency_ms), _budget(model, 0.6), []

    def losses(path: Path) -> Tensor:
        asked.append(path)
        return _losses(path)

    found = list(select(distribution, model, cast(Meter, meter), budget_ms, losses, rule, compared=20))[-1]
    few = list(select(distribution, model, cast(Meter, meter), budget_ms, _losses, rule))[-1]
    assert CANDIDATES < len(set(asked)) == len(asked) <= 21  # the mode too, and each once
    assert len(found.readings) <= CANDIDATES + 1
    assert found.best is not None and few.best is not None
    assert _loss(found.best) == min(map(_loss, asked)) <= _loss(few.best)


def test_losses_to_compare_decide_and_those_of_validation_are_told(
    space: ChainSpace, model: LatencyModel, distribution: ArchitectureDistribution, rule: TimingRule
) -> None:
    asked: list[Path] = []

    def other(path: Path) -> Tensor:
        asked.append(path)
        return -_losses(path)

    meter, budget_ms = FakeMeter(space, model.latency_ms), _budget(model, 0.6)
    rounds = select(
        distribution, model, cast(Meter, meter), budget_ms, _losses, rule, compared=20, compared_losses=other
    )
    found = list(rounds)[-1]
    assert found.best == max(asked, key=_loss)
    assert found.losses == {path: pytest.approx(_loss(path)) for path in found.readings}


def test_an_order_says_which_are_measured_and_which_of_them_is_kept(
    space: ChainSpace, model: LatencyModel, distribution: ArchitectureDistribution, rule: TimingRule
) -> None:
    seen: list[Path] = []
    budget_ms = _budget(model, 0.6)

    def order(paths: Sequence[Path]) -> list[Path]:
        seen.extend(paths)
        return sorted(paths, key=_loss, reverse=True)

    def judged_ms(path: Path) -> float:
        return (
            2 * budget_ms if path == max(seen, key=_loss) else model.latency_ms(path)
        )  # the first does not keep the budget

    meter = FakeMeter(space, judged_ms)
    found = list(select(distribution, model, cast(Meter, meter), budget_ms, _losses, rule, compared=20, order=order))[
        -1
    ]
    (measured,) = meter.rounds
    first, second, *_ = ordered = sorted({*seen}, key=_loss, reverse=True)
    assert len(ordered) > CANDIDATES
    assert set(ordered[:CANDIDATES]) <= set(measured)
    assert found.best == second
    assert first in measured


@pytest.mark.parametrize(("worse", "by_chance"), [(0.01, True), (0.2, False)])
def test_a_difference_of_less_than_a_standard_error_does_not_outweigh_an_unused_budget(
    space: ChainSpace,
    model: LatencyModel,
    distribution: ArchitectureDistribution,
    choose: Choose,
    worse: float,
    by_chance: bool,
) -> None:
    mode, meter = distribution.mode(), FakeMeter(space, model.latency_ms)
    noise = torch.randn(400, generator=torch.Generator().manual_seed(0))  # its standard error is 0.05
    others = noise - noise.mean() + worse
    found = choose(meter, _budget(model, 0.9), losses=lambda path: others if path != mode else torch.zeros(400))[-1]
    (measured,) = meter.rounds
    assert mode == min(measured, key=model.latency_ms)
    assert found.best == (max(measured, key=model.latency_ms) if by_chance else mode)


def test_candidates_are_the_mode_and_the_most_probable_that_use_the_budget_and_leave_headroom(
    space: ChainSpace, model: LatencyModel, distribution: ArchitectureDistribution, choose: Choose
) -> None:
    meter, budget_ms = FakeMeter(space, model.latency_ms), _budget(model, 0.6)
    choose(meter, budget_ms)
    aim_ms = 0.95 * budget_ms
    everything = [(a, b, c) for a in range(6) for b in range(7) for c in range(6)]
    inside = [path for path in everything if BAND * aim_ms <= model.latency_ms(path) <= aim_ms]
    log_prob = distribution.log_prob(torch.tensor(inside)).tolist()
    ranked = [path for _, path in sorted(zip(log_prob, inside, strict=True), reverse=True)]
    assert len(ranked) > 2 * CANDIDATES
    assert model.latency_ms(distribution.mode()) < BAND * aim_ms
    assert meter.rounds == [[distribution.mode(), *ranked[:CANDIDATES]]]


def test_a_mode_that_is_predicted_to_be_too_slow_is_not_measured(
    space: ChainSpace, model: LatencyModel, distribution: ArchitectureDistribution, choose: Choose
) -> None:
    meter, budget_ms = FakeMeter(space, model.latency_ms), 0.99 * model.latency_ms(distribution.mode())
    choose(meter, budget_ms)
    assert distribution.mode() not in meter.rounds[0]


def test_a_mode_that_fits_with_room_to_spare_does_not_end_the_search_for_one_that_uses_the_budget(
    space: ChainSpace, model: LatencyModel, distribution: ArchitectureDistribution, choose: Choose
) -> None:
    mode, budget_ms = distribution.mode(), _budget(model, 0.9)
    meter = FakeMeter(space, lambda path: (1.2 if path != mode else 1) * model.latency_ms(path))
    found = choose(meter, budget_ms)[-1]
    assert len(meter.rounds) == 2
    assert any(found.readings[path].judged_ms > 0.85 * budget_ms for path in meter.rounds[1])


def test_the_better_network_does_not_ship_if_it_does_not_fit(
    space: ChainSpace, model: LatencyModel, choose: Choose
) -> None:
    budget_ms, seen = _budget(model, 0.6), FakeMeter(space, model.latency_ms)
    choose(seen, budget_ms)
    favourite = min(seen.rounds[0], key=_loss)
    meter = FakeMeter(space, lambda path: 1.01 * budget_ms if path == favourite else model.latency_ms(path))
    found = choose(meter, budget_ms)[-1]
    assert found.best == min((path for path in meter.rounds[0] if path != favourite), key=_loss)


def test_a_network_fits_only_with_the_whole_interval_of_its_measurement(
    space: ChainSpace, model: LatencyModel, choose: Choose
) -> None:
    budget_ms = _budget(model, 0.6)
    surely, hardly = (FakeMeter(space, lambda path: 0.99 * budget_ms, width) for width in (0.005, 0.02))
    assert choose(surely, budget_ms)[-1].best is not None
    assert choose(hardly, budget_ms)[-1].best is None


@pytest.mark.parametrize("slowness", [1.25, 1.35, 1.6])
def test_a_device_that_is_slower_than_predicted_is_aimed_lower_at(
    space: ChainSpace, model: LatencyModel, choose: Choose, slowness: float
) -> None:
    meter, budget_ms = FakeMeter(space, lambda path: slowness * model.latency_ms(path)), _budget(model, 0.9)
    found = choose(meter, budget_ms)
    assert len(found) == len(meter.rounds) == 2
    assert found[-1].best is not None
    assert found[-1].best in meter.rounds[1]
    assert 0.8 * budget_ms < found[-1].readings[found[-1].best].judged_ms <= budget_ms
    assert not set(meter.rounds[0]) & set(meter.rounds[1])  # nothing is measured twice


def test_where_nothing_fits_nothing_ships_and_the_nearest_is_named(
    space: ChainSpace, model: LatencyModel, choose: Choose
) -> None:
    meter, budget_ms = FakeMeter(space, lambda path: 100 + model.latency_ms(path)), _budget(model, 0.5)
    found = choose(meter, budget_ms)[-1]
    assert found.best is None
    assert 1 <= len(meter.rounds) <= ROUNDS
    measured = [path for paths in meter.rounds for path in paths]
    assert found.nearest == min(measured, key=model.latency_ms)
    assert model.smallest in measured  # before giving up, the fastest was tried


def test_the_answer_comes_last_and_only_once(space: ChainSpace, model: LatencyModel, choose: Choose) -> None:
    found = choose(FakeMeter(space, model.latency_ms), _budget(model, 0.6))
    assert [selection.best is not None for selection in found] == [True]


def test_where_the_budget_binds_nothing_the_most_probable_network_is_a_candidate(
    space: ChainSpace, model: LatencyModel, distribution: ArchitectureDistribution, choose: Choose
) -> None:
    meter = FakeMeter(space, model.latency_ms)
    found = choose(
        meter, 10 * _budget(model, 1), losses=lambda path: torch.full((4,), float(path != distribution.mode()))
    )[-1]
    assert found.best == distribution.mode()


def test_a_budget_that_only_the_fastest_network_meets_is_met(
    space: ChainSpace, model: LatencyModel, choose: Choose
) -> None:
    meter, budget_ms = FakeMeter(space, model.latency_ms), model.latency_ms(model.smallest) * 1.0001
    assert choose(meter, budget_ms)[-1].best == model.smallest


@pytest.fixture
def fused(table: LatencyTable) -> Iterator[Profiler]:
    """The table's device, but whole networks take a fifth longer than when the table was made."""
    with open_profiler(f"{table.header['device']}&fusion=-0.14") as profiler:
        yield profiler


def test_a_simulated_device_that_is_not_what_the_table_says_gets_a_network_that_fits(
    space: ChainSpace, table: LatencyTable, model: LatencyModel, fused: Profiler, choose: Choose
) -> None:
    budget_ms = _budget(model, 0.6)
    found = choose(Meter(space, table, fused), budget_ms)[-1]
    assert found.best is not None
    reading = found.readings[found.best]
    assert reading.anchors_moved  # so it is judged at the table's speed
    assert reading.judged_ms == reading.scaled_ms <= budget_ms < 1.3 * reading.judged_ms


@pytest.mark.parametrize("percentile", [90, 99])
def test_a_budget_at_a_percentile_is_met_at_that_percentile(
    space: ChainSpace, table: LatencyTable, rule: TimingRule, choose: Choose, percentile: int
) -> None:
    model = LatencyModel(space, table, percentile)
    budget_ms = _budget(model, 0.6)
    with open_profiler(table.header["device"]) as profiler:
        meter = Meter(space, table, profiler, percentile=percentile)
        enough = enough_for(rule, Budget(budget_ms, None, percentile))
        found = choose(meter, budget_ms, model=model, rule=enough)[-1]
        assert found.best is not None
        key = space.workload(space.architecture(found.best)).key
        measured = profiler.measure_all([space.workload(space.architecture(found.best))], rule, label="again")[key]
    assert found.readings[found.best].judged_ms <= found.readings[found.best].upper_ms <= budget_ms
    assert measured.raw_percentile_ms(percentile) <= 1.02 * budget_ms


def test_a_mode_that_leaves_no_headroom_is_no_candidate(
    space: ChainSpace, model: LatencyModel, distribution: ArchitectureDistribution, choose: Choose
) -> None:
    mode = distribution.mode()
    for share, candidate in ((1.01, False), (1.1, True)):
        meter = FakeMeter(space, model.latency_ms)
        choose(meter, share * model.latency_ms(mode))
        assert (mode in meter.rounds[0]) == candidate


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_what_ships_keeps_all_other_budgets_too(
    space: ChainSpace, model: LatencyModel, distribution: ArchitectureDistribution, rule: TimingRule, share: float
) -> None:
    paths = list(itertools.product(range(6), range(7), range(6)))
    budget_ms = _budget(model, 0.7)
    inside = [path for path in paths if model.latency_ms(path) <= budget_ms]
    allowed = set(sorted(inside, key=_loss)[-max(1, round(share * len(inside))) :])  # those that nothing else favours
    meter = cast(Meter, FakeMeter(space, model.latency_ms))
    found = list(select(distribution, model, meter, budget_ms, _losses, rule, fits=allowed.__contains__))[-1]
    assert found.best in allowed
    assert set(found.readings) <= allowed


def test_a_band_whose_probable_networks_break_another_budget_is_searched_by_drawing(
    space: ChainSpace,
    model: LatencyModel,
    distribution: ArchitectureDistribution,
    rule: TimingRule,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selection, "LOOKED_AT", 1)
    budget_ms, seen = _budget(model, 0.7), set[Path]()
    probable = model.most_probable([probs.detach().log() for probs in distribution.probs()], 0.0, budget_ms, 3)

    def fits(path: Path) -> bool:
        seen.add(path)
        return path not in probable

    meter = cast(Meter, FakeMeter(space, model.latency_ms))
    found = list(select(distribution, model, meter, budget_ms, _losses, rule, fits=fits))[-1]
    assert found.best is not None and found.best not in probable
    assert len(seen) > CANDIDATES


def _ranking(model: LatencyModel, asked: list[float]) -> Callable[[float], list[Path]]:
    """All networks within a latency, the slowest first; remembers what it was asked."""
    paths = list(itertools.product(*(range(len(each.choices)) for each in model.space.decisions)))
    paths.sort(key=model.latency_ms, reverse=True)

    def ranked(most_ms: float) -> list[Path]:
        asked.append(most_ms)
        return [path for path in paths if model.latency_ms(path) <= most_ms]

    return ranked


def test_of_a_ranking_the_first_network_that_keeps_the_budget_by_its_own_measurement_is_kept(
    space: ChainSpace, model: LatencyModel, rule: TimingRule
) -> None:
    budget_ms, asked = _budget(model, 0.5), list[float]()
    ranked = _ranking(model, asked)
    first, second, *_ = ranked(0.95 * budget_ms)
    meter = FakeMeter(space, lambda path: 2 * budget_ms if path == first else model.latency_ms(path))
    (found,) = select_first(ranked, model, cast(Meter, meter), budget_ms, rule, headroom=0.05)
    assert found.best == second
    assert len(meter.rounds) == 1 and list(found.readings)[:2] == [first, second]


def test_where_nothing_of_a_ranking_keeps_the_budget_smaller_networks_are_asked_for(
    space: ChainSpace, model: LatencyModel, rule: TimingRule
) -> None:
    budget_ms, asked = _budget(model, 0.8), list[float]()
    meter = FakeMeter(space, lambda path: 1.3 * model.latency_ms(path))
    found = list(select_first(_ranking(model, asked), model, cast(Meter, meter), budget_ms, rule, headroom=0.0))[-1]
    assert found.best is not None and 1.3 * model.latency_ms(found.best) <= budget_ms
    assert len(asked) > 1 and asked[1] == pytest.approx(budget_ms / 1.3 / 1.02, rel=0.01)
    slow = FakeMeter(space, lambda _: 2 * budget_ms)
    hopeless = list(select_first(lambda _: [], model, cast(Meter, slow), budget_ms, rule))[-1]
    assert hopeless.best is None and hopeless.nearest == model.smallest
