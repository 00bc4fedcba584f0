"""The verdict of a search for a whole front: its networks against random ones that were trained alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from profilers.timing import Floats
from unas_hw.finals.verdict import NARROW
from unas_hw.search.front import Points, hypervolume

DRAWS = 1000
LEAST = 4
"""Random networks of which a half has a front."""
QUANTILE = 1.96


def verdict_of_fronts(found: Points, control: Points, reference: tuple[float, float], whole: float) -> dict[str, Any]:
    """How much more fronts of what a search trained dominate than fronts of as many random networks.

    Fronts of half as many networks as the control group has are drawn from both. Their hypervolume is a U-statistic of
    M' of N networks, whose variance is about M' / N of that of one draw (Hoeffding 1948, section 5).

    Args:
        found: ``(N, 2)``, accuracy and cost with a minus, of the networks of the search.
        control: ``(M, 2)`` of random ones.
        reference: The worst that counts.
        whole: The hypervolume of everything, of which points are percent.
    """
    told: dict[str, Any] = {"winner": "nominee", "random": len(control), "largest": None}
    half = len(control) // 2
    if len(control) < LEAST or len(found) < LEAST or not whole:
        words = f"against random networks: cannot be told, it takes at least {max(LEAST - len(control), 1)} more"
        empty = {"random": None, "largest": None}
        return {
            **told,
            "advantage_points": empty,
            "interval": empty,
            "told": {**empty, "random": False},
            "words": words,
        }
    rng, draws = np.random.default_rng(0), list[Floats]()
    for all_of_it in (found, control):
        picked = (all_of_it[rng.choice(len(all_of_it), min(half, len(all_of_it)), replace=False)] for _ in range(DRAWS))
        draws.append(np.array([100 * hypervolume(each, reference) / whole for each in picked]))
    points = float(draws[0].mean() - draws[1].mean())
    shares = [min(half / len(each), 1.0) for each in (found, control)]
    margin = QUANTILE * math.sqrt(sum(share * float(each.var()) for share, each in zip(shares, draws, strict=True)))
    differs = abs(points) > margin
    words = (
        f"fronts of {half} of its networks have {abs(points):.1f} ± {margin:.1f} % of the hypervolume "
        f"{'less' if points < 0 else 'more'} than those of {half} random networks"
    )
    if not differs:
        more = math.ceil(len(control) * ((margin / max(abs(points), NARROW)) ** 2 - 1))
        words += ": no better" if margin <= NARROW else f": cannot be told, it takes about {max(more, 1)} more of these"
    return {
        **told,
        "advantage_points": {"random": points, "largest": None},
        "interval": {"random": [points - margin, points + margin], "largest": None},
        "told": {"random": differs or margin <= NARROW, "largest": None},
        "words": words,
    }
