"""Workload: an OpSpec and the means to run it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING

from profilers.opspec import OpSpec
from profilers.precision import PRECISIONS

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a workload has to do, by arithmetic: multiply-accumulates of convolutions and matrix products, for the whole
    batch; learned numbers; and the bytes of input, output and weights, once each.
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
        macs, params, moved = _counted(_recipe(self.build), self.op.shape)
        return Cost(macs=macs, params=params, moved_bytes=moved * PRECISIONS[self.op.dtype][1])


@dataclass(frozen=True)
class _Recipe:
    """What builds a module, so that two of the same are equal: partial functions of equal parts are not."""

    parts: tuple[Hashable, ...]
    build: Callable[[], nn.Module] = field(compare=False)


def _recipe(build: Callable[[], nn.Module]) -> _Recipe:
    if isinstance(build, partial):
        parts = (build.func, *build.args, *sorted(build.keywords.items()))
        with suppress(TypeError):  # of a part that has no hash
            hash(parts)
            return _Recipe(parts, build)
    return _Recipe((build,), build)


@lru_cache(1024)  # a command builds its space more than once, and counting takes a second or more
def _counted(recipe: _Recipe, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Multiply-accumulates, parameters, and numbers that are moved; they do not depend on the type."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.no_grad():
        module = recipe.build().eval()
        example = torch.empty(shape)
        with FlopCounterMode(display=False) as counter:
            output = module(example)
    params = sum(p.numel() for p in module.parameters())
    return counter.get_total_flops() // 2, params, example.numel() + output.numel() + params
