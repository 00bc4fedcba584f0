"""How well scores rank networks: Spearman's correlation over all of them and among the best, with an interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latency_tables.calibration import spearman
from unas_hw.terms import Costs

BEST = 0.1
"""The share of networks that is looked at by itself."""
CONFIDENCE, RESAMPLES = 0.9, 200


class Correlation(NamedTuple):
    """Of ``networks`` networks; the true one lies between ``low`` and ``high`` with 90%, by bootstrap."""

    spearman: float
    low: float
    high: float
    networks: int


def correlations(
    scores: Mapping[str, Costs], accuracies: Costs, kinds: NDArray[np.int64] | None = None
) -> dict[str, dict[str, Any]]:
    """By name of the score ``all`` and ``best``, the correlations over all networks and over the best tenth.

    Scores and accuracies are ``(N,)``; a score of NaN counts as worst. So are ``kinds``, equal for networks that are
    one and the same, which are drawn together; by default none are.
    """
    kinds = np.arange(len(accuracies)) if kinds is None else kinds
    best = accuracies >= np.quantile(accuracies, 1 - BEST)
    return {
        name: {
            which: _correlation(np.nan_to_num(score[rows], nan=-np.inf, posinf=np.inf, neginf=-np.inf),
                                accuracies[rows], kinds[rows])._asdict()
            for which, rows in (("all", np.ones(len(best), bool)), ("best", best))
        }
        for name, score in scores.items()
    }  # fmt: skip


def _correlation(score: Costs, accuracies: Costs, kinds: NDArray[np.int64]) -> Correlation:
    order = np.argsort(kinds, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(kinds[order])) + 1)
    rng, drawn = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        rows = np.concatenate([members[each] for each in rng.integers(len(members), size=len(members))])
        drawn.append(spearman(score[rows], accuracies[rows]))
    known = [each for each in drawn if np.isfinite(each)]
    low, high = np.quantile(known, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)) if known else (np.nan, np.nan)
    return Correlation(spearman(score, accuracies), float(low), float(high), len(score))
