"""The end of a search: its distribution is brought to the latency that the network which ships may have."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from unas_hw.methods.unas.dual import Solved
from unas_hw.methods.unas.search import UnasSearch
from unas_hw.search.selection import LOOKED_AT, Path

CLOSE = (0.98, 0.95, 0.9, 0.0)
"""Of the target: as much of it the most probable network uses at least, where there is one that does."""
STEPS, MARGINS = 100, (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)


@torch.no_grad()
def settle(unas: UnasSearch, target_ms: float, fits: Callable[[Path], bool]) -> None:
    """Brings expectation and mode to the target, where mu is solved and the budget binds.

    The mode of independent decisions may be far from their expectation. So the most probable network that uses the
    target becomes the mode, by as little as that takes.
    """
    dual, distribution, model = unas.latency.dual, unas.distribution, unas.model
    if not isinstance(dual, Solved) or not dual.binds:
        return
    _solve(dual, target_ms)
    most_ms = target_ms - dual.seen_beside
    log_probs = [probs.log() for probs in distribution.probs()]
    near = (path for least in CLOSE for path in model.most_probable(log_probs, least * most_ms, most_ms, LOOKED_AT))
    path = next(filter(fits, near), None)
    if path is None:
        return
    for margin in MARGINS:
        if distribution.mode() == path:
            return
        for alpha_K, logits_K, choice in zip(distribution.alpha, distribution.log_q(), path, strict=True):
            others = torch.cat([logits_K[:choice], logits_K[choice + 1 :]])
            alpha_K[choice] += (others.max() + margin - logits_K[choice]).clamp_min(0)
        _solve(dual, target_ms)


def _solve(dual: Solved, target_ms: float) -> None:
    """As many steps as that takes: each goes a little way only."""
    for _ in range(STEPS):
        before = dual.multiplier.value
        dual.step(target_ms)
        if math.isclose(dual.multiplier.value, before, rel_tol=1e-6):
            return
