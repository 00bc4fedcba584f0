"""Adaptation: the latency of networks on a new device, from tables of other devices and a few measured networks.

``predicted(net) = sum_s weight_s * source_ms[s](net) + sum_f coefficient_f * count_f(net) + constant``, weights >= 0.
Linear on purpose: what holds for sums holds for rows, so rows of the other devices' tables become rows of a table
for the new one.

A handful of networks cannot tell thirty weights, so they are shrunk: towards the mean of all sources, or towards one
source that the device resembles. How strongly, and towards which, is not chosen but averaged over, each choice
weighted by how probable it makes the measurements (Hoeting et al. 1999, "Bayesian model averaging: a tutorial"); an
average of linear models is linear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import nnls

from latency_tables.calibration import Calibration, Errors, errors
from profilers.timing import Floats

NOISES = (0.003, 0.01, 0.03, 0.1)
WEIGHT_SPREADS = (0.003, 0.01, 0.03, 0.1, 0.3)
COUNT_SPREADS = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Standard deviations that are averaged over, as shares of the mean latency: of a measurement, of a weight around
its centre, and of the latency that a count contributes."""
CREDIBLE = 1.3
"""A measurement that is off by more standard deviations than this is taken for so much noisier."""
ROUNDS = 4
"""Of looking how far measurements are off; a further round moves no prediction noticeably."""
NEGLIGIBLE = 1e-3
"""Choices less probable than this are left out of the average."""
FOLDS = 30
"""Held-out predictions come from at most so many fits: leave-one-out up to this many networks."""


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """From other devices' latencies to those of a new device.

    Attributes:
        weights: One of each source, none negative; new ms per ms of the source.
        coefficients_ms: One of each count.
        constant_ms: What every network costs on top.
        errors: On networks left out of the fit; None where there was no fit.
        residuals: ``measured / predicted - 1`` of each left-out network; intervals come from them.
    """

    weights: tuple[float, ...]
    coefficients_ms: tuple[float, ...]
    constant_ms: float
    errors: Errors | None = None
    residuals: tuple[float, ...] = ()

    def latency_ms(self, source_ms: Any, counts: Any) -> Floats:
        """Latency of networks, ``(N,)``, from those of the sources, ``(N, S)``, and their counts, ``(N, F)``."""
        sources, features = np.asarray(source_ms, np.float64), np.asarray(counts, np.float64)
        latency_ms = sources @ np.array(self.weights) + features @ np.array(self.coefficients_ms) + self.constant_ms
        return np.asarray(latency_ms, np.float64)

    def interval(self, confidence: float = 0.9) -> tuple[float, float]:
        """Factors below and above a prediction between which a new network lies.

        The rule is ``Calibration.interval``; with residuals of left-out networks it is the jackknife interval of
        Barber et al. 2021, "Predictive inference with the jackknife+".
        """
        return Calibration(residuals=self.residuals).interval(confidence)


def adapt(source_ms: Any, counts: Any, measured_ms: Any, noise_floor: float = math.nan) -> Adaptation:
    """Fits a new device.

    Args:
        source_ms: ``(N, S)``, the networks on each of the other devices (sums of rows, or measured); positive.
        counts: ``(N, F)``, what the sources may have wrong, as counts that add up: operations of a kind, say.
            ``F`` may be 0; the unit of a column does not matter.
        measured_ms: ``(N,)``, the networks on the new device; positive.
        noise_floor: What two halves of the measurements differ by, in percent; only handed on.

    Raises:
        ValueError: Fewer than two networks, no source, other shapes, or a latency that is no positive number.
    """
    sources, features, measured = (np.asarray(array, np.float64) for array in (source_ms, counts, measured_ms))
    networks = len(measured)
    if sources.ndim != 2 or features.ndim != 2 or not len(sources) == len(features) == networks:
        raise ValueError(f"shapes {sources.shape}, {features.shape}, {measured.shape}: not (N, S), (N, F), (N,)")
    if networks < 2 or sources.shape[1] < 1:
        raise ValueError(f"{networks} networks and {sources.shape[1]} sources: it takes two networks and a source")
    for what, latencies in (("source", sources), ("measured", measured)):
        if not (np.isfinite(latencies).all() and (latencies > 0).all()):
            raise ValueError(f"a {what} latency is no positive number")
    if not np.isfinite(features).all():
        raise ValueError("a count is no number")
    predicted = np.empty(networks)
    fold = np.arange(networks) % min(networks, FOLDS)
    for out in (fold == number for number in range(fold.max() + 1)):
        predicted[out] = _fit(sources[~out], features[~out], measured[~out]).latency_ms(sources[out], features[out])
    fitted = _fit(sources, features, measured)
    return Adaptation(
        weights=fitted.weights,
        coefficients_ms=fitted.coefficients_ms,
        constant_ms=fitted.constant_ms,
        errors=errors(predicted, measured, noise_floor),
        residuals=tuple((measured / predicted - 1).tolist()),
    )


def _fit(source_ms: Floats, counts: Floats, measured_ms: Floats) -> Adaptation:
    """The average over all choices, in units in which sources, counts and measurements are about one."""
    networks, sources = source_ms.shape
    level_ms = math.exp(np.log(measured_ms).mean())
    source_level_ms = np.exp(np.log(source_ms).mean(0))
    features = np.concatenate([counts, np.ones((networks, 1))], axis=1)
    size = np.sqrt((features**2).mean(0))
    size[size == 0] = 1.0  # a count that no network has tells nothing, and gets nothing
    relative = level_ms / measured_ms[:, None]  # errors count relative to the measurement, which is one
    X, C = source_ms / source_level_ms * relative, features / size * relative

    centres = np.full((sources, 1), 1 / sources)
    prior = np.ones(1)
    if sources > 1:
        centres = np.concatenate([centres, np.eye(sources)], axis=1)
        prior = np.concatenate([[0.5], np.full(sources, 0.5 / sources)])
    choices = np.array(list(product(NOISES, WEIGHT_SPREADS, COUNT_SPREADS)))
    inflation = np.ones(networks)
    for _ in range(ROUNDS - 1):
        probability, residuals = _probabilities(X, C, centres, prior, choices, inflation)
        off = np.abs(np.einsum("gk,gnk->gn", probability, residuals)) / choices[:, :1]
        inflation = np.maximum(1.0, off.sum(0) / CREDIBLE) ** 2
    probability, _ = _probabilities(X, C, centres, prior, choices, inflation)

    of_choice = probability.sum(1)
    kept = np.flatnonzero(of_choice > NEGLIGIBLE * of_choice.max())
    weights, coefficients = np.zeros(sources), np.zeros(features.shape[1])
    for choice in kept:
        centre = centres @ probability[choice] / of_choice[choice]
        w, b = _most_probable(X, C, centre, choices[choice], inflation)
        weights += w * of_choice[choice] / of_choice[kept].sum()
        coefficients += b * of_choice[choice] / of_choice[kept].sum()
    coefficients *= level_ms / size
    return Adaptation(
        weights=tuple((weights * level_ms / source_level_ms).tolist()),
        coefficients_ms=tuple(coefficients[:-1].tolist()),
        constant_ms=float(coefficients[-1]),
    )


def _probabilities(
    X: Floats, C: Floats, centres: Floats, prior: Floats, choices: Floats, inflation: Floats
) -> tuple[Floats, Floats]:
    """How probable each choice ``g`` and centre ``k`` is, ``(G, K)``, and the residuals it leaves, ``(G, N, K)``.

    Evidence of a linear Gaussian model (Bishop 2006, section 3.5, there in weight space):
    ``1 - X @ centre ~ N(0, noise^2 diag(inflation) + weight_spread^2 X X^T + count_spread^2 C C^T)``. That weights
    are not negative is left out here, where it would have no closed form.
    """
    noise, weight_spread, count_spread = (choices[:, column, None, None] ** 2 for column in range(3))
    covariance = noise * np.diag(inflation) + weight_spread * (X @ X.T) + count_spread * (C @ C.T)
    difference = 1 - X @ centres
    solved = np.linalg.solve(covariance, np.broadcast_to(difference, (len(choices), *difference.shape)))
    squares = np.einsum("nk,gnk->gk", difference, solved)
    log = np.log(prior) - (squares + np.linalg.slogdet(covariance)[1][:, None]) / 2
    probability = np.exp(log - log.max())
    return probability / probability.sum(), noise * inflation[:, None] * solved


def _most_probable(X: Floats, C: Floats, centre: Floats, choice: Floats, inflation: Floats) -> tuple[Floats, Floats]:
    """Weights, none negative, and coefficients of one choice.

    Coefficients have no bound and are integrated out, which leaves non-negative least squares (Lawson and Hanson
    1974) in the weights.
    """
    noise, weight_spread, count_spread = choice
    rest = noise**2 * np.diag(inflation) + count_spread**2 * (C @ C.T)
    whitened = solve_triangular(np.linalg.cholesky(rest), np.column_stack([X, np.ones(len(X))]), lower=True)
    design = np.concatenate([whitened[:, :-1], np.eye(X.shape[1]) / weight_spread])
    weights, _ = nnls(design, np.concatenate([whitened[:, -1], centre / weight_spread]))
    return weights, count_spread**2 * C.T @ np.linalg.solve(rest, 1 - X @ weights)
