"""What every profiler does the same: it is opened once, warms the device up, loads late and once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import pytest

from profilers import testing
from profilers.devices.simulated import SimulatedProfiler
from profilers.profiler import SENTINEL, Profiler, measurements
from profilers.testing import LARGE, QUICK, SMALL, convolution
from profilers.timing import Sample
from profilers.workload import Workload


@final
class Recorder(Profiler):
    """A device on which everything takes one millisecond, and which notes what is asked of it."""

    device, runtime, threads = "recorder", "none", 1

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def _open(self) -> None:
        self.events.append("open")

    def _close(self) -> None:
        self.events.append("close")

    def _begin(self, label: str) -> None:
        self.events.append(f"begin {label}")

    def _load(self, workload: Workload) -> None:
        self.events.append(f"load {workload.key}")

    def _unload(self, key: str) -> None:
        self.events.append(f"unload {key}")

    def _time_s(self, key: str, calls: int) -> float:
        self.events.append(f"time {key}")
        return calls / 1e3

    def fingerprint(self) -> dict[str, str | int]:
        return {"kind": "recorder", "name": "recorder"}

    def environment(self) -> dict[str, Any]:
        return {}


def test_a_profiler_is_opened_once_and_closed_whatever_happens() -> None:
    profiler = Recorder()
    with pytest.raises(KeyboardInterrupt), profiler:  # noqa: PT012 - what happens inside is the point
        profiler.__enter__()
        raise KeyboardInterrupt
    assert profiler.events == ["open", "close"]


def test_a_workload_is_loaded_when_it_is_asked_for_and_only_once() -> None:
    with Recorder() as profiler:
        keys = profiler.load([SMALL, LARGE], QUICK)
        assert next(keys) == SMALL.key
        assert f"load {LARGE.key}" not in profiler.events
        assert list(keys) == [LARGE.key]
        profiler.measure_all([SMALL, LARGE], QUICK)
    loads = Counter(event for event in profiler.events if event.startswith("load"))
    assert loads == {f"load {workload.key}": 1 for workload in (SMALL, LARGE, SENTINEL)}


def test_what_was_unloaded_is_loaded_again_when_it_is_asked_for() -> None:
    with Recorder() as profiler:
        list(profiler.load([SMALL, LARGE], QUICK))
        profiler.unload([SMALL.key, "never loaded"])
        assert profiler.events[-1] == f"unload {SMALL.key}"
        list(profiler.load([SMALL, LARGE], QUICK))
    assert profiler.events.count(f"load {SMALL.key}") == 2
    assert profiler.events.count(f"load {LARGE.key}") == 1


def test_a_file_is_loaded_in_place_of_the_workload_and_timed_under_its_key() -> None:
    with Recorder() as profiler:
        profiler.load_artifact(SMALL, Path("network.onnx"), QUICK)
        list(profiler.load([SMALL], QUICK))
        assert profiler.events.count(f"load {SMALL.key}") == 1
        assert profiler.measure(SMALL, QUICK).median_ms == pytest.approx(1.0)


def test_a_closed_profiler_loads_no_file() -> None:
    with pytest.raises(ValueError, match="not open"):
        Recorder().load_artifact(SMALL, Path("network.onnx"), QUICK)


def test_closing_forgets_what_was_loaded() -> None:
    profiler = Recorder()
    for _ in range(2):
        with profiler:
            profiler.measure(SMALL, QUICK)
    assert profiler.events.count(f"load {SMALL.key}") == 2


def test_the_device_is_kept_busy_before_the_first_sample() -> None:
    with Recorder() as profiler:
        keys = list(profiler.load([SMALL], QUICK))
        samples = profiler.sample(keys, replace(QUICK, warmup_s=0.1), label="morning")
        next(samples)
    after = profiler.events[profiler.events.index("begin morning") + 1 :]
    assert after.index(f"time {SMALL.key}") >= 100


def test_the_sentinel_is_timed_beside_what_was_asked_for() -> None:
    with Recorder() as profiler:
        assert set(profiler.measure_all([SMALL, LARGE], QUICK)) == {SMALL.key, LARGE.key, SENTINEL.key}


def test_what_was_not_loaded_cannot_be_sampled() -> None:
    with Recorder() as profiler, pytest.raises(KeyError):
        next(profiler.sample([SMALL.key], QUICK))


def test_a_measurement_keeps_all_samples_as_clocked_and_corrects_those_that_count() -> None:
    keys = ["a", "b", "c"]
    samples = [Sample(keys[tick % 3], 1.0 + tick % 3, 5, tick, drifted=tick < 3) for tick in range(30)]
    found = measurements(samples)
    assert set(found) == set(keys)
    assert found["b"].samples_ms == (2.0,) * 10
    assert found["b"].corrected_ms == (2.0,) * 9
    assert (found["b"].key, found["b"].calls) == ("b", 5)


@pytest.mark.parametrize("workloads", [[SMALL], [SMALL, LARGE, convolution(16)]])
def test_one_rule_is_there_without_asking(workloads: list[Workload]) -> None:
    with SimulatedProfiler("gpu", 1) as profiler:
        found = profiler.measure_all(workloads)
    assert all(len(found[workload.key].samples_ms) >= 20 for workload in workloads)


# --- the contract that is shipped for others bites ----------------------------------------------------------------


def test_the_contract_notices_a_device_that_takes_the_same_for_any_work() -> None:
    with pytest.raises(AssertionError):
        testing.ProfilerContract().test_more_work_takes_longer(Recorder())


def test_the_contract_notices_a_device_that_does_not_say_what_it_is() -> None:
    with pytest.raises(AssertionError):
        testing.ProfilerContract().test_the_device_says_what_it_is(Recorder())


def test_the_contract_notices_a_profiler_that_measures_without_being_open() -> None:
    with Recorder() as profiler, pytest.raises(pytest.fail.Exception):
        testing.ProfilerContract().test_a_closed_profiler_refuses_to_measure(profiler)
