"""Calibration: whole networks against the sums of their rows.

``predicted = scale * sum(rows) + per_op * operations + intercept``. The second term is what an operation alone
costs more than inside a network (the call, changes of memory layout): negligible for large images, a third of the
latency for 8 pixels. A term is taken only where it helps on networks that it was not fitted to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from profilers.timing import Floats

MODELS = {"scale": (0,), "scale+per_op": (0, 1), "scale+intercept": (0, 2)}
GAIN = 0.9
"""A further term has to bring the held-out error below this share of what it was."""
MIN_NETWORKS = 4


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Whole networks: what was measured, and what their rows say.

    Attributes:
        sums_ms: Sum of the rows of each network.
        operations: Number of rows in each sum.
        measured_ms: Its own measurement.
        odd_ms, even_ms: The same from the odd and the even samples alone.
    """

    sums_ms: Floats
    operations: Floats
    measured_ms: Floats
    odd_ms: Floats
    even_ms: Floats

    @property
    def design(self) -> Floats:
        """``(networks, 3)``: sum, operations, one."""
        return np.stack([self.sums_ms, self.operations, np.ones_like(self.sums_ms)], axis=1)

    @property
    def noise_floor(self) -> float:
        """Mean difference in percent of the odd and the even samples, one common factor removed."""
        ratio = self.odd_ms / self.even_ms
        return float(np.mean(np.abs(ratio / np.median(ratio) - 1)) * 100)


@dataclass(frozen=True, kw_only=True)
class Errors:
    """How far predictions were off, on networks that were not fitted; in percent.

    Attributes:
        networks: How many.
        mape: Mean absolute error.
        max_error: The worst.
        within_5, within_10: Share of networks within that many percent, 0 to 100.
        bias: Mean signed error; positive when predicted too slow.
        spearman: Rank correlation.
        noise_floor: What two halves of the same measurements differ by.
    """

    networks: int
    mape: float
    max_error: float
    within_5: float
    within_10: float
    bias: float
    spearman: float
    noise_floor: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """From sums of rows to the latency of networks.

    Attributes:
        model: Which terms were taken.
        scale, per_op_ms, intercept_ms: The terms.
        errors: On held-out networks.
        residuals: ``measured / predicted - 1`` of each held-out network; intervals come from them.
    """

    model: str = "scale"
    scale: float = 1.0
    per_op_ms: float = 0.0
    intercept_ms: float = 0.0
    errors: Errors | None = None
    residuals: tuple[float, ...] = ()

    def latency_ms(self, sum_ms: Any, operations: Any) -> Any:
        """Latency of networks from sums and numbers of rows; numbers, arrays or tensors."""
        return self.scale * sum_ms + self.per_op_ms * operations + self.intercept_ms

    def interval(self, confidence: float = 0.9) -> tuple[float, float]:
        """Factors below and above a prediction between which a new network lies (split conformal).

        Source: Lei et al. 2018, "Distribution-free predictive inference for regression". With too few residuals
        for the confidence the interval is unknown: ``(0, inf)``.
        """
        n = len(self.residuals)
        rank = math.ceil((n + 1) * confidence)
        if rank > n:
            return 0.0, math.inf
        width = sorted(abs(residual) for residual in self.residuals)[rank - 1]
        return max(0.0, 1 - width), 1 + width

    def to_record(self) -> dict[str, Any]:
        """As a line of the table's file."""
        return {"record": "calibration", **asdict(self), "residuals": list(self.residuals)}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Calibration:
        """The inverse of ``to_record``; raises ``ValueError`` or ``KeyError`` for anything else."""
        errors = record.get("errors")
        numbers = [*record["residuals"], record["scale"], record["per_op_ms"], record["intercept_ms"]]
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise ValueError(f"a number of the calibration is none: {numbers!r}")
        return cls(
            model=record["model"],
            scale=record["scale"],
            per_op_ms=record["per_op_ms"],
            intercept_ms=record["intercept_ms"],
            errors=Errors(**{name: errors[name] for name in Errors.__dataclass_fields__}) if errors else None,
            residuals=tuple(record["residuals"]),
        )


def fit(observed: Observed) -> Calibration:
    """The simplest model that no other beats on held-out networks (leave one out).

    A model with more terms is refused where it lowers the mean error by less than a tenth, or raises the worst.
    """
    best = _leave_one_out(observed, "scale")
    if len(observed.sums_ms) >= MIN_NETWORKS:
        for model in list(MODELS)[1:]:
            candidate = _leave_one_out(observed, model)
            assert best.errors is not None and candidate.errors is not None
            if candidate.errors.mape < GAIN * best.errors.mape and candidate.errors.max_error <= best.errors.max_error:
                best = candidate
    return best


def _leave_one_out(observed: Observed, model: str) -> Calibration:
    columns = list(MODELS[model])
    design = observed.design[:, columns]
    networks = len(design)
    predicted = np.empty(networks)
    for out in range(networks):
        kept = np.arange(networks) != out
        predicted[out] = design[out] @ _solve(design[kept], observed.measured_ms[kept])
    terms = dict.fromkeys(range(3), 0.0) | dict(
        zip(columns, _solve(design, observed.measured_ms).tolist(), strict=True)
    )
    return Calibration(
        model=model,
        scale=terms[0],
        per_op_ms=terms[1],
        intercept_ms=terms[2],
        errors=errors(predicted, observed.measured_ms, observed.noise_floor),
        residuals=tuple((observed.measured_ms / predicted - 1).tolist()),
    )


def _solve(design: Floats, measured_ms: Floats) -> Floats:
    """Least squares of relative errors, so that small networks count as much as large ones."""
    if len(design) == 0:
        return np.array([1.0] + [0.0] * (design.shape[1] - 1))
    solution, *_ = np.linalg.lstsq(design / measured_ms[:, None], np.ones(len(design)), rcond=None)
    return np.asarray(solution, np.float64)


def errors(predicted_ms: Floats, measured_ms: Floats, noise_floor: float) -> Errors:
    """Compares predictions with measurements."""
    signed = (predicted_ms / measured_ms - 1) * 100
    absolute = np.abs(signed)
    return Errors(
        networks=len(signed),
        mape=float(absolute.mean()),
        max_error=float(absolute.max()),
        within_5=float((absolute <= 5).mean() * 100),
        within_10=float((absolute <= 10).mean() * 100),
        bias=float(signed.mean()),
        spearman=spearman(predicted_ms, measured_ms),
        noise_floor=noise_floor,
    )


def spearman(left: Sequence[float] | Floats, right: Sequence[float] | Floats) -> float:
    """Rank correlation; ties share their mean rank. NaN for fewer than three pairs or where one side is constant."""
    ranks = _ranks(np.asarray(left)), _ranks(np.asarray(right))
    if len(left) < 3 or not all(np.ptp(side) for side in ranks):
        return math.nan
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: Floats) -> Floats:
    order = np.sort(values)
    edges = np.flatnonzero(np.concatenate([[True], order[1:] != order[:-1], [True]]))
    mean_rank = {order[low]: (low + high - 1) / 2 for low, high in pairwise(edges)}
    return np.array([mean_rank[value] for value in values])
