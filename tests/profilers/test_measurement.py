"""A Measurement is its samples: every number is derived from them, and none of them may be nonsense."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from profilers.measurement import MIN_SAMPLES, UNSTABLE, Measurement
from profilers.timing import half_width


def _measurement(corrected_ms: Sequence[float], samples_ms: Sequence[float] | None = None) -> Measurement:
    samples_ms = corrected_ms if samples_ms is None else samples_ms
    return Measurement(key="op", samples_ms=tuple(samples_ms), corrected_ms=tuple(corrected_ms), calls=3)


def test_the_value_is_the_median_of_the_corrected_samples() -> None:
    found = _measurement([1.0, 2.0, 3.0, 4.0, 100.0], [10.0, 20.0, 30.0, 40.0, 50.0])
    assert found.median_ms == 3.0
    assert found.raw_ms == 30.0


def test_percentiles_are_given_at_the_median_speed_and_as_clocked() -> None:
    corrected, clocked = np.arange(1.0, 102.0), np.arange(2.0, 203.0, 2.0)
    found = _measurement(corrected.tolist(), clocked.tolist())
    assert found.raw_percentile_ms(90) == pytest.approx(182.0)


def test_spread_is_the_interquartile_range_of_what_the_clock_said() -> None:
    found = _measurement([2.0] * 5, [1.0, 1.0, 2.0, 3.0, 3.0])
    assert found.spread == pytest.approx((3.0 - 1.0) / 2.0)


def test_the_half_width_is_that_of_the_corrected_samples() -> None:
    corrected = np.linspace(1.0, 1.1, 40).tolist()
    assert _measurement(corrected, [1.0] * 40).half_width == half_width(corrected)


@pytest.mark.parametrize("bad", [math.nan, 0.0, -1.0])
@pytest.mark.parametrize("where", ["samples_ms", "corrected_ms"])
def test_a_nan_never_passes_nor_a_time_that_is_not_positive(bad: float, where: str) -> None:
    good = [1.0] * MIN_SAMPLES
    with pytest.raises(ValueError, match="positive milliseconds"):
        _measurement(**{"corrected_ms": good, "samples_ms": good, where: [*good, bad]})


def test_too_few_samples_are_refused_with_their_number() -> None:
    with pytest.raises(ValueError, match=f"op: {MIN_SAMPLES - 1} samples"):
        _measurement([1.0] * (MIN_SAMPLES - 1))


def test_two_halves_that_disagree_are_flagged_unstable() -> None:
    found = _measurement([1.0, 1.0 + 2 * UNSTABLE] * 10)
    assert found.flags == ("unstable",)
    assert found.disagreement == pytest.approx(2 * UNSTABLE / found.median_ms)


def test_a_wide_spread_alone_is_not_unstable() -> None:
    found = _measurement([1.0, 1.0, 1.8, 1.8] * 10)
    assert found.spread > 0.5
    assert found.flags == ()


def test_a_machine_that_changed_its_speed_is_judged_after_correction() -> None:
    assert _measurement([1.0, 1.001] * 10, [1.0, 1.8] * 10).flags == ()
