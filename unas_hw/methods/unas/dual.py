"""Dual: a budget in the loss, weighted by its dual variable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from unas_hw.budget import Multiplier
from unas_hw.search.constraints import Constraint


@final
class Dual:
    """``mu`` of ``resource <= limit``, for the expectation over networks and for the most probable one.

    Args:
        constraint: What is to be kept.
        rate: Of the dual ascent.
    """

    def __init__(self, constraint: Constraint, rate: float) -> None:
        self.constraint = constraint
        self.multiplier = Multiplier(rate)

    def loss(self, probs: Sequence[Tensor]) -> Tensor:
        """``mu E[max(0, X / limit - 1)]``, differentiable in the probabilities."""
        return self.multiplier.value * self.constraint.resource.distribution(probs).hinge(self.constraint.limit)

    @torch.no_grad()
    def step(self, probs: Sequence[Tensor], mode: Sequence[int]) -> None:
        """One step of dual ascent."""
        expected, of_mode = self._needs(probs, mode)
        self.multiplier.step(max(expected, of_mode), self.constraint.limit)

    @torch.no_grad()
    def describe(self, probs: Sequence[Tensor], mode: Sequence[int]) -> dict[str, Any]:
        """Where it stands."""
        expected, of_mode = self._needs(probs, mode)
        limit = self.constraint.limit
        return {"expected": expected, "mode": of_mode, "limit": limit, "multiplier": self.multiplier.value}

    def _needs(self, probs: Sequence[Tensor], mode: Sequence[int]) -> tuple[float, float]:
        resource = self.constraint.resource
        return float(resource.distribution(probs).expectation()), resource.value(mode)
