"""Times are taken by rules that know no clock: here a test winds it.

Promised: a sample outlasts the clock; every operation is visited every round, in an order that depends on the seed
only; what was measured before is not measured again; rounds end when the rule says so; and a machine with two speeds
gives the same table as one with one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profilers.timing import (
    Sample,
    TimingRule,
    calls_per_block,
    corrected_ms,
    half_width,
    interleave,
    machine_speed,
    odd_even_ms,
    samples_needed,
    upper_bound_ms,
)

SENTINEL = "sentinel"
KEYS = tuple("abcdefgh")
RULE = TimingRule(min_rounds=6, max_rounds=6, min_time_s=0, max_time_s=math.inf, sentinel_every=4)


class WoundDevice:
    """Takes ``ms`` a call on a clock of its own; ``speed`` says how slow the machine is at a moment."""

    def __init__(self, ms: Mapping[str, float], speed: Callable[[float], float] = lambda now_s: 1.0) -> None:
        self.ms = ms
        self.speed = speed
        self.now_s = 0.0
        self.timed: list[tuple[str, int]] = []

    def time_s(self, key: str, calls: int) -> float:
        self.timed.append((key, calls))
        seconds = self.ms[key] * calls / 1e3 * self.speed(self.now_s)
        self.now_s += seconds
        return seconds

    def samples(
        self, rule: TimingRule = RULE, *, seed: str = "s", have: Mapping[str, int] | None = None, calls: int = 1
    ) -> list[Sample]:
        """All samples of all keys, with the sentinel if the device has it."""
        sentinel = SENTINEL if SENTINEL in self.ms else None
        return list(
            interleave(
                self.time_s,
                dict.fromkeys(self.ms, calls),
                rule=rule,
                seed=seed,
                sentinel=sentinel,
                have=have,
                clock_s=lambda: self.now_s,
            )
        )


def _rounds(samples: Sequence[Sample], keys: int) -> list[list[str]]:
    order = [sample.key for sample in samples if sample.key != SENTINEL]
    return [order[start : start + keys] for start in range(0, len(order), keys)]


# --- a block outlasts the clock ---------------------------------------------------------------------------------


@given(st.floats(1e-5, 1e3), st.floats(1e-4, 0.1), st.integers(1, 50))
def test_a_block_always_outlasts_the_clock_and_is_not_much_longer_than_it_has_to_be(
    ms: float, min_block_s: float, warmup_calls: int
) -> None:
    device = WoundDevice({"op": ms})
    calls = calls_per_block(device.time_s, "op", TimingRule(min_block_s=min_block_s, warmup_calls=warmup_calls))
    block_s = calls * ms / 1e3
    assert block_s >= min_block_s * (1 - 1e-9)
    assert calls == 1 or block_s <= 2 * min_block_s + ms / 1e3
    assert device.timed[-1] == ("op", calls)


def test_a_coarse_clock_that_says_zero_is_outlasted_too() -> None:
    device = WoundDevice({"op": 0.05})

    def coarse_s(key: str, calls: int) -> float:
        return math.floor(device.time_s(key, calls) / 0.001) * 0.001

    assert calls_per_block(coarse_s, "op", TimingRule(min_block_s=0.002)) * 0.05 >= 2


def test_an_operation_runs_a_few_times_before_its_first_sample() -> None:
    device = WoundDevice({"op": 5.0})
    assert calls_per_block(device.time_s, "op", TimingRule(min_block_s=0.002, warmup_calls=10)) == 1
    assert sum(calls for _, calls in device.timed) == 10


def test_warming_up_a_slow_operation_is_capped_by_time() -> None:
    device = WoundDevice({"op": 900.0})
    calls_per_block(device.time_s, "op", TimingRule(warmup_calls=10, warmup_cap_s=2.0))
    assert len(device.timed) == 3


# --- rounds -----------------------------------------------------------------------------------------------------


def test_every_key_is_visited_every_round_in_an_order_of_its_own() -> None:
    rounds = _rounds(WoundDevice(dict.fromkeys(KEYS, 1.0)).samples(), len(KEYS))
    assert len(rounds) == RULE.max_rounds
    assert all(sorted(visited) == sorted(KEYS) for visited in rounds)
    assert len({tuple(visited) for visited in rounds}) == len(rounds)


def test_the_order_depends_on_the_seed_and_on_nothing_else() -> None:
    def order(seed: str, ms: float) -> list[str]:
        return [sample.key for sample in WoundDevice(dict.fromkeys(KEYS, ms)).samples(seed=seed)]

    assert order("one", 1.0) == order("one", 2.0)
    assert order("one", 1.0) != order("two", 1.0)


def test_a_sample_is_the_time_of_one_call() -> None:
    samples = WoundDevice({"a": 0.5, "b": 3.0}).samples(calls=7)
    assert {(sample.key, round(sample.ms, 9), sample.calls) for sample in samples} == {("a", 0.5, 7), ("b", 3.0, 7)}


def test_ticks_count_the_samples_in_time() -> None:
    samples = WoundDevice(dict.fromkeys((*KEYS, SENTINEL), 1.0)).samples()
    assert [sample.tick for sample in samples] == list(range(len(samples)))


def test_samples_are_given_as_they_are_taken() -> None:
    device = WoundDevice(dict.fromkeys(KEYS, 1.0))
    rounds = interleave(
        device.time_s, dict.fromkeys(KEYS, 1), rule=replace(RULE, sentinel_every=2), seed="s", clock_s=lambda: 0.0
    )
    next(rounds)
    assert len(device.timed) == 2  # the batch whose sentinel judges it


@given(st.dictionaries(st.sampled_from(KEYS), st.integers(0, 8)))
def test_what_was_interrupted_is_completed_and_nothing_more(have: dict[str, int]) -> None:
    counts = Counter(sample.key for sample in WoundDevice(dict.fromkeys(KEYS, 1.0)).samples(have=have))
    for key in KEYS:
        assert counts[key] == max(0, RULE.max_rounds - have.get(key, 0))


def test_a_profile_goes_on_with_the_round_in_which_it_was_interrupted() -> None:
    whole = WoundDevice(dict.fromkeys(KEYS, 1.0)).samples()
    first = whole[: 2 * len(KEYS)]
    have = Counter(sample.key for sample in first)
    rest = WoundDevice(dict.fromkeys(KEYS, 1.0)).samples(have=have)
    assert [sample.key for sample in first + rest] == [sample.key for sample in whole]


# --- when to stop -----------------------------------------------------------------------------------------------

PATIENT = TimingRule(min_rounds=20, max_rounds=60, min_time_s=0, max_time_s=math.inf, half_width=0.01)


def test_rounds_end_when_every_median_is_known_well_enough() -> None:
    assert len(_rounds(WoundDevice(dict.fromkeys(KEYS, 1.0)).samples(PATIENT), len(KEYS))) == PATIENT.min_rounds


def test_noisy_operations_are_visited_up_to_the_maximum() -> None:
    rng = np.random.default_rng(0)
    noisy = WoundDevice(dict.fromkeys(KEYS, 1.0), lambda _: float(np.exp(rng.normal(0, 0.3))))
    assert len(_rounds(noisy.samples(PATIENT), len(KEYS))) == PATIENT.max_rounds
    content = replace(PATIENT, half_width=1.0)
    assert len(_rounds(noisy.samples(content), len(KEYS))) == PATIENT.min_rounds


def test_one_noisy_operation_is_enough_to_go_on() -> None:
    rng = np.random.default_rng(0)
    device = WoundDevice(dict.fromkeys(KEYS, 1.0))
    device.speed = lambda _: float(np.exp(rng.normal(0, 0.3))) if device.timed[-1][0] == "c" else 1.0
    assert len(_rounds(device.samples(PATIENT), len(KEYS))) == PATIENT.max_rounds


def test_rounds_last_at_least_the_minimum_time() -> None:
    device = WoundDevice(dict.fromkeys(KEYS, 1.0))  # a round takes 8 ms
    rounds = _rounds(device.samples(replace(PATIENT, min_time_s=0.3)), len(KEYS))
    assert len(rounds) == 40  # the first multiple of five rounds after 37.5


def test_no_round_begins_after_the_maximum_time() -> None:
    device = WoundDevice(dict.fromkeys(KEYS, 1.0))
    rounds = _rounds(device.samples(replace(PATIENT, max_time_s=0.0225)), len(KEYS))
    assert len(rounds) == 3
    assert all(len(visited) == len(KEYS) for visited in rounds)  # one that began is finished


# --- the sentinel -----------------------------------------------------------------------------------------------


def test_the_sentinel_is_timed_after_every_batch() -> None:
    samples = WoundDevice(dict.fromkeys((*KEYS, SENTINEL), 1.0)).samples()
    where = [sample.tick for sample in samples if sample.key == SENTINEL]
    assert where == list(range(4, len(samples), 5))
    assert not any(sample.drifted for sample in samples)


def test_what_lay_around_a_change_of_speed_is_flagged_and_taken_again_once_in_the_same_round() -> None:
    # Ten timings of 1 ms a round; the change comes within the second batch of the third round.
    device = WoundDevice(dict.fromkeys((*KEYS, SENTINEL), 1.0), lambda now_s: 1.8 if now_s > 0.0265 else 1.0)
    samples = device.samples()
    drifted = [sample for sample in samples if sample.drifted]
    assert [sample.tick for sample in drifted] == [25, 26, 27, 28]
    again = samples[30:34]
    assert sorted(sample.key for sample in again) == sorted(sample.key for sample in drifted)
    assert not any(sample.drifted for sample in again)
    good = Counter(sample.key for sample in samples if not sample.drifted and sample.key != SENTINEL)
    assert good == dict.fromkeys(KEYS, RULE.max_rounds)


def test_a_machine_that_never_rests_is_not_measured_forever() -> None:
    device = WoundDevice(dict.fromkeys((*KEYS, SENTINEL), 1.0))
    device.speed = lambda _: 1.8 ** (sum(key == SENTINEL for key, _ in device.timed) % 2)
    samples = [sample for sample in device.samples() if sample.key != SENTINEL]
    assert sum(sample.drifted for sample in samples) > len(KEYS)
    assert len(samples) <= 2 * RULE.max_rounds * len(KEYS)
    good = Counter(sample.key for sample in samples if not sample.drifted)
    assert good == dict.fromkeys(KEYS, RULE.max_rounds)


def test_a_change_below_the_threshold_is_no_drift() -> None:
    device = WoundDevice(dict.fromkeys((*KEYS, SENTINEL), 1.0), lambda now_s: 1.2 if now_s > 0.0265 else 1.0)
    assert not any(sample.drifted for sample in device.samples())


# --- a machine with two speeds ----------------------------------------------------------------------------------


def _two_speeds(seed: int, *, in_a_row: bool, slow: float = 1.8) -> tuple[dict[str, float], list[Sample], list[bool]]:
    """True latencies, samples with 1% noise, and whether the machine was slow; its moods last 10 to 40 samples."""
    rng = np.random.default_rng(seed)
    true_ms = {f"op{number}": float(ms) for number, ms in enumerate(rng.uniform(0.1, 5.0, 16))}
    names = list(true_ms)
    order = [key for key in names for _ in range(24)]
    if not in_a_row:
        order = [names[index] for _ in range(24) for index in rng.permutation(len(names))]
    samples: list[Sample] = []
    was_slow: list[bool] = []
    while len(samples) < len(order):
        mood = not was_slow[-1] if was_slow else False
        for key in order[len(samples) : len(samples) + int(rng.integers(10, 40))]:
            ms = true_ms[key] * (slow if mood else 1.0) * math.exp(rng.normal(0, 0.01))
            samples.append(Sample(key, ms, 1, len(samples)))
            was_slow.append(mood)
    return true_ms, samples, was_slow


def _worst_ratio(medians_ms: Mapping[str, float], true_ms: Mapping[str, float]) -> float:
    """How far the ratios of keys are off; a common factor does not count."""
    ratios = np.array([medians_ms[key] / true_ms[key] for key in true_ms])
    return float(np.abs(ratios / np.median(ratios) - 1).max())


def _naive(samples: Sequence[Sample]) -> dict[str, float]:
    return {
        key: float(np.median([sample.ms for sample in samples if sample.key == key]))
        for key in {sample.key for sample in samples}
    }


@pytest.mark.parametrize("seed", range(5))
def test_two_speeds_of_the_machine_do_not_reach_the_ratios_of_its_operations(seed: int) -> None:
    true_ms, samples, _ = _two_speeds(seed, in_a_row=False)
    corrected = {key: float(np.median(values)) for key, values in corrected_ms(samples).items()}
    assert _worst_ratio(_naive(samples), true_ms) > 0.20
    assert _worst_ratio(corrected, true_ms) < 0.03


def test_one_operation_after_the_other_cannot_be_mended() -> None:
    true_ms, samples, _ = _two_speeds(0, in_a_row=True)
    assert _worst_ratio(_naive(samples), true_ms) > 0.20


def test_the_speed_of_the_machine_is_found_at_almost_every_sample() -> None:
    _, samples, was_slow = _two_speeds(1, in_a_row=False)
    speed = machine_speed([sample.key for sample in samples], [sample.ms for sample in samples])
    slow, fast = speed[was_slow], speed[np.logical_not(was_slow)]
    assert np.median(slow) / np.median(fast) == pytest.approx(1.8, rel=0.02)
    found_slow = speed > math.sqrt(np.median(slow) * np.median(fast))
    assert np.mean(found_slow == was_slow) > 0.95


def test_a_steady_machine_is_left_alone() -> None:
    true_ms, samples, _ = _two_speeds(2, in_a_row=False, slow=1.0)
    corrected = {key: float(np.median(values)) for key, values in corrected_ms(samples).items()}
    for key, ms in true_ms.items():
        assert corrected[key] == pytest.approx(ms, rel=0.01)


def test_two_keys_cannot_tell_a_slow_machine_from_a_slow_operation() -> None:
    samples = [1.0, 2.0] * 10 + [5.0, 10.0] * 10
    assert machine_speed(["a", "b"] * 20, samples).tolist() == [1.0] * 40


def test_samples_are_corrected_in_the_order_of_time_however_they_are_given() -> None:
    _, samples, _ = _two_speeds(3, in_a_row=False)
    shuffled = [samples[index] for index in np.random.default_rng(0).permutation(len(samples))]
    one, other = corrected_ms(samples), corrected_ms(shuffled)
    assert {key: values.tolist() for key, values in one.items()} == {
        key: values.tolist() for key, values in other.items()
    }


def test_drifted_samples_are_left_out_where_enough_stay() -> None:
    good = [Sample("a", 1.0, 1, tick) for tick in range(6)]
    bad = [Sample("a", 9.0, 1, 6 + tick, drifted=True) for tick in range(6)]
    assert corrected_ms(good + bad)["a"].tolist() == [1.0] * 6
    assert len(corrected_ms(good[:5] + bad)["a"]) == 11


# --- statistics -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(8))
def test_a_handful_of_samples_tells_nothing_about_the_median(count: int) -> None:
    assert half_width([1.0] * count) == math.inf


def test_equal_samples_leave_no_doubt() -> None:
    assert half_width([3.0] * 20) == 0.0


def test_the_half_width_is_a_share_of_the_median() -> None:
    samples = np.random.default_rng(0).lognormal(0, 0.1, 30)
    assert half_width(samples * 1000) == pytest.approx(half_width(samples))


@pytest.mark.parametrize("count", [12, 20, 60])
def test_the_interval_of_the_median_covers_it_19_times_in_20(count: int) -> None:
    rng = np.random.default_rng(count)
    trials = rng.lognormal(0, 0.1, (2000, count))
    covered = [abs(np.median(samples) - 1) <= half_width(samples) * np.median(samples) for samples in trials]
    assert 0.93 < np.mean(covered) < 0.995


def test_the_interval_shrinks_with_the_root_of_the_number_of_samples() -> None:
    rng = np.random.default_rng(0)
    few, many = (np.mean([half_width(rng.lognormal(0, 0.1, count)) for _ in range(300)]) for count in (25, 100))
    assert few / many == pytest.approx(2.0, rel=0.2)


def test_odd_and_even_samples_are_two_campaigns() -> None:
    assert odd_even_ms([1.0, 10.0, 2.0, 20.0, 3.0, 30.0]) == (20.0, 2.0)


@pytest.mark.parametrize(("percent", "confidence"), [(50, 0.95), (90, 0.95), (90, 0.8)])
def test_a_percentile_is_below_its_upper_bound_as_often_as_is_said(percent: float, confidence: float) -> None:
    rng = np.random.default_rng(0)
    true = float(np.quantile(np.exp(rng.normal(size=200_000)), percent / 100))
    held = [upper_bound_ms(np.exp(rng.normal(size=60)), percent, confidence) >= true for _ in range(2000)]
    assert confidence - 0.02 <= np.mean(held) <= confidence + 0.09  # ranks are whole numbers


def test_too_few_samples_bound_nothing() -> None:
    needed = samples_needed(90, 0.95)
    assert needed == 29
    samples = np.arange(1.0, needed + 1)
    assert upper_bound_ms(samples, 90, 0.95) == needed
    assert upper_bound_ms(samples[1:], 90, 0.95) == math.inf


def test_thousands_of_samples_bound_a_percentile_closely() -> None:
    assert upper_bound_ms(np.arange(1.0, 5001), 90, 0.95) == pytest.approx(4500, rel=0.01)
