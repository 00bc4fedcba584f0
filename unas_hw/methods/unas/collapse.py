"""Collapse: a search that ends with little but shortcuts (DARTS's known failure), seen while it happens."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from unas_hw.space import SearchSpace

SKIPS = frozenset({"id", "skip_connect", "none"})
"""Choices that learn nothing."""


def skipping(space: SearchSpace, probs: Sequence[Tensor]) -> float | None:
    """Probability of choices that learn nothing, the mean over decisions that offer one; None where none does.

    Args:
        space: Whose decisions they are.
        probs: One ``(K,)`` a decision.
    """
    shares = [
        sum(float(p) for name, p in zip(decision.choices, each, strict=True) if name in SKIPS)
        for decision, each in zip(space.decisions, probs, strict=True)
        if not SKIPS.isdisjoint(decision.choices)
    ]
    return sum(shares) / len(shares) if shares else None
