"""Calibration: whole networks against the sums of their rows.

    x = sum over rows of (scale * factor * row + per_op + per_input * inputs + per_weight * weights) + intercept
    predicted = x + slope * max(0, x - knee)

The terms stand for what an operation alone costs more, or less, than inside a network: the call, changes of memory
layout at its borders (they grow with its input), weights that are no longer in the cache. A term is taken only where it
helps on networks that it was not fitted to. So are the factors, a Bayesian update of single rows by whole networks.
Networks that are too large for a cache take longer from there on; x stays a sum, so its distribution stays exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from profilers.timing import Floats

TERMS = ("scale", "per_op", "per_input", "per_weight", "intercept")
GAIN = 0.9
"""A further term has to bring the held-out error below this share of what it was."""
MIN_NETWORKS = 4
PRIORS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Standard deviations of a row's factor that are tried, where that of a network's relative error is ``ERROR``."""
ERROR = 0.01
KNEES, SLOPES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8), (0.1, 0.2, 0.4, 0.7, 1.0)
"""Knees that are tried, as shares of the networks that are faster, and slopes beyond them."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Whole networks: what was measured, and what their rows say.

    Shape letters: N networks, R distinct rows.

    Attributes:
        keys: ``R``, of the rows.
        rows_ms: ``(R,)``, uncalibrated.
        inputs: ``(R,)``, millions of elements in the input of each.
        weights: ``(R,)``, millions of learned numbers.
        deviations: ``(R,)``, standard deviation of each row as a share of it.
        counts: ``(N, R)``, how often each row is in each network.
        measured_ms: ``(N,)``, the networks' own measurement.
        odd_ms, even_ms: The same from the odd and the even samples alone.
    """

    keys: tuple[str, ...]
    rows_ms: Floats
    inputs: Floats
    weights: Floats
    deviations: Floats
    counts: Floats
    measured_ms: Floats
    odd_ms: Floats
    even_ms: Floats

    @property
    def sums_ms(self) -> Floats:
        """``(N,)`` sum of each network's rows."""
        return self.counts @ self.rows_ms

    @property
    def design(self) -> Floats:
        """``(N, 5)``, a column for each of ``TERMS``."""
        rows = np.stack([self.rows_ms, np.ones_like(self.rows_ms), self.inputs, self.weights], axis=1)
        return np.concatenate([self.counts @ rows, np.ones((len(self.counts), 1))], axis=1)

    @property
    def row_deviations(self) -> Floats:
        """``(N,)`` standard deviation of each sum, as a share of it; errors of rows are taken for independent."""
        return np.sqrt((self.counts**2) @ (self.rows_ms * self.deviations) ** 2) / self.sums_ms

    @property
    def noise_floor(self) -> float:
        """See ``noise_floor``."""
        return noise_floor(self.odd_ms, self.even_ms)


def noise_floor(odd_ms: Floats, even_ms: Floats) -> float:
    """Mean difference in percent of the odd and the even samples of whole networks, one common factor removed."""
    ratio = odd_ms / even_ms
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
    """From rows to the latency of networks.

    Attributes:
        model: Which terms were taken.
        scale, per_op_ms, per_input_ms, per_weight_ms, intercept_ms: The terms; the third and fourth per million.
        knee_ms, slope: From where on networks take longer, and how much longer per millisecond.
        factors: Of single rows, by key; 1 for all others.
        errors: On held-out networks.
        residuals: ``measured / predicted - 1`` of each held-out network; intervals come from them.
        row_deviations: Of each held-out network, what its rows leave open (a share of it); empty for none.
    """

    model: str = "scale"
    scale: float = 1.0
    per_op_ms: float = 0.0
    per_input_ms: float = 0.0
    per_weight_ms: float = 0.0
    intercept_ms: float = 0.0
    knee_ms: float = 0.0
    slope: float = 0.0
    factors: Mapping[str, float] = field(default_factory=dict)
    errors: Errors | None = None
    residuals: tuple[float, ...] = ()
    row_deviations: tuple[float, ...] = ()

    def price_ms(self, key: str, row_ms: float, inputs: float, weights: float) -> float:
        """What one row adds to the latency of a network; ``inputs`` and ``weights`` in millions."""
        scaled = self.scale * self.factors.get(key, 1.0) * row_ms
        return scaled + self.per_op_ms + self.per_input_ms * inputs + self.per_weight_ms * weights

    def bend(self, x_ms: Any) -> Any:
        """The latency of a network from its sum, a number, an array or a tensor; grows with it."""
        beyond = x_ms - self.knee_ms
        return x_ms + self.slope * beyond * (beyond > 0)

    def unbend(self, latency_ms: Floats) -> Floats:
        """The inverse of ``bend``."""
        beyond = np.maximum(latency_ms - self.knee_ms, 0.0)
        return latency_ms - beyond * self.slope / (1 + self.slope)

    def predict_ms(self, observed: Observed) -> Floats:
        """``(N,)`` latency of networks."""
        rows = zip(observed.keys, observed.rows_ms, observed.inputs, observed.weights, strict=True)
        prices = np.array([self.price_ms(*row) for row in rows])
        return np.asarray(self.bend(observed.counts @ prices + self.intercept_ms), np.float64)

    def rescaled(self, factor: float) -> Calibration:
        """The same calibration where all rows take this many times as long."""
        absolute = [f"{term}_ms" for term in (*TERMS[1:], "knee")]
        return replace(self, **{name: getattr(self, name) * factor for name in absolute})

    def interval(self, confidence: float = 0.9, row_deviation: float = 0.0) -> tuple[float, float]:
        """Factors below and above a prediction between which a new network lies (split conformal).

        Residuals are compared after division by what the rows of their network leave open, so that a network of
        uncertain rows gets a wider interval (Lei et al. 2018, "Distribution-free predictive inference for regression",
        section 5.2). With too few residuals for the confidence the interval is unknown: ``(0, inf)``.
        """
        width = self._quantile([abs(residual) for residual in self.residuals], confidence, row_deviation)
        return max(0.0, 1 - width), 1 + width

    def upper(self, confidence: float, row_deviation: float = 0.0) -> float:
        """The factor above a prediction that a new network does not exceed; the interval's, but of one side."""
        return 1 + self._quantile(self.residuals, confidence, row_deviation)

    def _quantile(self, scores: Sequence[float], confidence: float, row_deviation: float) -> float:
        rank = math.ceil((len(scores) + 1) * confidence)
        if rank > len(scores):
            return math.inf
        known = np.array(self.row_deviations or [0.0] * len(scores))
        # What remains when the rows are exact: never less than a tenth, so that no residual counts for too much.
        total = float(np.mean(np.square(self.residuals)))
        rest = max(total - float(np.mean(known**2)), 0.1 * total, 1e-12)
        ordered = sorted(np.array(scores) / np.sqrt(rest + known**2))
        return float(ordered[rank - 1] * math.sqrt(rest + row_deviation**2))

    def to_record(self) -> dict[str, Any]:
        """As a line of the table's file."""
        return {
            "record": "calibration",
            **asdict(self),
            "residuals": list(self.residuals),
            "row_deviations": list(self.row_deviations),
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Calibration:
        """The inverse of ``to_record``; raises ``ValueError`` or ``KeyError`` for anything else."""
        errors, factors = record.get("errors"), record.get("factors", {})
        terms = {name: record.get(name, 0.0) for name in (*(f"{term}_ms" for term in TERMS[1:]), "knee_ms", "slope")}
        terms["scale"] = record["scale"]
        lists: dict[str, Any] = {name: tuple(record.get(name, ())) for name in ("residuals", "row_deviations")}
        numbers = [*terms.values(), *factors.values(), *lists["residuals"], *lists["row_deviations"]]
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise ValueError(f"a number of the calibration is none: {numbers!r}")
        if len(lists["row_deviations"]) not in (0, len(lists["residuals"])):
            raise ValueError("residuals and row_deviations are not of the same networks")
        return cls(
            model=record["model"],
            **terms,
            **lists,
            factors=dict(factors),
            errors=Errors(**{name: errors[name] for name in Errors.__dataclass_fields__}) if errors else None,
        )


Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class _Model:
    """Which parts of the calibration are fitted.

    Attributes:
        columns: Of the design.
        knee: The knee and the slope beyond it; the terms are fitted to what the measurements would be without.
        prior: Standard deviation of the factors; None leaves the rows as they are.
    """

    columns: tuple[int, ...] = (0,)
    knee: tuple[float, float] = (0.0, 0.0)
    prior: float | None = None

    @property
    def name(self) -> str:
        further = (["knee"] if self.knee[1] else []) + (["rows"] if self.prior else [])
        return ", ".join(["+".join(TERMS[column] for column in self.columns), *further])


def fit(observed: Observed) -> Calibration:
    """The simplest model that no other beats on held-out networks (leave one out).

    One term at a time or the knee is added, then the factors of rows; each is refused where it lowers the mean error by
    less than a tenth, or raises the worst.
    """
    model = _Model()
    best = _leave_one_out(observed, model)
    if len(observed.measured_ms) < MIN_NETWORKS:
        return best
    while True:
        further = [replace(model, columns=(*model.columns, term)) for term in range(5) if term not in model.columns]
        if not model.knee[1]:
            knees = np.quantile(observed.measured_ms, KNEES)
            further += [replace(model, knee=(float(knee), slope)) for knee in knees for slope in SLOPES]
        tried = {each: _leave_one_out(observed, each) for each in further}
        candidate = min(tried, key=lambda each: _mape(tried[each]), default=model)
        if candidate == model or not _better(tried[candidate], best):
            break
        model, best = candidate, tried[candidate]
    for prior in PRIORS:
        refined = _leave_one_out(observed, replace(model, prior=prior))
        if _better(refined, best):
            best = refined
    return best


def _mape(calibration: Calibration) -> float:
    assert calibration.errors is not None  # of leave one out
    return calibration.errors.mape


def _better(candidate: Calibration, best: Calibration) -> bool:
    assert candidate.errors is not None and best.errors is not None
    return _mape(candidate) < GAIN * _mape(best) and candidate.errors.max_error <= best.errors.max_error


def _leave_one_out(observed: Observed, model: _Model) -> Calibration:
    """Fitted to all networks, with the errors of fits that each network was left out of."""
    bent = Calibration(knee_ms=model.knee[0], slope=model.knee[1])
    x_ms = bent.unbend(observed.measured_ms)
    design, shares = observed.design, observed.counts * observed.rows_ms
    everything = np.ones(len(x_ms), bool)
    predicted = np.empty(len(x_ms))
    for out in range(len(x_ms)):
        kept = everything.copy()
        kept[out] = False
        terms, factors = _solve(design, shares, x_ms, kept, model)
        predicted[out] = bent.bend(design[out] @ terms + terms[0] * shares[out] @ (factors - 1))
    terms, factors = _solve(design, shares, x_ms, everything, model)
    named: dict[str, Any] = {
        f"{name}_ms" if name != "scale" else name: float(term) for name, term in zip(TERMS, terms, strict=True)
    }
    return replace(
        bent,
        model=model.name,
        **named,
        factors={key: float(f) for key, f in zip(observed.keys, factors, strict=True) if f != 1},
        errors=errors(predicted, observed.measured_ms, observed.noise_floor),
        residuals=tuple((observed.measured_ms / predicted - 1).tolist()),
        row_deviations=tuple(observed.row_deviations.tolist()),
    )


def _solve(design: Floats, shares: Floats, x_ms: Floats, kept: Mask, model: _Model) -> tuple[Floats, Floats]:
    """The terms ``(5,)`` and the factors ``(R,)`` from the kept networks.

    Least squares of relative errors, so that small networks count as much as large ones. The factors are the mean of a
    Bayesian linear regression of what the terms leave: each is ``N(1, prior^2)`` before, a network's relative error
    ``N(0, ERROR^2)``, so after it is ``1 + Z' (Z Z' + (ERROR / prior)^2)^-1 r`` (Rasmussen and Williams 2006, equation
    2.12).
    """
    terms, factors = np.zeros(len(TERMS)), np.ones(shares.shape[1])
    terms[0] = 1.0
    if not kept.any():
        return terms, factors
    relative, columns = design[kept] / x_ms[kept, None], list(model.columns)
    terms[columns], *_ = np.linalg.lstsq(relative[:, columns], np.ones(len(relative)), rcond=None)
    if model.prior:
        z = terms[0] * shares[kept] / x_ms[kept, None]
        gram = z @ z.T + (ERROR / model.prior) ** 2 * np.eye(len(z))
        factors += z.T @ np.linalg.solve(gram, 1 - relative @ terms)
    return terms, factors


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
