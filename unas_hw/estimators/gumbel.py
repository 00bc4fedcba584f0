"""Gumbel-softmax: ``grad L(zeta)``, zeta reparametrised; its expectation is the gradient of ``E[L(zeta)]``.

Source: SNAS, Xie et al., ICLR 2019 (arXiv 1812.09926), which anneals tau; FBNet (arXiv 1812.03443) likewise; part
(iii) of UNAS (arXiv 1912.07651), section 3.
"""

from __future__ import annotations

from typing import final

from torch import Tensor

from unas_hw.distribution import ArchitectureDistribution, ArchSample
from unas_hw.estimators.base import Estimator
from unas_hw.objectives import ObjectiveTerm


def gumbel_loss(sample: ArchSample, relaxed_cost_B: Tensor) -> Tensor:
    """``mean(L(zeta))``; the cost carries its graph."""
    del sample
    return relaxed_cost_B.mean()


@final
class Gumbel(Estimator):
    """Biased unless tau goes to zero, where its variance grows without bound."""

    name = "gumbel"
    needs = frozenset({"relaxed"})

    def loss(self, sample: ArchSample, term: ObjectiveTerm, distribution: ArchitectureDistribution) -> Tensor:
        return gumbel_loss(sample, term.relaxed(sample))
