"""REBAR as UNAS uses it: ``(L(z) - c(z)) grad log p(z) - grad c(z) + grad L(zeta)``, unbiased.

Source: UNAS (arXiv 1912.07651), section 3, parts (i), (ii) and (iii) with c(z) = E[L(zeta) | z]; Tucker et al. 2017.
The conditional relaxation shares its noise with zeta and equals it in value, so one relaxed pass serves all three.
"""

from __future__ import annotations

from typing import final

from torch import Tensor

from unas_hw.distribution import ArchitectureDistribution, ArchSample
from unas_hw.estimators.base import Estimator
from unas_hw.estimators.reinforce import reinforce_loss
from unas_hw.objectives import ObjectiveTerm


def rebar_loss(sample: ArchSample, cost_B: Tensor, relaxed_cost_B: Tensor) -> Tensor:
    """All three parts; the sample has to be drawn with coupling ``rebar``."""
    return reinforce_loss(sample, cost_B, relaxed_cost_B) + relaxed_cost_B.mean()


@final
class Rebar(Estimator):
    """The relaxation of the same network is the control variate."""

    name = "rebar"
    needs = frozenset({"discrete", "relaxed"})
    coupling = "rebar"

    def loss(self, sample: ArchSample, term: ObjectiveTerm, distribution: ArchitectureDistribution) -> Tensor:
        return rebar_loss(sample, term.discrete(sample), term.relaxed(sample))
