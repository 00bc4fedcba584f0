"""Measurement: what was timed, with everything that is needed to judge it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from profilers.timing import half_width, odd_even_ms

MIN_SAMPLES = 4
UNSTABLE = 0.05
"""Disagreement of odd and even samples above which a row is called unstable.

Not the spread within a run: where the machine has two speeds, a quiet run can be 50% wrong and a spread one right.
"""


@final
@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The time of one workload on one device.

    Attributes:
        key: What ran.
        samples_ms: Wall time of one call, as the clock said, one per block.
        corrected_ms: The same, each divided by the machine's speed at its moment (see ``profilers.timing``).
        calls: Calls that were averaged into each sample.
    """

    key: str
    samples_ms: tuple[float, ...]
    corrected_ms: tuple[float, ...]
    calls: int

    def __post_init__(self) -> None:
        if len(self.corrected_ms) < MIN_SAMPLES:
            raise ValueError(f"{self.key}: {len(self.corrected_ms)} samples, at least {MIN_SAMPLES} are needed")
        if bad := [ms for ms in (*self.samples_ms, *self.corrected_ms) if not ms > 0]:  # `not >` also catches NaN
            raise ValueError(f"{self.key}: times must be positive milliseconds, got {bad[:3]}")

    @property
    def median_ms(self) -> float:
        """The value of the row: median at the machine's median speed."""
        return float(np.percentile(self.corrected_ms, 50))

    @property
    def raw_ms(self) -> float:
        """Median of what the clock said."""
        return float(np.median(self.samples_ms))

    def raw_percentile_ms(self, percent: float) -> float:
        """A percentile of what the clock said: what a user of the device sees, its slow moments included."""
        return float(np.percentile(self.samples_ms, percent))

    @property
    def spread(self) -> float:
        """Interquartile range over median of what the clock said."""
        low, high = np.percentile(self.samples_ms, [25, 75])
        return float((high - low) / self.raw_ms)

    @property
    def half_width(self) -> float:
        """Half the 95% interval of the median, as a share of it."""
        return half_width(self.corrected_ms)

    @property
    def deviation(self) -> float:
        """Standard error of the median, as a share of it; of too few for an interval, as if normal."""
        if math.isfinite(half := self.half_width):
            return half / 1.96
        spread = float(np.std(self.corrected_ms, ddof=1)) / self.median_ms
        return spread * math.sqrt(math.pi / 2 / len(self.corrected_ms))

    @property
    def disagreement(self) -> float:
        """Relative difference of the medians of odd and even samples."""
        odd, even = odd_even_ms(self.corrected_ms)
        return abs(odd - even) / self.median_ms

    @property
    def flags(self) -> tuple[str, ...]:
        """``unstable`` where odd and even samples disagree; empty where all is well."""
        return ("unstable",) if self.disagreement > UNSTABLE else ()
