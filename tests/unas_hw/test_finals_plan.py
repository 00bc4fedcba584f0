"""How many networks are trained, and how long: what a number or a time makes of it."""

from __future__ import annotations

import json

import pytest

from unas_hw.errors import ConfigurationError
from unas_hw.finals.plan import CHOICES, REPEATS, Finals, Plan, Rung, lasting, least_s


def _steps(plan: Plan, batch_size: int) -> float:
    """Of all trainings, counted one by one."""
    networks, total = plan.networks, 0
    for number, rung in enumerate(plan.halvings):
        there = networks if number == 0 else min(-(-networks // 2**number) + plan.control + 1, networks)
        total += (there + REPEATS) * rung.epochs * rung.images
    return (total + plan.rungs[-1].epochs * plan.rungs[-1].images) / batch_size


@pytest.mark.parametrize("seconds", [60, 450, 1800, 7200, 100_000])
def test_a_time_is_used_and_not_exceeded(seconds: float) -> None:
    plan = Plan.timed(seconds, 0.25, True, 10_000, 64)
    assert plan.seconds == seconds
    assert (plan.networks, len(plan.halvings)) in CHOICES
    assert 0.6 * seconds < 0.25 * _steps(plan, 64) <= 1.05 * seconds, (
        "whole epochs are fewer than the time has room for"
    )


def test_more_time_trains_more_networks_longer_and_what_shares_no_weights_longer_still() -> None:
    plans = [Plan.timed(seconds, 0.25, True, 10_000, 64) for seconds in (450, 1800, 7200)]
    assert [plan.networks for plan in plans] == [12, 16, 32]
    assert [plan.control for plan in plans] == [3, 6, 12]
    assert all(plan.first >= plan.control + 5 for plan in plans), "nominees are among the first"
    new = Plan.timed(1800, 0.25, False, 10_000, 64)
    assert (new.networks, len(new.halvings)) < (16, 3)
    assert new.rungs[0].seen >= 300 * 63
    assert least_s(0.25, False) == 3 * least_s(0.25, True)


def test_a_number_does_not_depend_on_any_clock() -> None:
    plan = Plan.counted(16, True, 1182, 64)
    assert plan.halvings == (Rung(5, 1182), Rung(5, 1182), Rung(11, 1163)), "100 steps, as many again, twice as many"
    assert Plan.counted(16, True, 45_000, 64).rungs[0] == Rung(1, 45_000), "an epoch at least"
    assert (plan.survivors(1), plan.survivors(2)) == (8, 4)


def test_a_plan_is_read_as_it_was_written() -> None:
    plan = Plan.timed(450, 0.25, True, 10_000, 64)
    assert Plan.of(json.loads(json.dumps(plan.as_json()))) == plan


def test_lengths_follow_the_time_that_is_left() -> None:
    plan = Plan.timed(1800, 0.25, True, 10_000, 64)
    left = plan.left(1)
    same = plan.fitted(1, left, 10_000, 64)
    assert same.begun == 2 and same.rungs[0] == plan.rungs[0]
    assert 0.7 * left < same.left(1) <= left
    half = plan.fitted(1, 0.6 * left, 10_000, 64)
    assert half.left(1) < 0.75 * left
    assert plan.fitted(1, 0.0, 10_000, 64).rungs[1] == lasting(0, 10_000, 64), "never nothing"
    last = len(plan.halvings)
    assert plan.left(last) == plan.rungs[-1].seen, "repeats are over by then"


def test_where_trainings_take_longer_than_was_thought_fewer_networks_begin() -> None:
    plan = Plan.timed(450, 0.25, True, 10_000, 64)
    seen = plan.rungs[0].seen
    assert plan.fewer(6, plan.left(0) - 6 * seen).networks == plan.networks == 12
    slow = plan.fewer(6, plan.left(0) - 6 * seen - 3 * seen)
    assert slow.networks == 9 and slow.first == plan.first, "what has begun stays what it was"
    assert plan.fewer(6, 0.0).networks == 6


def test_few_steps_are_a_part_of_the_images_and_many_whole_epochs() -> None:
    assert lasting(100, 10_000, 64) == Rung(1, 6400)
    assert lasting(400, 10_000, 64) == Rung(3, 8533)
    assert lasting(200, 10_000, 64) == Rung(1, 10_000)


@pytest.mark.parametrize("text", ["16", "30m", "90s", "none", "auto"])
def test_what_finals_may_be(text: str) -> None:
    asked = Finals.parse(text)
    assert (asked.networks, asked.seconds, asked.none) == {
        "16": (16, None, False),
        "30m": (None, 1800, False),
        "90s": (None, 90, False),
        "none": (None, None, True),
        "auto": (None, None, False),
    }[text]


@pytest.mark.parametrize("text", ["", "3", "0", "-4", "many", "0s", "-3m", "16.5"])
def test_what_they_may_not_be(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--finals is") as caught:
        Finals.parse(text)
    assert "16, 30m, none" in caught.value.mend
