"""A simulated device gives the same numbers every time, and has every difficulty of a real one as an option."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from profilers.devices.simulated import BUILTIN, RANGES, SimulatedDevice, SimulatedProfiler, find_simulated
from profilers.errors import DeviceLostError, UnknownNameError
from profilers.opspec import OpSpec
from profilers.profiler import SENTINEL
from profilers.testing import LARGE, QUICK, SMALL, convolution
from profilers.timing import Sample
from profilers.workload import Workload

MIDDLE = convolution(32)
NETWORK = Workload(OpSpec("network", {"name": "n"}, SMALL.op.shape), SMALL.build, (SMALL, MIDDLE, MIDDLE))
LONG = replace(QUICK, min_rounds=60, max_rounds=60)


def _samples(name: str, *workloads: Workload, label: str = "session 0", rule: object = QUICK) -> list[Sample]:
    assert rule is QUICK or rule is LONG
    chosen = LONG if rule is LONG else QUICK
    with SimulatedProfiler(name, 1) as profiler:
        return list(profiler.sample(list(profiler.load(workloads, chosen)), chosen, label=label))


def _ms(samples: list[Sample], key: str) -> list[float]:
    return [sample.ms for sample in samples if sample.key == key]


def test_the_same_session_gives_the_same_samples() -> None:
    assert _samples("phone", SMALL, LARGE) == _samples("phone", SMALL, LARGE)


def test_another_session_and_another_seed_give_other_samples() -> None:
    samples = _ms(_samples("phone", SMALL), SMALL.key)
    assert samples != _ms(_samples("phone", SMALL, label="session 1"), SMALL.key)
    assert samples != _ms(_samples("phone?seed=1", SMALL), SMALL.key)


def test_a_sample_does_not_depend_on_what_was_measured_before_or_beside_it() -> None:
    alone = _ms(_samples("phone", SMALL), SMALL.key)
    assert _ms(_samples("phone", LARGE, MIDDLE, SMALL), SMALL.key) == alone
    with SimulatedProfiler("phone", 1) as profiler:
        profiler.measure_all([LARGE, SMALL], QUICK, label="something else")
        again = list(profiler.sample([SMALL.key], QUICK, label="session 0"))
    assert _ms(again, SMALL.key) == alone


def test_a_sample_does_not_depend_on_the_session_after_which_it_was_loaded() -> None:
    workload = convolution(20)  # of which three or four calls are a block, as chance would have it
    alone = _ms(_samples("phone", workload), workload.key)
    for number in range(50):
        with SimulatedProfiler("phone", 1) as profiler:
            profiler.measure_all([SMALL], QUICK, label=f"before {number}")
            again = list(profiler.sample(list(profiler.load([workload], QUICK)), QUICK, label="session 0"))
        assert _ms(again, workload.key) == alone  # to the last digit


def test_a_median_is_near_the_true_latency() -> None:
    with SimulatedProfiler("phone", 1) as profiler:
        found = profiler.measure_all([SMALL, MIDDLE, LARGE], LONG)
        for workload in (SMALL, MIDDLE, LARGE):
            assert found[workload.key].median_ms == pytest.approx(profiler.model.latency_ms(workload), rel=0.01)


def test_an_operation_takes_what_its_arithmetic_or_its_memory_takes_whichever_is_longer() -> None:
    model = replace(BUILTIN["phone"], overhead_ms=0.5, isolation_ms=0.25)
    free = replace(model, macs_per_ms=float("inf"), bytes_per_ms=float("inf"))
    assert free.latency_ms(LARGE) == 0.75
    by_arithmetic = replace(model, macs_per_ms=1e6, bytes_per_ms=1e12).latency_ms(LARGE) - 0.75
    by_memory = replace(model, macs_per_ms=1e12, bytes_per_ms=1e5).latency_ms(LARGE) - 0.75
    assert 0.75 <= by_arithmetic / (LARGE.cost.macs / 1e6) < 1.25
    assert 0.75 <= by_memory / (LARGE.cost.moved_bytes / 1e5) < 1.25
    both = replace(model, macs_per_ms=1e6, bytes_per_ms=1e5).latency_ms(LARGE) - 0.75
    assert both == pytest.approx(max(by_arithmetic, by_memory))


def test_a_network_is_the_sum_of_its_parts_less_what_isolation_costs_and_fusion_saves() -> None:
    model = replace(BUILTIN["phone"], isolation_ms=0.25, fusion=0.1)
    parts = [model.latency_ms(part) for part in NETWORK.parts]
    assert model.latency_ms(NETWORK) == pytest.approx((sum(parts) - 3 * 0.25) * 0.9 + 0.25)
    assert replace(model, fusion=0.0, isolation_ms=0.0).latency_ms(NETWORK) == pytest.approx(sum(parts) - 3 * 0.25)


def test_options_are_read_from_the_name() -> None:
    model = find_simulated("phone?noise=0.05&two_speed=1.8&drop_after=500&seed=3")
    assert model == replace(BUILTIN["phone"], noise=0.05, two_speed=1.8, drop_after=500, seed=3)
    assert find_simulated("gpu") == BUILTIN["gpu"]


def test_a_device_with_options_is_the_same_device_and_records_them() -> None:
    profiler = SimulatedProfiler("phone?noise=0.05", 1)
    assert profiler.fingerprint() == SimulatedProfiler("phone", 1).fingerprint()
    assert profiler.fingerprint() != SimulatedProfiler("gpu", 1).fingerprint()
    assert json.loads(json.dumps(profiler.environment()))["model"]["noise"] == 0.05


def test_an_unknown_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_simulated("phone?noize=0.05")
    assert "'noize'" in caught.value.what
    assert caught.value.mend == "did you mean 'noise'?"


def test_an_option_that_is_no_number_is_refused_with_its_value() -> None:
    with pytest.raises(UnknownNameError, match="noise='much' is not a number") as caught:
        find_simulated("phone?noise=much")
    assert caught.value.mend == "write noise=NUMBER"


def test_an_option_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="noise is given twice"):
        find_simulated("phone?noise=0.05&noise=0")


@pytest.mark.parametrize(
    "option", ["period_s=0", "macs_per_ms=0", "noise=nan", "noise=1e9", "two_speed=inf", "outliers=-1", "fusion=1"]
)
def test_a_number_no_device_can_have_is_refused(option: str) -> None:
    with pytest.raises(UnknownNameError, match="is out of range"):
        find_simulated(f"phone?{option}")


def test_an_unknown_device_is_answered_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="'fridge'") as caught:
        SimulatedProfiler("fridge?noise=0.1", 1)
    assert caught.value.mend == f"choose one of {', '.join(BUILTIN)}"


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
def test_noise_is_the_spread_of_the_logarithm_of_a_sample(noise: float) -> None:
    samples = _ms(_samples(f"phone?noise={noise}", SMALL, rule=LONG), SMALL.key)
    assert np.std(np.log(samples)) == pytest.approx(noise, rel=0.3, abs=1e-12)


def test_two_speeds_are_that_factor_apart() -> None:
    samples = _ms(_samples("phone?noise=0&two_speed=1.8&period_s=0.01", SMALL, LARGE, rule=LONG), SMALL.key)
    assert {round(ms / min(samples), 9) for ms in samples} == {1.0, 1.8}


def test_drift_slows_the_device_down_with_its_own_time() -> None:
    samples = _samples("phone?noise=0&drift_per_s=0.1", LARGE, rule=LONG)
    times = _ms(samples, LARGE.key)
    assert times == sorted(times)
    spent_s = sum(sample.ms * sample.calls for sample in samples) / 1e3
    assert times[-1] / times[0] == pytest.approx(1 + 0.1 * spent_s, rel=0.02)


def test_outliers_take_ten_times_as_long() -> None:
    times = np.array(_ms(_samples("phone?noise=0&outliers=0.2", SMALL, rule=LONG), SMALL.key))
    factors = times / times.min()
    assert set(np.round(factors, 9)) == {1.0, 10.0}
    assert 0.05 < np.mean(factors > 5) < 0.4


def test_a_connection_is_lost_after_the_given_number_of_timings_and_can_be_had_again() -> None:
    profiler = SimulatedProfiler("phone?drop_after=40", 1)
    for _ in range(2):
        timings = 0
        with profiler, pytest.raises(DeviceLostError) as caught:  # noqa: PT012 - it is lost at some point
            list(profiler.load([SENTINEL], QUICK))
            while True:
                profiler._time_s(SENTINEL.key, 1)
                timings += 1
        assert 0 < timings < 40
        assert "dropped the connection after 40 timings" in caught.value.what
        assert "run the same command again" in caught.value.mend


def test_limits_hold_for_the_time_of_the_device() -> None:
    rule = replace(LONG, max_time_s=0.05)
    with SimulatedProfiler("phone", 1) as profiler:
        samples = list(profiler.sample(list(profiler.load([LARGE], rule)), rule))
    assert 0 < len(_ms(samples, LARGE.key)) < 10


def test_every_option_has_a_range_that_the_built_in_devices_keep() -> None:
    assert RANGES.keys() == {field.name for field in fields(SimulatedDevice)}
    for model in BUILTIN.values():
        assert all(low <= getattr(model, name) <= high for name, (low, high) in RANGES.items())
