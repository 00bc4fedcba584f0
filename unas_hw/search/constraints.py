"""Constraint: a budget on what a network needs of a resource: time, energy, arithmetic, weights or memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from unas_hw.cost_model import CostModel


@final
@dataclass(frozen=True)
class Constraint:
    """``resource <= limit``.

    Attributes:
        resource: What is limited; its distribution is exact.
        limit: In its unit.
    """

    resource: CostModel
    limit: float

    def fits(self, path: Sequence[int]) -> bool:
        """Whether this network is within the limit."""
        return self.resource.value(path) <= self.limit
