"""Straight-through: the forward pass sees the sampled network z, the backward pass a relaxation; biased.

    zeta = z + s - stopgrad(s),    d zeta / d alpha := d s / d alpha

Source: GDAS, Dong & Yang, CVPR 2019 (arXiv 1910.04465): s is the Gumbel-softmax that z is the argmax of. Binary
gates, Cai, Zhu & Han, ProxylessNAS, ICLR 2019 (arXiv 1812.00332), section 3.2:
``dL/dalpha_i = sum_j dL/dg_j p_j (1[i=j] - p_i)`` for gates g = z, which is s = softmax(alpha).
"""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.nn.functional import one_hot

from unas_hw.distribution import ArchitectureDistribution, ArchSample
from unas_hw.estimators.base import Relaxed


class StraightThrough(Relaxed):
    """GDAS. All candidates are run, those of weight zero too: their gradient in the weight is not zero."""

    name = "straight-through"

    def relaxation(self, sample: ArchSample, distribution: ArchitectureDistribution) -> Tensor:
        soft = self.backward_of(sample, distribution)
        hard = one_hot(sample.choice, soft.shape[-1]).to(soft.dtype)
        return hard + soft - soft.detach()

    def backward_of(self, sample: ArchSample, distribution: ArchitectureDistribution) -> Tensor:
        """s, ``(B, G, K)``."""
        del distribution
        return sample.relaxed


@final
class BinaryGates(StraightThrough):
    """ProxylessNAS, with all paths in the place of two sampled ones."""

    name = "binary-gates"

    def backward_of(self, sample: ArchSample, distribution: ArchitectureDistribution) -> Tensor:
        return distribution.log_q().exp().expand_as(sample.relaxed)
