"""LatencyExcess: by how much a network is slower than the budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from unas_hw.distribution import ArchitectureDistribution, ArchSample
from unas_hw.latency_model import LatencyModel
from unas_hw.objectives.base import ObjectiveTerm


@final
class LatencyExcess(ObjectiveTerm):
    """``max(0, latency / T - 1)``: relative to the budget, so that one weight serves a phone and a GPU.

    ``measure`` gives the measured latency of a choice in milliseconds, at the table's speed; it feeds the residual.
    Without ``hinge`` what is below the budget counts too: ``latency / T - 1``.
    """

    name = "the latency excess"
    gives = frozenset({"discrete", "expected"})

    def __init__(
        self, model: LatencyModel, budget_ms: float, measure: Callable[[tuple[int, ...]], float], *, hinge: bool = True
    ) -> None:
        self.model, self.hinge = model, hinge
        self.budget_ms = budget_ms
        self.measure = measure

    def _excess(self, latencies_ms: Sequence[float]) -> Tensor:
        excess = torch.tensor(latencies_ms, dtype=torch.float64) / self.budget_ms - 1
        return excess.clamp_min(0) if self.hinge else excess

    def discrete(self, sample: ArchSample) -> Tensor:
        return self._excess([self.measure(path) for path in sample.paths()])

    def table(self, sample: ArchSample) -> Tensor:
        return self._excess([self.model.latency_ms(path) for path in sample.paths()])

    def expected(self, distribution: ArchitectureDistribution) -> Tensor:
        found = self.model.distribution(distribution.probs())
        return found.hinge(self.budget_ms) if self.hinge else found.expectation() / self.budget_ms - 1
