"""Every profiler we ship keeps the contract that we ship for others."""

from __future__ import annotations

import pytest

from profilers import testing
from profilers.devices.local import LocalProfiler
from profilers.devices.simulated import SimulatedProfiler


class TestSimulatedPhone(testing.ProfilerContract):
    @pytest.fixture
    def profiler(self) -> SimulatedProfiler:
        return SimulatedProfiler("phone", 1)


class TestSimulatedGpuWithTwoSpeeds(testing.ProfilerContract):
    @pytest.fixture
    def profiler(self) -> SimulatedProfiler:
        return SimulatedProfiler("phone?two_speed=1.8&period_s=0.02&outliers=0.02", 1)


@pytest.mark.timing
class TestLocalOnnxRuntime(testing.ProfilerContract):
    @pytest.fixture
    def profiler(self) -> LocalProfiler:
        return LocalProfiler("onnxruntime", 1)


@pytest.mark.slow  # every opening imports PyTorch anew
class TestLocalTorch(testing.ProfilerContract):
    @pytest.fixture
    def profiler(self) -> LocalProfiler:
        return LocalProfiler("torch", 1)


@pytest.mark.slow  # as onnxruntime, but that it takes longer to start
class TestLocalOpenVino(testing.ProfilerContract):
    @pytest.fixture
    def profiler(self) -> LocalProfiler:
        return LocalProfiler("openvino", 1)


@pytest.mark.slow
class TestLocalNcnn(testing.ProfilerContract):
    @pytest.fixture
    def profiler(self) -> LocalProfiler:
        return LocalProfiler("ncnn", 1)
