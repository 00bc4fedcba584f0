"""Workload: an OpSpec and the means to run it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from profilers.opspec import OpSpec
from profilers.precision import PRECISIONS

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a workload has to do, by arithmetic.

    Attributes:
        macs: Multiply-accumulates of convolutions and matrix products, for the whole batch.
        params: Learned numbers.
        moved_bytes: Input, output and weights, once each.
    """

    macs: int
    params: int
    moved_bytes: int


@dataclass(frozen=True)
class Workload:
    """What to measure: a space gives workloads, a profiler takes them.

    Attributes:
        op: Names it; its key is the key of the table's row.
        build: Makes the torch module; called late, so that nothing is built that is not needed.
        parts: The operations a whole network consists of; empty for a single operation.
    """

    op: OpSpec
    build: Callable[[], nn.Module] = field(compare=False, repr=False)
    parts: tuple[Workload, ...] = field(default=(), compare=False, repr=False)

    @property
    def key(self) -> str:
        """The table's key."""
        return self.op.key

    @cached_property
    def cost(self) -> Cost:
        """Counted on a module without memory; a network is the sum of its parts."""
        if self.parts:
            costs = [part.cost for part in self.parts]
            return Cost(
                macs=sum(cost.macs for cost in costs),
                params=sum(cost.params for cost in costs),
                moved_bytes=sum(cost.moved_bytes for cost in costs),
            )
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        with torch.device("meta"), torch.no_grad():  # what is counted does not depend on the type
            module = self.build().eval()
            example = torch.empty(self.op.shape)
            with FlopCounterMode(display=False) as counter:
                output = module(example)
        params = sum(p.numel() for p in module.parameters())
        moved = example.numel() + output.numel() + params
        return Cost(
            macs=counter.get_total_flops() // 2, params=params, moved_bytes=moved * PRECISIONS[self.op.dtype][1]
        )
