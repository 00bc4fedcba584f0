"""DARTS: ``grad L(softmax(alpha))``, the mixture of all networks in the place of a sample; biased, without noise.

Source: Liu, Simonyan & Yang, "DARTS: Differentiable Architecture Search", ICLR 2019 (arXiv 1806.09055), section 2.3.
"""

from __future__ import annotations

from typing import final

from torch import Tensor

from unas_hw.distribution import ArchitectureDistribution, ArchSample
from unas_hw.estimators.base import Relaxed
from unas_hw.objectives import ObjectiveTerm


class Darts(Relaxed):
    """First order: the weights are taken as they are."""

    name = "darts"

    def relaxation(self, sample: ArchSample, distribution: ArchitectureDistribution) -> Tensor:
        return distribution.log_q().exp().expand_as(sample.relaxed)


@final
class DartsSecondOrder(Darts):
    """``grad L_val(w - xi grad_w L_train(w, alpha), alpha)``: through one step of the weights."""

    name = "darts-second-order"
    needs = frozenset({"unrolled"})

    def loss(self, sample: ArchSample, term: ObjectiveTerm, distribution: ArchitectureDistribution) -> Tensor:
        return term.unrolled(sample).mean()
