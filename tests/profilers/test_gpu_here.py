"""On a real GPU, where there is one: ``make test-gpu``."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from profilers import testing
from profilers.agent.engine import random_input
from profilers.devices.gpu import GpuProfiler
from profilers.opspec import OpSpec
from profilers.profiler import Profiler
from profilers.testing import QUICK, SMALL, convolution
from profilers.timing import TimingRule
from profilers.workload import Workload

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU: torch.cuda.is_available() is False"),
]
DEVICE = "gpu?shared=1"  # whoever else is on it: nothing here asks for exact times
LARGE = convolution(1024)
"""Of 19 GFLOP: a GPU does what is large for a CPU in the time of a launch."""


class GpuContract(testing.ProfilerContract):
    def test_more_work_takes_longer(self, profiler: Profiler) -> None:
        with profiler:
            found = profiler.measure_all([SMALL, LARGE], QUICK)
        assert found[LARGE.key].median_ms > 2 * found[SMALL.key].median_ms


class TestTorchEvents(GpuContract):
    @pytest.fixture
    def profiler(self) -> GpuProfiler:
        return GpuProfiler(DEVICE, "torch+events")


class TestTorchGraph(GpuContract):
    @pytest.fixture
    def profiler(self) -> GpuProfiler:
        return GpuProfiler(DEVICE, "torch+graph")


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU6(),
        nn.Conv2d(16, 16, 5, padding=2, groups=16),
        nn.Conv2d(16, 64, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    ).eval()


SHAPE = (4, 3, 32, 32)


@pytest.fixture(scope="module")
def opened() -> Iterator[GpuProfiler]:
    with GpuProfiler(DEVICE, "torch") as profiler:
        yield profiler


@pytest.mark.parametrize(
    ("precision", "error"), [("float32", 1e-5), ("tf32", 1e-2), ("float16", 1e-2), ("bfloat16", 5e-2)]
)
def test_what_is_timed_computes_what_the_cpu_computes(opened: GpuProfiler, precision: str, error: float) -> None:
    (key,) = opened.load([Workload(OpSpec("network", {}, SHAPE, precision), _network)], QUICK)
    x = random_input(SHAPE)
    with torch.inference_mode():
        expected = _network()(torch.from_numpy(x)).numpy()
    assert np.abs(opened.run(key, x) - expected).max() / np.abs(expected).max() < error


def test_a_tiny_convolution_is_launch_bound_and_a_large_one_is_not(opened: GpuProfiler) -> None:
    for _ in opened.load([SMALL, LARGE], QUICK):
        pass
    small, large = opened.details(SMALL.key), opened.details(LARGE.key)
    assert (small["launch_bound"], small["clock"]) == (True, "cuda-graph") and "graph" not in small
    assert (large["launch_bound"], large["clock"]) == (False, "cuda-events")
    weights_bytes = sum(each.numel() for each in LARGE.build().parameters()) * 4
    assert weights_bytes < large["peak_memory_bytes"] < 20 * weights_bytes


def test_a_graph_leaves_launching_out_and_both_clocks_agree_on_what_is_not_launch_bound() -> None:
    times = {}
    for clock in ("events", "graph"):
        with GpuProfiler(DEVICE, f"torch+{clock}") as profiler:
            times[clock] = profiler.measure_all([SMALL, LARGE], TimingRule(min_rounds=10, max_rounds=10))
    small, large = ([times[clock][key].median_ms for clock in ("events", "graph")] for key in (SMALL.key, LARGE.key))
    assert small[1] < small[0] / 2
    assert large[1] == pytest.approx(large[0], rel=0.1)


def test_everything_is_given_back_and_can_be_captured_again(opened: GpuProfiler) -> None:
    for _ in range(3):
        for _ in opened.load([SMALL], QUICK):
            pass
        assert opened.details(SMALL.key)["clock"] == "cuda-graph"
        opened.unload([SMALL.key])


def test_the_record_and_the_meter_are_of_the_gpu_that_is_timed(opened: GpuProfiler) -> None:
    pytest.importorskip("pynvml")
    gpu = opened.environment()["gpu"]
    assert gpu["missing"] is None and gpu["driver"] and gpu["sm_max_mhz"] > 0
    assert gpu["name"] == torch.cuda.get_device_name(0) == opened.fingerprint()["name"]
    for _ in opened.load([LARGE], QUICK):
        pass
    with opened.meter() as meter:
        time.sleep(1)
        idle_w = opened.idle_power_w(meter, 1.0)
        reading = opened.energy(LARGE.key, meter, seconds=2.0, idle_w=idle_w)
    assert 0 < idle_w < gpu["power_limit_w"] * 1.1
    assert reading.energy_mj > 0 and reading.calls > 100
