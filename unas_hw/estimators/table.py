"""Estimators of what a table knows: ``grad E[f(table)]`` exactly, and what is measured as a residual to it.

    grad E[f(meas)] = grad E[f(table)] + E[(f(meas(z)) - f(table(z)) - b) grad log p(z)]

which is unbiased for any table (our reconstruction of UNAS's surrogate; the table takes the place of its regression).
"""

from __future__ import annotations

from typing import final

from torch import Tensor

from unas_hw.distribution import ArchitectureDistribution, ArchSample
from unas_hw.estimators.base import Estimator
from unas_hw.estimators.reinforce import WithMovingAverage, reinforce_loss
from unas_hw.objectives import ObjectiveTerm


def exact_residual_loss(
    sample: ArchSample, expected: Tensor, cost_B: Tensor, table_cost_B: Tensor, baseline: float | Tensor = 0.0
) -> Tensor:
    """The table's expectation exactly, and REINFORCE for what it does not know."""
    return expected + reinforce_loss(sample, cost_B - table_cost_B, baseline)


@final
class Exact(WithMovingAverage):
    """Expectation and measured residual; b is a moving average of earlier residuals."""

    name = "exact"
    needs = frozenset({"discrete", "expected"})

    def loss(self, sample: ArchSample, term: ObjectiveTerm, distribution: ArchitectureDistribution) -> Tensor:
        return term.expected(distribution) + self.residual(sample, term)

    def residual(self, sample: ArchSample, term: ObjectiveTerm) -> Tensor:
        """The second part alone."""
        return self.baseline.loss(sample, term.discrete(sample) - term.table(sample))


@final
class Expected(Estimator):
    """The table is believed: nothing is measured (FBNet, ProxylessNAS)."""

    name = "expected"
    needs = frozenset({"expected"})

    def loss(self, sample: ArchSample, term: ObjectiveTerm, distribution: ArchitectureDistribution) -> Tensor:
        return term.expected(distribution)
