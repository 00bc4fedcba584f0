"""The contract of every profiler, as tests: subclass ``ProfilerContract``, give one fixture.

::

    class TestMyDevice(ProfilerContract):
        @pytest.fixture
        def profiler(self):
            return MyProfiler()
"""

from __future__ import annotations

from typing import Any

import pytest

from profilers.opspec import OpSpec
from profilers.profiler import Profiler
from profilers.timing import TimingRule
from profilers.workload import Workload

QUICK = TimingRule(min_block_s=0.001, warmup_s=0.01, warmup_calls=2, min_rounds=8, max_rounds=8, min_time_s=0)


def convolution(channels: int) -> Workload:
    """A 3x3 convolution; work grows with the square of the channels."""

    def build() -> Any:
        from torch import nn

        return nn.Conv2d(channels, channels, 3, padding=1)

    return Workload(OpSpec("conv", {"kernel": 3, "out": channels, "stride": 1}, (1, channels, 32, 32)), build)


SMALL, LARGE = convolution(8), convolution(96)


class ProfilerContract:
    """What every profiler promises, built-in or yours."""

    @pytest.fixture
    def profiler(self) -> Profiler:
        """The profiler under test, not yet open."""
        pytest.fail("give the profiler under test as a fixture called `profiler`")

    def test_more_work_takes_longer(self, profiler: Profiler) -> None:
        with profiler:
            found = profiler.measure_all([SMALL, LARGE], QUICK)
        assert found[LARGE.key].median_ms > 2 * found[SMALL.key].median_ms

    def test_can_be_opened_again_after_closing(self, profiler: Profiler) -> None:
        for _ in range(2):
            with profiler:
                assert profiler.measure(SMALL, QUICK).median_ms > 0

    def test_a_closed_profiler_refuses_to_measure(self, profiler: Profiler) -> None:
        with pytest.raises(ValueError, match="not open"):
            profiler.measure(SMALL, QUICK)

    def test_every_key_gets_its_samples_and_ticks_run_on(self, profiler: Profiler) -> None:
        with profiler:
            keys = list(profiler.load([SMALL, LARGE], QUICK))
            samples = list(profiler.sample(keys, QUICK))
        assert [sample.tick for sample in samples] == list(range(len(samples)))
        for key in keys:
            assert sum(sample.key == key and not sample.drifted for sample in samples) == QUICK.min_rounds

    def test_samples_from_before_are_not_taken_again(self, profiler: Profiler) -> None:
        with profiler:
            keys = list(profiler.load([SMALL, LARGE], QUICK))
            samples = list(profiler.sample(keys, QUICK, have={SMALL.key: QUICK.max_rounds}))
        assert SMALL.key not in {sample.key for sample in samples}

    def test_the_device_says_what_it_is(self, profiler: Profiler) -> None:
        with profiler:
            assert profiler.fingerprint() == profiler.fingerprint()
            assert {"kind", "name"} <= profiler.fingerprint().keys()
            assert profiler.environment()
