"""Workload: an OpSpec and the means to run it."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
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
    """What a workload has to do, by arithmetic, for the whole batch.

    Attributes:
        macs: Multiply-accumulates of convolutions and of products of matrices and vectors, see ``MacCounter``.
        params: Learned numbers.
        moved_bytes: Of input, output and weights, once each.
        not_counted: Operations that ``macs`` lacks, since nobody knows what they compute.
    """

    macs: int
    params: int
    moved_bytes: int
    not_counted: tuple[str, ...] = ()

    @property
    def lacks(self) -> str:
        """What to tell beside ``macs``; empty where nothing lacks."""
        return lacking(self.not_counted)

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            macs=self.macs + other.macs,
            params=self.params + other.params,
            moved_bytes=self.moved_bytes + other.moved_bytes,
            not_counted=tuple(dict.fromkeys((*self.not_counted, *other.not_counted))),
        )


def lacking(not_counted: Sequence[str]) -> str:
    """What to tell of operations that a number of multiply-accumulates lacks; empty where it lacks none."""
    return f"without {', '.join(not_counted)}, whose arithmetic is not known" if not_counted else ""


NOTHING = Cost(macs=0, params=0, moved_bytes=0)


@dataclass(frozen=True)
class Workload:
    """What to measure: a space gives workloads, a profiler takes them.

    Attributes:
        op: Names it; its key is the key of the table's row.
        build: Makes the torch module; called late, so that nothing is built that is not needed.
        parts: The operations a whole network consists of; empty for a single operation.
        beside: What a whole network does besides them.
    """

    op: OpSpec
    build: Callable[[], nn.Module] = field(compare=False, repr=False)
    parts: tuple[Workload, ...] = field(default=(), compare=False, repr=False)
    beside: Cost = field(default=NOTHING, compare=False, repr=False)

    @property
    def key(self) -> str:
        """The table's key."""
        return self.op.key

    @cached_property
    def cost(self) -> Cost:
        """Counted on a module without memory; a network is the sum of its parts, and of what it does besides."""
        if self.parts:
            return sum((part.cost for part in self.parts), self.beside)
        macs, params, moved, not_counted = _counted(_recipe(self.build), self.op.shape)
        moved_bytes = moved * PRECISIONS[self.op.dtype][1]
        return Cost(macs=macs, params=params, moved_bytes=moved_bytes, not_counted=not_counted)


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
def _counted(recipe: _Recipe, shape: tuple[int, ...]) -> tuple[int, int, int, tuple[str, ...]]:
    """Multiply-accumulates, parameters, and numbers that are moved; they do not depend on the type."""
    from profilers.arithmetic import counted

    module, macs, made, not_counted = counted(recipe.build, shape)
    params = sum(p.numel() for p in module.parameters())
    return macs, params, math.prod(shape) + made + params, not_counted
