"""Constraint: a budget beside the latency's, on energy, arithmetic, weights or memory, with its own dual variable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from unas_hw.budget import Multiplier
from unas_hw.cost_model import CostModel


@final
class Constraint:
    """``resource <= limit``, for the expectation over networks and for the most probable one.

    Args:
        resource: What is limited; its distribution is exact.
        limit: In its unit.
        rate: Of the dual ascent.
    """

    def __init__(self, resource: CostModel, limit: float, rate: float) -> None:
        self.resource = resource
        self.limit = limit
        self.multiplier = Multiplier(rate)

    def loss(self, probs: Sequence[Tensor]) -> Tensor:
        """``mu E[max(0, X / limit - 1)]``, differentiable in the probabilities."""
        return self.multiplier.value * self.resource.distribution(probs).hinge(self.limit)

    def step(self, probs: Sequence[Tensor], mode: Sequence[int]) -> None:
        """One step of dual ascent."""
        expected = float(self.resource.distribution(probs).expectation())
        self.multiplier.step(max(expected, self.resource.value(mode)), self.limit)

    def fits(self, path: Sequence[int]) -> bool:
        """Whether this network is within the limit."""
        return self.resource.value(path) <= self.limit

    @torch.no_grad()
    def describe(self, probs: Sequence[Tensor], mode: Sequence[int]) -> dict[str, Any]:
        """Where it stands."""
        expected = float(self.resource.distribution(probs).expectation())
        mode_value = self.resource.value(mode)
        return {"expected": expected, "mode": mode_value, "limit": self.limit, "multiplier": self.multiplier.value}
