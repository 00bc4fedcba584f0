"""Residual: what measured networks take longer than the table says, learnt choice by choice during the search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from unas_hw.distribution import ArchitectureDistribution, ArchSample

RATE = 0.25
"""Of an error, what b learns and what rho learns; together below 1, so that what was measured is not overshot."""


@final
class Residual:
    """``lat(z)/T - X(z)/T = b + sum_g rho_g(z_g)``: the measured latency against the table's, as a share of the budget.

    Each measured network moves rho by REINFORCE: along ``(r - b - rho(z)) grad log p(z)``, where b and rho are the
    baseline. The gradient of ``E[lat]`` in alpha is that of the table's expectation, exactly, and rho's.

    Args:
        distribution: That networks are drawn from.

    Attributes:
        common: b.
        costs_GK: ``(G, K)``, rho.
    """

    def __init__(self, distribution: ArchitectureDistribution) -> None:
        self.distribution = distribution
        self.common = 0.0
        self.costs_GK = torch.zeros_like(distribution.alpha.detach())

    @torch.no_grad()
    def learn(self, sample: ArchSample, residual_B: Tensor) -> None:
        """From the residuals of the choices of a sample."""
        q_GK = self.distribution.log_q().exp()
        for choice_G, residual in zip(sample.choice, residual_B.tolist(), strict=True):
            z_GK = one_hot(choice_G, q_GK.shape[1]).double()
            score_GK = z_GK - q_GK  # grad log p(z)
            error = residual - self.common - float((self.costs_GK * z_GK).sum())
            self.common += RATE * error
            self.costs_GK += RATE * error * score_GK / score_GK.square().sum().clamp_min(1)

    def expected(self) -> float:
        """``E[lat - X] / T`` under the distribution as it is."""
        return self.common + float((self.costs_GK * self.distribution.log_q().detach().exp()).sum())

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"common": torch.tensor(self.common, dtype=torch.float64), "costs": self.costs_GK}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The same again."""
        self.common, self.costs_GK = float(state["common"]), state["costs"].clone()
