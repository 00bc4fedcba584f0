"""REINFORCE: ``(L(z) - b) grad log p(z)``, unbiased for any b that does not depend on z.

Source: Williams 1992; part (i) of UNAS (arXiv 1912.07651), section 3, with a baseline in the place of c(z).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from unas_hw.distribution import TAU, ArchitectureDistribution, ArchSample
from unas_hw.estimators.base import Estimator
from unas_hw.objectives import ObjectiveTerm


def reinforce_loss(sample: ArchSample, cost_B: Tensor, baseline: float | Tensor = 0.0) -> Tensor:
    """``mean((L(z) - b) log p(z))``, differentiated in log p only."""
    return ((cost_B - baseline).detach() * sample.log_prob).mean()


@final
class ReinforcePlain(Estimator):
    """b = 0."""

    name = "reinforce-plain"
    needs = frozenset({"discrete"})

    def loss(self, sample: ArchSample, term: ObjectiveTerm, distribution: ArchitectureDistribution) -> Tensor:
        return reinforce_loss(sample, term.discrete(sample))


class MovingAverage:
    """A moving average of the costs before this sample.

    Attributes:
        value: The average; zero at first.
        keep: Share of the old value that stays.
    """

    def __init__(self, value: float = 0.0, keep: float = 0.9) -> None:
        self.value = value
        self.keep = keep

    def loss(self, sample: ArchSample, cost_B: Tensor) -> Tensor:
        """REINFORCE with the average of earlier samples, which then learns of this one."""
        loss = reinforce_loss(sample, cost_B, self.value)
        self.value = self.keep * self.value + (1 - self.keep) * float(cost_B.detach().mean())
        return loss


class WithMovingAverage(Estimator):
    """What has a ``MovingAverage`` to keep."""

    def __init__(self, tau: float = TAU, tau_end: float | None = None) -> None:
        super().__init__(tau, tau_end)
        self.baseline = MovingAverage()

    def state(self) -> dict[str, Tensor]:
        return {"baseline": torch.tensor(self.baseline.value, dtype=torch.float64)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.baseline.value = float(state["baseline"])


@final
class Reinforce(WithMovingAverage):
    """b is a moving average of earlier costs (NASNet, ENAS)."""

    name = "reinforce"
    needs = frozenset({"discrete"})

    def loss(self, sample: ArchSample, term: ObjectiveTerm, distribution: ArchitectureDistribution) -> Tensor:
        return self.baseline.loss(sample, term.discrete(sample))


@final
class ReinforceLeaveOneOut(Estimator):
    """b of a sample is the mean cost of the others of the same step (Kool, van Hoof & Welling 2019)."""

    name = "reinforce-loo"
    needs = frozenset({"discrete"})
    least = 2

    def loss(self, sample: ArchSample, term: ObjectiveTerm, distribution: ArchitectureDistribution) -> Tensor:
        cost_B = term.discrete(sample)
        return reinforce_loss(sample, cost_B, (cost_B.sum() - cost_B) / (len(cost_B) - 1))
