"""Two tables compared: by what factor the machine as a whole differs, and which rows moved beyond it and beyond noise.

Every ratio comes with an interval. That of a median is taken from order statistics (exact, no distribution assumed);
those of two medians and of the common factor are joined in the logarithm by MOVER (Zou and Donner 2008, "Construction
of confidence limits about effect measures: a general approach", Statistics in Medicine 27). Whether a row moved is
judged with intervals that hold for all rows at once (Bonferroni): where nothing moved, at most one comparison in
twenty names any row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np

from latency_tables.rows import MEASURED, OP
from latency_tables.table import LatencyTable
from profilers.timing import Floats

CONFIDENCE = 0.95
MIN_ROWS = 10
"""Fewer operations do not tell by how much two campaigns scatter."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times as slow the right side is, and between what that lies (0 to infinity where nothing is known)."""

    value: float
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        """Whether the interval says anything."""
        return self.low > 0 and self.high < math.inf

    @property
    def excludes_one(self) -> bool:
        """Whether the two sides differ."""
        return self.low > 1 or self.high < 1


@dataclass(frozen=True, kw_only=True)
class Change:
    """One key that both tables have.

    Attributes:
        key: Of its OpSpec.
        role: In the left table.
        left_ms, right_ms: The values of the rows, uncalibrated.
        ratio: Right to left as they are, with its own 95% interval.
        relative: The same after the common factor was divided out, with an interval for all rows at once.
        moved: Whether ``relative`` excludes 1; None where a side has too few samples or no known deviation.
    """

    key: str
    role: str
    left_ms: float
    right_ms: float
    ratio: Ratio
    relative: Ratio
    moved: bool | None


@dataclass(frozen=True, kw_only=True)
class Diff:
    """Two tables compared.

    Attributes:
        common: The median ratio of the operations with its 95% interval; None where no key is in both tables.
        scatter: Standard deviation of rows between two campaigns on one device beyond what their samples tell, as a
            share; in the intervals of ``relative``. 0 for two devices, whose operations have every right to differ.
        changes: Every key of both, in the order of the left table.
        only_left, only_right: Keys of one side.
    """

    common: Ratio | None
    scatter: float
    changes: tuple[Change, ...]
    only_left: tuple[str, ...]
    only_right: tuple[str, ...]

    def count(self, moved: bool | None) -> int:
        """Rows of which this is said."""
        return sum(change.moved is moved for change in self.changes)

    def to_json(self) -> dict[str, Any]:
        """All of it, with the name of the correction."""
        return {
            **asdict(self),
            "confidence": CONFIDENCE,
            "correction": "bonferroni",
            "moved": self.count(True),
            "not_moved": self.count(False),
            "unknown": self.count(None),
        }


@dataclass(frozen=True)
class _Log:
    """A logarithm of milliseconds or of a ratio, and how far down and up its interval reaches."""

    value: float
    down: float
    up: float

    def minus(self, other: _Log) -> _Log:
        """The difference of two independent ones (MOVER)."""
        return _Log(self.value - other.value, math.hypot(self.down, other.up), math.hypot(self.up, other.down))

    def times(self, factor: float) -> _Log:
        """The same with an interval that many times as wide."""
        return _Log(self.value, self.down * factor, self.up * factor)

    @property
    def ratio(self) -> Ratio:
        """Without the logarithm."""
        return Ratio(value=_exp(self.value), low=_exp(self.value - self.down), high=_exp(self.value + self.up))


def diff(left: LatencyTable, right: LatencyTable) -> Diff:
    """Compares what two tables have in common; they may be of different devices.

    The common factor is the median over operations, not over anchors: one operation that changed moves every network
    that holds it, and is one operation among many here.
    """
    keys, right_keys = _keys(left), _keys(right)
    both = [key for key in keys if key in right_keys]
    only_left = tuple(key for key in keys if key not in right_keys)
    only_right = tuple(key for key in right_keys if key not in keys)
    if not both:
        return Diff(common=None, scatter=0.0, changes=(), only_left=only_left, only_right=only_right)
    operations = [key for key in both if keys[key] == OP] or both
    single = {key: _log_ms(right, key, CONFIDENCE).minus(_log_ms(left, key, CONFIDENCE)) for key in both}
    common = _middle([single[key] for key in operations])
    scatter = _scatter([single[key] for key in operations], common) if _is_one_device(left, right) else 0.0
    level = 1 - (1 - CONFIDENCE) / len(both)
    reach = _normal(level) / _normal(CONFIDENCE)
    between = _Log(0.0, _normal(level) * scatter, _normal(level) * scatter)
    changes = []
    for key in both:
        joint = _log_ms(right, key, level).minus(_log_ms(left, key, level))
        relative = joint.minus(between).minus(common.times(reach)).ratio
        changes.append(
            Change(
                key=key,
                role=keys[key],
                left_ms=left.latency_ms(key),
                right_ms=right.latency_ms(key),
                ratio=single[key].ratio,
                relative=relative,
                moved=relative.excludes_one if relative.is_known else None,
            )
        )
    return Diff(
        common=common.ratio, scatter=scatter, changes=tuple(changes), only_left=only_left, only_right=only_right
    )


def _keys(table: LatencyTable) -> dict[str, str]:
    """Every key that has a value, with its role."""
    measured = {key: table.rows[key].role for key in table.measurements}
    return measured | {key: OP for key in table.values if key not in measured}


def _is_one_device(left: LatencyTable, right: LatencyTable) -> bool:
    return all(left.header[name] == right.header[name] for name in ("fingerprint", "runtime", "threads"))


def _log_ms(table: LatencyTable, key: str, confidence: float) -> _Log:
    """The value of a row; an infinite reach where nothing is known of its deviation."""
    if table.origin(key) == MEASURED:
        return _median(np.log(table.measurements[key].corrected_ms), confidence)
    value = table.values[key]
    reach = math.inf if math.isnan(value.sd_ms) else _normal(confidence) * value.sd_ms / value.ms
    return _Log(math.log(value.ms), reach, reach)


def _median(values: Floats, confidence: float) -> _Log:
    ordered, rank = np.sort(values), _rank(len(values), confidence)
    middle = float(np.median(ordered))
    if rank is None:
        return _Log(middle, math.inf, math.inf)
    return _Log(middle, middle - float(ordered[rank]), float(ordered[-1 - rank]) - middle)


@cache
def _rank(n: int, confidence: float) -> int | None:
    """From both ends, the sample (counted from 0) between which and its mirror image the median lies.

    The r smallest of n are all above the median with probability ``P(Binomial(n, 1/2) < r)``. None where not even the
    smallest and the largest sample are far enough apart.
    """
    from scipy.special import bdtr  # the distribution function of the binomial

    rank = int(np.searchsorted(bdtr(np.arange(n), n, 0.5), (1 - confidence) / 2, side="right")) - 1
    return rank if rank >= 0 else None


def _middle(logs: Sequence[_Log]) -> _Log:
    """The median ratio; its interval is distribution-free where there are enough rows, or that of the middle rows."""
    found = _median(np.array([log.value for log in logs]), CONFIDENCE)
    if math.isfinite(found.up):
        return found
    ordered = sorted(logs, key=lambda log: log.value)
    middle = ordered[(len(logs) - 1) // 2 : len(logs) // 2 + 1]
    low, high = min(log.value - log.down for log in middle), max(log.value + log.up for log in middle)
    return _Log(found.value, found.value - low, high - found.value)


def _scatter(logs: Sequence[_Log], common: _Log) -> float:
    """What to add to each row's own deviation, in squares, so that half of the rows are within their quartiles.

    Paule and Mandel 1982, "Consensus values and weighting factors" (J. Res. NBS 87), with the median in place of the
    sum of squares: rows that moved are outliers then. Assumes that most rows did not. What differs from one campaign to
    the next (where memory lies, what else runs) is in no campaign's samples.
    """
    known = [log for log in logs if math.isfinite(log.down + log.up)]
    if len(known) < MIN_ROWS:
        return 0.0
    left = np.array([log.value - common.value for log in known])
    own = np.array([(log.down + log.up) / 2 / _normal(CONFIDENCE) for log in known])
    quartile = NormalDist().inv_cdf(0.75)

    return math.sqrt(max(float(np.median((left / quartile) ** 2 - own**2)), 0.0))


def _exp(log: float) -> float:
    return math.exp(log) if log < 709 else math.inf  # math.exp raises where a float ends


def _normal(confidence: float) -> float:
    """How many standard deviations to each side hold that share of a normal distribution."""
    return NormalDist().inv_cdf((1 + confidence) / 2)
