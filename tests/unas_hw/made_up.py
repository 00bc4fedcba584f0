"""A space of 96 networks whose terms depend on one decision, on two, in either order, or on none."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, final

import numpy as np
from torch import nn

from profilers.opspec import OpSpec
from profilers.workload import Workload
from unas_hw.ops.mbconv import conv_bn
from unas_hw.space import Architecture, Decision, Mask, Paths, SearchSpace, Term
from unas_hw.supernet import Supernet

COUNTS = (2, 3, 4, 2, 2)
EVERYTHING: list[tuple[int, ...]] = list(itertools.product(*map(range, COUNTS)))


def _conv(out: int, kernel: int) -> Workload:
    op = OpSpec("conv", {"kernel": kernel, "out": out, "stride": 1}, (2, 3, 8, 8))
    return Workload(op, partial(conv_bn, 3, out, kernel=kernel))


class MadeUpSpace(SearchSpace):
    """Decisions 0 and 1 share terms, so do 1 and 4; 2 and 3 have their own, and 3 costs nothing.

    Args:
        dead: Whether choice 0 of decision 2 makes decision 1 dead.
    """

    def __init__(self, *, dead: bool = False) -> None:
        self.name, self.input_shape, self.classes, self.precision = "made-up", (2, 3, 8, 8), 3, "float32"
        self._dead = dead
        self._stem = _conv(2, 1)
        self._shared = [[_conv(out, kernel) for out in outs] for kernel, outs in ((3, (4, 30, 17)), (5, (26, 9, 40)))]
        self._turned = [[_conv(out, 1) for out in outs] for outs in ((12, 34), (37, 6), (22, 15))]
        self._own = [_conv(out, 7) for out in (33, 10, 21)]

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return tuple(Decision(f"d{g}", tuple(map(str, range(count)))) for g, count in enumerate(COUNTS))

    @property
    def has_dead_operations(self) -> bool:
        return self._dead

    def live(self, paths_NG: Paths) -> Mask:
        live_NG = np.ones(paths_NG.shape, bool)
        live_NG[:, 1] = (paths_NG[:, 2] > 0) | (not self._dead)
        return live_NG

    def terms(self) -> tuple[Term, ...]:
        shared = tuple((block.key,) for row in self._shared for block in row)
        turned = tuple((block.key,) for column in zip(*self._turned, strict=True) for block in column)
        own = ((), *((block.key,) for block in self._own))
        return (
            Term((), ((self._stem.key,),), 3),
            Term((0, 1), shared),
            Term((4, 1), turned, 2),
            Term((2,), own),
            Term((2,), own[::-1], 2),
        )

    def workloads(self) -> tuple[Workload, ...]:
        rows = (*self._shared, *self._turned, self._own)
        return (self._stem, *(block for row in rows for block in row))

    def parts(self, architecture: Architecture) -> tuple[Workload, ...]:
        a, b, c, _, e = self.indices(architecture)
        parts = [self._stem] * 3
        if not self._dead or c > 0:
            parts += [self._shared[a][b], *[self._turned[b][e]] * 2]
        own: list[Any] = [None, *self._own]
        return tuple(part for part in (*parts, own[c], *[own[::-1][c]] * 2) if part is not None)

    def network(self, architecture: Architecture) -> nn.Module:
        return nn.ModuleList(part.build() for part in self.parts(architecture))

    def supernet(self) -> Supernet:
        raise AssertionError("nothing trains it")


@final
class PickySpace(MadeUpSpace):
    """The same, but decisions 0 and 3 must not choose the same, and 2 and 4 not both their first."""

    def usable(self, paths_NG: Paths) -> Mask:
        mask: Mask = (paths_NG[:, 0] != paths_NG[:, 3]) & (paths_NG[:, [2, 4]].sum(1) > 0)
        return mask
