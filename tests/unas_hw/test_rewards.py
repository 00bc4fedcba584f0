"""Rewards are the published ones, and no network that breaks a bound is better than one that keeps them all."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest

from unas_hw.methods.monas.config import Penalty, RewardKind
from unas_hw.methods.monas.rewards import Bound, Child, Reward


def child(accuracy: float, energy_mj: float, power_w: float = 0.0) -> Child:
    return Child(path=(), accuracy=accuracy, latency_ms=1.0, energy_mj=energy_mj, peak_power_w=power_w)


def energy(child: Child) -> float:
    assert child.energy_mj is not None
    return child.energy_mj


def power(child: Child) -> float:
    assert child.peak_power_w is not None
    return child.peak_power_w


RANGE = (2.0, 6.0)
POWER = Bound(power, limit=5.0, highest=9.0)


def test_a_mixed_reward_is_that_of_the_paper() -> None:
    reward = Reward("mixed", energy, RANGE)
    assert reward.value(child(0.9, 3.0), 0.7) == pytest.approx(0.7 * 0.9 - 0.3 * 0.25)
    assert reward.value(child(0.9, 2.0), 0.7) == pytest.approx(0.7 * 0.9)


def test_a_bound_on_power_rewards_accuracy_where_it_is_kept_and_nothing_elsewhere() -> None:
    reward = Reward("constraint", energy, RANGE, [POWER], penalty="hard")
    assert reward.value(child(0.9, 6.0, 5.0), 1.0) == 0.9
    assert reward.value(child(0.9, 2.0, 5.1), 1.0) == 0.0


def test_a_bound_on_accuracy_rewards_the_energy_that_is_saved_where_it_is_kept_and_nothing_elsewhere() -> None:
    reward = Reward("constraint", energy, RANGE, min_accuracy=0.8, penalty="hard")
    assert reward.value(child(0.8, 3.0), 1.0) == pytest.approx(0.75)
    assert reward.value(child(0.79, 2.0), 1.0) == 0.0


def test_a_graded_bound_takes_off_how_far_it_is_broken() -> None:
    reward = Reward("constraint", energy, RANGE, [POWER])
    assert reward.value(child(0.9, 6.0, 6.0), 1.0) == pytest.approx(-1 / 4)
    assert reward.value(child(0.9, 6.0, 12.0), 1.0) == pytest.approx(-1)  # a measured one may exceed the highest
    on_accuracy = Reward("constraint", energy, RANGE, min_accuracy=0.8)
    assert on_accuracy.value(child(0.6, 2.0), 1.0) == pytest.approx(-0.2 / 0.8)


@pytest.mark.parametrize("penalty", ["graded", "hard"])
@pytest.mark.parametrize(("kind", "min_accuracy"), [("mixed", None), ("constraint", None), ("constraint", 0.3)])
def test_no_network_that_breaks_a_bound_beats_one_that_keeps_them_all(
    kind: RewardKind, min_accuracy: float | None, penalty: Penalty
) -> None:
    reward = Reward(kind, energy, RANGE, [POWER], min_accuracy=min_accuracy, penalty=penalty)
    children = [child(*values) for values in product((0.0, 0.2, 0.3, 1.0), (2.0, 4.0, 6.0), (1.0, 5.0, 5.01, 9.0))]
    for weight in (0.0, 0.3, 1.0):
        kept = [reward.value(each, weight) for each in children if reward.keeps(each)]
        broken = [reward.value(each, weight) for each in children if not reward.keeps(each)]
        assert min(kept) >= max(broken)
        if penalty == "graded":
            assert min(kept) > max(broken) and len(set(broken)) > 1


@pytest.mark.parametrize("ranked", [False, True])
def test_the_reward_is_the_weighted_sum_of_its_parts_but_for_a_constant_of_the_weight(ranked: bool) -> None:
    reward = Reward("mixed", energy, RANGE, [POWER], ranked=ranked)
    children = [child(*values) for values in product((0.2, 0.9), (2.0, 5.0), (1.0, 8.0))]
    reward.see(children)
    for weight in (0.2, 0.8):
        constants = {
            round(reward.value(each, weight) - sum(map(float.__mul__, reward.parts(each), reward.weights(weight))), 12)
            for each in children
        }
        assert len(constants) == 1


def test_ranks_count_the_best_most_and_do_not_depend_on_the_scale_of_accuracies() -> None:
    def parts(scale: Callable[[float], float]) -> list[float]:
        reward = Reward("mixed", energy, RANGE, ranked=True)
        children = [child(scale(number / 10), 2.0) for number in range(10)]
        reward.see(children)
        return [reward.parts(each)[0] for each in children]

    plain = parts(float)
    assert plain == parts(lambda accuracy: 0.9 + accuracy**3 / 100)
    assert plain[0] == 0 and plain[-1] == pytest.approx(1)
    assert plain[-2] == pytest.approx(math.log(5) / math.log(10))
