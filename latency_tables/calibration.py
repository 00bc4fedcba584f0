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
from itertools import combinations, product
from typing import Any

import numpy as np
import numpy.typing as npt

from profilers.timing import Floats

Mask = npt.NDArray[np.bool_]
TERMS = ("scale", "per_op", "per_input", "per_weight", "intercept")
PART = 1.08
"""A further part of the model has to bring the held-out error down by so much."""
MIN_NETWORKS = 4
FOLDS = 10
"""Of the networks, each of which is left out of everything once to learn the errors."""
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

    def subset(self, kept: Mask) -> Observed:
        """Some of the networks; all rows."""
        chosen = {name: getattr(self, name)[kept] for name in ("counts", "measured_ms", "odd_ms", "even_ms")}
        return replace(self, **chosen)

    @property
    def row_deviations(self) -> Floats:
        """``(N,)`` standard deviation of each sum, as a share of it; errors of rows are taken for independent."""
        return np.sqrt((self.counts**2) @ (self.rows_ms * self.deviations) ** 2) / self.sums_ms

    @property
    def noise_floor(self) -> float:
        """See ``noise_floor``."""
        return noise_floor(self.odd_ms, self.even_ms)


def noise_floor(odd_ms: Floats, even_ms: Floats) -> float:
    """Mean difference in percent of the odd and the even samples of whole networks, one common factor removed.

    A single network tells no common factor: none is removed then.
    """
    ratio = odd_ms / even_ms
    common = np.median(ratio) if len(ratio) > 1 else 1.0
    return float(np.mean(np.abs(ratio / common - 1)) * 100)


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

    @property
    def parts(self) -> int:
        """How much there is besides the scale."""
        return len(self.columns) - 1 + bool(self.knee[1]) + (self.prior is not None)


def fit(observed: Observed) -> Calibration:
    """The model with the lowest error on held-out networks, if each further part of it pays for itself.

    All combinations of terms, with and without a knee, then factors of rows. Compared is the mean error of leave one
    out times ``PART`` to the number of parts; what raises the worst error of the scale alone is refused. The model is
    chosen by these errors, so the errors that are reported, and the intervals, come from choices made without the
    networks in question.
    """
    calibration = _fitted(observed, _chosen(observed))
    predicted = np.empty(len(observed.measured_ms))
    fold = np.arange(len(predicted)) % min(len(predicted), FOLDS)
    for number in range(fold.max() + 1):
        kept, out = observed.subset(fold != number), observed.subset(fold == number)
        predicted[fold == number] = _fitted(kept, _chosen(kept)).predict_ms(out)
    return replace(
        calibration,
        errors=errors(predicted, observed.measured_ms, observed.noise_floor),
        residuals=tuple((observed.measured_ms / predicted - 1).tolist()),
        row_deviations=tuple(observed.row_deviations.tolist()),
    )


def _chosen(observed: Observed) -> _Model:
    if len(observed.measured_ms) < MIN_NETWORKS:
        return _Model()
    worst = _error(observed, _Model())[1]
    further = range(1, len(TERMS))
    columns = [(0, *chosen) for count in range(len(TERMS)) for chosen in combinations(further, count)]
    knees = [(0.0, 0.0), *product(map(float, np.quantile(observed.measured_ms, KNEES)), SLOPES)]
    model = _best(observed, [_Model(columns=chosen, knee=knee) for chosen, knee in product(columns, knees)], worst)
    return _best(observed, [model, *(replace(model, prior=prior) for prior in PRIORS)], worst)


def _best(observed: Observed, models: Sequence[_Model], worst: float) -> _Model:
    scores = {model: _error(observed, model) for model in models}
    allowed = [model for model in models if scores[model][1] <= worst] or [_Model()]
    return min(allowed, key=lambda model: scores[model][0] * PART**model.parts if model in scores else 0.0)


def _error(observed: Observed, model: _Model) -> tuple[float, float]:
    """Mean and worst absolute relative error of leave one out."""
    bent = Calibration(knee_ms=model.knee[0], slope=model.knee[1])
    x_ms = bent.unbend(observed.measured_ms)
    predicted = bent.bend(_left_out(observed.design, observed.counts * observed.rows_ms, x_ms, model))
    off = np.abs(predicted / observed.measured_ms - 1)
    return float(off.mean()), float(off.max())


def _fitted(observed: Observed, model: _Model) -> Calibration:
    """The model, fitted to all networks; without errors."""
    bent = Calibration(knee_ms=model.knee[0], slope=model.knee[1])
    x_ms = bent.unbend(observed.measured_ms)
    everything = np.ones(len(x_ms), bool)
    terms, factors = _solve(observed.design, observed.counts * observed.rows_ms, x_ms, everything, model)
    named: dict[str, Any] = {
        f"{name}_ms" if name != "scale" else name: float(term) for name, term in zip(TERMS, terms, strict=True)
    }
    changed = {key: float(f) for key, f in zip(observed.keys, factors, strict=True) if f != 1}
    return replace(bent, model=model.name, **named, factors=changed)


def _left_out(design: Floats, shares: Floats, x_ms: Floats, model: _Model) -> Floats:
    """``(N,)`` what the others say of each network."""
    everything = np.ones(len(x_ms), bool)
    if model.prior is None and len(x_ms) > len(model.columns):
        # Of least squares the residual without oneself is r / (1 - h) (Allen 1974, "PRESS").
        relative = design[:, list(model.columns)] / x_ms[:, None]
        inverse = np.linalg.pinv(relative, rcond=np.finfo(np.float64).eps * max(relative.shape))
        hat = np.einsum("nk,kn->n", relative, inverse)
        residual = 1 - relative @ inverse.sum(1)
        return np.asarray(x_ms * (1 - residual / np.maximum(1 - hat, 1e-9)), np.float64)
    predicted = np.empty(len(x_ms))
    for out in range(len(x_ms)):
        kept = everything.copy()
        kept[out] = False
        terms, factors = _solve(design, shares, x_ms, kept, model)
        predicted[out] = design[out] @ terms + terms[0] * shares[out] @ (factors - 1)
    return predicted


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
    from scipy.stats import spearmanr  # takes a second to import

    if min(len(left), len(np.unique(left)) + 1, len(np.unique(right)) + 1) < 3:
        return math.nan
    found: Any = spearmanr(left, right)  # scipy's types are a guess of pyright's
    return float(found.statistic)
