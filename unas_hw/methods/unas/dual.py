"""Dual: a budget and its dual variable mu, which is solved at each step, or climbs by dual ascent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from unas_hw.budget import Multiplier
from unas_hw.distribution import ArchitectureDistribution
from unas_hw.methods.unas.residual import Residual
from unas_hw.search.constraints import Constraint

MOST, REACH = 100.0, 1.0
"""Logits that mu adds to a choice at most, and at most in a step: early measurements are few, and may mislead."""


class Dual(ABC):
    """``mu`` of ``resource <= limit``.

    Args:
        constraint: What is to be kept.
        distribution: Of architectures.
        rate: Of the dual ascent.
    """

    def __init__(self, constraint: Constraint, distribution: ArchitectureDistribution, rate: float) -> None:
        self.constraint, self.distribution = constraint, distribution
        self.multiplier = Multiplier(rate)

    @abstractmethod
    def loss(self, probs: Sequence[Tensor]) -> Tensor:
        """What the budget adds to the loss, differentiable in the probabilities."""

    @abstractmethod
    def step(self) -> None:
        """After alpha's step."""

    @torch.no_grad()
    def expected(self) -> float:
        """Of the resource."""
        return float(self.constraint.resource.distribution(self.distribution.probs()).expectation())

    @property
    def of_mode(self) -> float:
        """What the most probable network needs."""
        return self.constraint.resource.value(self.distribution.mode())

    def along_budget(self, gradient_GK: Tensor) -> Tensor:
        """What is to be added to the task's gradient in alpha beside that of ``loss``."""
        return torch.zeros_like(gradient_GK)

    @abstractmethod
    def restore(self) -> None:
        """The distribution that belongs to the multiplier, after a checkpoint was read."""

    @property
    def seen_beside(self) -> float:
        """What measured networks need beside what the table says, in the unit of the resource."""
        return 0.0

    def describe(self) -> dict[str, Any]:
        """Where it stands."""
        return {
            "expected": self.expected(),
            "mode": self.of_mode,
            "limit": self.constraint.limit,
            "multiplier": self.multiplier.value,
        }


@final
class Ascent(Dual):
    """It grows while expectation or mode exceed the limit, and falls while they do not."""

    def loss(self, probs: Sequence[Tensor]) -> Tensor:
        """``mu E[max(0, X / limit - 1)]``."""
        return self.multiplier.value * self.constraint.resource.distribution(probs).hinge(self.constraint.limit)

    def step(self) -> None:
        self.multiplier.step(max(self.expected(), self.of_mode), self.constraint.limit)

    def restore(self) -> None:
        """It is in the loss only."""


@final
class Solved(Dual):
    """It is the root of ``E[X] = limit`` under ``softmax(alpha - mu c)``: alpha learns the task, mu keeps the budget.

    Of all distributions that keep the budget on average this one is the nearest to ``softmax(alpha)`` in relative
    entropy (Csiszar's I-projection). c, ``(G, K)``, is what each choice adds to ``E[X / limit]`` among networks drawn
    uniformly, and what measurements have said of it.

    Args:
        constraint, distribution: As in ``Dual``.
        exactly: Whether the expectation is brought up to the limit too; otherwise mu is not below 0.
        residual: What is measured beside the table.
    """

    def __init__(
        self,
        constraint: Constraint,
        distribution: ArchitectureDistribution,
        *,
        exactly: bool,
        residual: Residual | None = None,
    ) -> None:
        super().__init__(constraint, distribution, rate=0.0)
        self.exactly, self.residual = exactly, residual
        uniform = [torch.full((k,), 1 / k, dtype=torch.float64, requires_grad=True) for k in distribution.choices]
        expected = constraint.resource.distribution(uniform).expectation()
        self._costs_GK = torch.zeros_like(distribution.alpha.detach())
        for row, grad in zip(self._costs_GK, torch.autograd.grad(expected, uniform), strict=True):
            row[: len(grad)] = (grad - grad.mean()) / constraint.limit

    def loss(self, probs: Sequence[Tensor]) -> Tensor:
        return torch.zeros((), dtype=torch.float64)

    @property
    def binds(self) -> bool:
        """Whether some network exceeds the limit."""
        return self.constraint.resource.range[1] > self.constraint.limit

    @property
    def seen_beside(self) -> float:
        return self.constraint.limit * self.residual.expected() if self.residual else 0.0

    def step(self, limit: float | None = None) -> None:
        """Solves for this limit, by default the constraint's, as far as ``REACH`` goes."""
        if not self.binds:
            return
        limit = limit or self.constraint.limit
        logit = 1 / max(float(self.costs.abs().max()), 1e-12)
        least = -MOST * logit if self.exactly else 0.0
        low, high = np.clip(self.multiplier.value + REACH * logit * np.array((-1, 1)), least, MOST * logit)

        def excess(mu: float) -> float:
            self.set(mu)
            return (self.expected() + self.seen_beside) / limit - 1

        if excess(high) >= 0 or excess(low) <= 0:  # too far to go at once, or it is kept without
            self.set(high if excess(high) >= 0 else low)
        else:
            root: Any = brentq(excess, low, high, xtol=1e-9 * logit)
            self.set(root)

    def restore(self) -> None:
        self.set(self.multiplier.value)

    def set(self, mu: float) -> None:
        """To a multiplier, with the distribution that belongs to it."""
        self.multiplier.value = mu
        self.distribution.tilts[self.constraint.resource.name] = mu * self.costs

    @property
    def costs(self) -> Tensor:
        """c, ``(G, K)``."""
        return self._costs_GK + self.residual.costs_GK if self.residual else self._costs_GK

    def along_budget(self, gradient_GK: Tensor) -> Tensor:
        """What takes from a gradient what it has along that of ``E[X / limit]``: the next ``step`` would undo it."""
        if self.multiplier.value == 0:
            return torch.zeros_like(gradient_GK)
        q_GK, costs_GK = self.distribution.log_q().detach().exp(), self.costs
        slope_GK = q_GK * (costs_GK - (q_GK * costs_GK).sum(1, keepdim=True))
        return -slope_GK * (gradient_GK * slope_GK).sum() / slope_GK.square().sum().clamp_min(1e-12)
