"""Estimator: a way to estimate ``grad E[cost(z)]`` in the logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unas_hw.distribution import TAU, ArchitectureDistribution, ArchSample, Coupling
from unas_hw.objectives import ObjectiveTerm

TauFalls = Literal["exponentially", "linearly"]


class Estimator(ABC):
    """Draws architectures, and turns what they cost into a scalar whose gradient in the logits is the estimate.

    Attributes:
        name: As in ``--estimator``.
        needs: Values it asks of an objective, of ``ObjectiveTerm.gives``.
        least: Architectures a step that it works with.
        coupling: How zeta is drawn, see ``ArchitectureDistribution.sample``.
        tau, tau_end: Temperature of the relaxation at the begin and the end of a search.
        tau_falls: How it gets from one to the other.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    least: ClassVar[int] = 1
    coupling: ClassVar[Coupling] = "gumbel"
    tau_falls: TauFalls = "exponentially"

    def __init__(self, tau: float = TAU, tau_end: float | None = None) -> None:
        self.tau = tau
        self.tau_end = tau if tau_end is None else tau_end

    def temperature(self, progress: float) -> float:
        """Tau at this share of the search, 0 to 1."""
        if self.tau_falls == "linearly":
            return self.tau + progress * (self.tau_end - self.tau)
        return float(self.tau * (self.tau_end / self.tau) ** progress)

    def draw(
        self,
        distribution: ArchitectureDistribution,
        count: int,
        generator: torch.Generator | None = None,
        progress: float = 0.0,
    ) -> ArchSample:
        """``count`` architectures, with the relaxation that ``loss`` needs."""
        tau = self.temperature(progress)
        sample = distribution.sample(count, generator=generator, tau=tau, coupling=self.coupling)
        return replace(sample, relaxed=self.relaxation(sample, distribution))

    def relaxation(self, sample: ArchSample, distribution: ArchitectureDistribution) -> Tensor:
        """``(B, G, K)``, what the networks are run with in the place of zeta."""
        del distribution
        return sample.relaxed

    @abstractmethod
    def loss(self, sample: ArchSample, term: ObjectiveTerm, distribution: ArchitectureDistribution) -> Tensor:
        """Scalar whose gradient is the estimate, for samples of ``draw``."""

    def state(self) -> dict[str, Tensor]:
        """What it has learnt, for checkpoints."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of ``state``."""
        assert not state


class Relaxed(Estimator):
    """``grad L`` of whatever ``relaxation`` gives, which is biased; a pass of the relaxed network and nothing else."""

    needs = frozenset({"relaxed"})

    def loss(self, sample: ArchSample, term: ObjectiveTerm, distribution: ArchitectureDistribution) -> Tensor:
        return term.relaxed(sample).mean()


def exact_gradient(distribution: ArchitectureDistribution, cost: Callable[[Tensor], Tensor]) -> Tensor:
    """``(G, K)`` gradient of ``E[cost(z)]`` by enumeration, for spaces of some thousands; what estimators are held to.

    ``cost`` is from choices ``(B, G)`` to costs ``(B,)``.
    """
    choices = torch.cartesian_prod(*(torch.arange(count) for count in distribution.choices))
    choices = choices.reshape(-1, len(distribution.choices))
    expected = (distribution.log_prob(choices).exp() * cost(choices)).sum()
    (gradient,) = torch.autograd.grad(expected, distribution.alpha)
    return gradient
