"""ObjectiveTerm: one term of what a search minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from unas_hw.distribution import ArchitectureDistribution, ArchSample


class ObjectiveTerm(ABC):
    """It says which values it gives, of ``discrete``, ``relaxed``, ``unrolled`` and ``expected``; an estimator which it
    needs.
    """

    name: ClassVar[str]
    gives: ClassVar[frozenset[str]]

    @abstractmethod
    def discrete(self, sample: ArchSample) -> Tensor:
        """``(B,)`` cost of the choices z."""

    def relaxed(self, sample: ArchSample) -> Tensor:
        """``(B,)`` cost of the relaxations zeta, differentiable in the logits."""
        raise TypeError(f"{self.name} has no relaxed value")

    def unrolled(self, sample: ArchSample) -> Tensor:
        """``(B,)`` cost of the relaxations after one step of the weights; differentiable through that step."""
        raise TypeError(f"{self.name} has no unrolled value")

    def expected(self, distribution: ArchitectureDistribution) -> Tensor:
        """Exact expectation of what the table knows of the cost, differentiable in the logits."""
        raise TypeError(f"{self.name} has no expected value")

    def table(self, sample: ArchSample) -> Tensor:
        """``(B,)`` what the table says of the choices; ``expected`` is its expectation."""
        raise TypeError(f"{self.name} has no table")
