"""LatencyBranch: what the budgets add to alpha's gradient, by the table and by measured networks, and their duals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from unas_hw.distribution import ArchitectureDistribution, ArchSample
from unas_hw.estimators import find_estimator
from unas_hw.estimators.table import Exact
from unas_hw.latency_model import LatencyModel
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.methods.unas.dual import Ascent, Dual, Solved
from unas_hw.methods.unas.residual import Residual
from unas_hw.objectives import LatencyExcess
from unas_hw.objectives.forms import FACTORS, HINGE, LINEAR, linear, unit_of
from unas_hw.search.constraints import Constraint


@final
class LatencyBranch:
    """``mu E_z[max(0, lat(z)/T - 1)]`` and the other budgets: what they add to alpha's gradient, and their multipliers.

    Where mu is solved, ``E[lat] = T`` holds at each step, by the table and what measurements have said beside it:
    alpha's gradient is the task's, less what it has along that of the latency.

    Args:
        distribution: Of architectures.
        model: The table's latencies.
        budget_ms: T.
        constraints: Other budgets.
        config: Estimator, form and rates.
        measure: Measured latency in milliseconds of a choice.

    Attributes:
        shortest_ms: The smaller of T and the smallest network's latency.
    """

    def __init__(
        self,
        distribution: ArchitectureDistribution,
        model: LatencyModel,
        budget_ms: float,
        constraints: Sequence[Constraint],
        config: UnasConfig,
        measure: Callable[[tuple[int, ...]], float],
    ) -> None:
        self.distribution, self.config = distribution, config
        solved = config.multiplier == "solved" and config.budget_form == HINGE
        self.shortest_ms = min(budget_ms, model.latency_ms(model.smallest))
        self.excess = LatencyExcess(model, budget_ms, measure, hinge=not solved)
        self.estimator = find_estimator(config.latency_estimator, self.excess, count=config.architectures)
        self.residual = Residual(distribution) if solved and isinstance(self.estimator, Exact) else None
        budget, rate = Constraint(model, budget_ms), config.multiplier_rate
        self.dual: Dual
        self.others: tuple[Dual, ...]
        if solved:
            self.dual = Solved(budget, distribution, exactly=not constraints, residual=self.residual)
            self.others = tuple(Solved(each, distribution, exactly=False) for each in constraints)
        else:
            self.dual = Ascent(budget, distribution, rate)
            self.others = tuple(Ascent(each, distribution, rate) for each in constraints)

    @property
    def duals(self) -> tuple[Dual, ...]:
        """Of all budgets, that of the latency first."""
        return (self.dual, *self.others)

    @property
    def seen_residual(self) -> float | None:
        """By how much of the budget measured networks take longer than the table says; None without measurements."""
        if self.residual:
            return self.residual.expected()
        return self.estimator.baseline.value if isinstance(self.estimator, Exact) else None

    def gradient(self, sample: ArchSample, number: int, task_GK: Tensor, cost: float) -> Tensor:
        """``(G, K)``: what is to be added to the task's gradient in alpha.

        Args:
            sample: Of this step.
            number: The step's.
            task_GK: The task's gradient.
            cost: The task's cost at this sample.
        """
        factor, loss = self._loss(sample, number, cost)
        loss = loss + 0.0 * self.distribution.alpha.sum()  # where nothing is added
        (found_GK,) = torch.autograd.grad(loss, self.distribution.alpha, retain_graph=True)
        found_GK = found_GK + (factor - 1) * task_GK
        for dual in self.duals:
            found_GK = found_GK + dual.along_budget(task_GK + found_GK)
        return found_GK

    def _loss(self, sample: ArchSample, number: int, cost: float) -> tuple[float, Tensor]:
        """What the task's gradient is multiplied by, and a scalar with the gradient of all budgets."""
        probs, form, excess = self.distribution.probs(), self.config.budget_form, self.excess
        others = sum((dual.loss(probs) for dual in self.others), torch.zeros((), dtype=torch.float64))
        if isinstance(self.dual, Solved):
            if self.residual and number % self.config.measure_every == 0:
                self.residual.learn(sample, excess.discrete(sample) - excess.table(sample))
            return 1.0, others
        if form == HINGE:
            return 1.0, others + self.dual.multiplier.value * self._excess(sample, number)
        expected_ms = excess.model.distribution(probs).expectation()
        if form == LINEAR:
            return 1.0, others + linear(expected_ms, excess.budget_ms)
        factor = FACTORS[form](expected_ms, excess.budget_ms, unit_of(self.shortest_ms))
        return float(factor.detach()), others + cost * factor

    def _excess(self, sample: ArchSample, number: int) -> Tensor:
        """Where networks are measured every k steps only, what is measured counts k times: so its mean stays."""
        estimator, k = self.estimator, self.config.measure_every
        now = number % k == 0
        if isinstance(estimator, Exact):
            expected = self.excess.expected(self.distribution)
            return expected + k * estimator.residual(sample, self.excess) if now else expected
        if "discrete" not in estimator.needs:
            return estimator.loss(sample, self.excess, self.distribution)
        return k * estimator.loss(sample, self.excess, self.distribution) if now else torch.zeros(()).double()

    def step_multipliers(self) -> None:
        """After alpha's step."""
        for dual in self.duals:
            dual.step()

    def restore(self) -> None:
        """The distribution that belongs to alpha and the multipliers, after a checkpoint was read."""
        for dual in self.duals:
            dual.restore()
