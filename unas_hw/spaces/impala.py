"""The space of RL-DARTS: the IMPALA macro, its two cells a stage all alike, one decision for each node of the cell.

What a node runs is one choice: its edges, each an operation and its input. That is one edge for the first node and two
with different inputs for the others, as discretising leaves them; so every choice is a cell that can be had, and all of
its operations are live. Source: RL-DARTS (arXiv 2106.02229).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from itertools import combinations, product
from typing import Unpack, final

import torch
from torch import nn

from profilers.opspec import Attribute
from profilers.workload import Workload
from unas_hw.errors import MethodError
from unas_hw.ops import impala
from unas_hw.ops.impala import LISTS, NODES, OPS, SKIP, Cell, Head, Policy, halved
from unas_hw.space import Architecture, Decision, Term
from unas_hw.spaces.image_space import Images, ImageSpace
from unas_hw.supernet import Supernet

Edge = tuple[str, int]
"""Operation and input: 0 is the cell's, 1 the first node, and so on."""
CELLS = 2
"""Of a stage."""
DEPTHS = {"small": (16, 16), "reduced": (8, 16, 16), "full": (16, 32, 32)}
LARGE_FRAMES = 32
"""From so many pixels on the macro has three stages, unless it is said."""


@final
class ImpalaSpace(ImageSpace):
    """Policies for frames from 0 to 1, with actions for classes; sizes that cannot be halved are rounded up.

    The sums in the nodes and the concatenations have no rows in a table: calibration takes them up.

    Args:
        name: As in ``ImageSpace``.
        depths: A name of ``DEPTHS``, channels of the stages; ``auto``: ``small`` for small frames, else ``reduced``.
        ops: A name of ``LISTS``.
        images: As in ``ImageSpace``.
    """

    def __init__(self, name: str, *, depths: str = "auto", ops: str = "micro", **images: Unpack[Images]) -> None:
        super().__init__(name, **images)
        usual = "small" if images["image_size"] < LARGE_FRAMES else "reduced"
        self.depths: tuple[int, ...] = DEPTHS[usual if depths == "auto" else depths]
        self.ops = LISTS[ops]

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return tuple(
            Decision(f"node{node}", tuple(map(written, choices))) for node, choices in enumerate(self.edges, 1)
        )

    @cached_property
    def edges(self) -> tuple[tuple[tuple[Edge, ...], ...], ...]:
        """Of each node its choices, in the order of the decision's."""
        found = []
        for node in range(1, NODES + 1):
            sources = combinations(range(node), min(2, node))
            found.append(
                tuple(
                    tuple(zip(ops, pair, strict=True))
                    for pair in sources
                    for ops in product(self.ops, repeat=len(pair))
                )
            )
        return tuple(found)

    @property
    def baseline(self) -> Policy:
        """IMPALA-CNN of the same stages, freshly initialised: what cells are compared with."""
        return impala.impala_cnn(self.input_shape[1:], self.depths, self.classes)

    @cached_property
    def _begins(self) -> tuple[Workload, ...]:
        before = (self.input_shape[1], *self.depths)
        return tuple(
            self._workload("conv_pool", {"out": depth}, given, number, partial(impala.stage, given, depth))
            for number, (given, depth) in enumerate(zip(before, self.depths, strict=False))
        )

    @cached_property
    def _stages(self) -> tuple[Mapping[str, Workload | None], ...]:
        """The operations of each stage's cells."""
        return tuple(
            {
                op: None if op == SKIP else self._workload(op, {}, depth, number, partial(OPS[op], depth))
                for op in self.ops
            }
            for number, depth in enumerate(self.depths, 1)
        )

    @cached_property
    def _outs(self) -> tuple[Workload, ...]:
        return tuple(
            self._workload("conv", {"kernel": 1, "out": depth}, NODES * depth, number, partial(_joined, depth))
            for number, depth in enumerate(self.depths, 1)
        )

    @cached_property
    def _norms(self) -> tuple[Workload, ...]:
        return tuple(
            self._workload("frame_norm", {}, depth, number, partial(impala.frame_norm, depth))
            for number, depth in enumerate(self.depths, 1)
        )

    @cached_property
    def _head(self) -> Workload:
        times = len(self.depths)
        build = partial(Head, self.depths[-1], halved(self.input_shape[2], times), self.classes)
        return self._workload("policy_head", {"actions": self.classes}, self.depths[-1], times, build)

    def _workload(
        self, kind: str, attrs: Mapping[str, Attribute], channels: int, halvings: int, build: Callable[[], nn.Module]
    ) -> Workload:
        return self.block(kind, attrs, channels, halved(self.input_shape[2], halvings), build)

    def terms(self) -> tuple[Term, ...]:
        fixed = [Term((), ((part.key,),)) for part in (*self._begins, self._head)]
        fixed += [Term((), ((part.key,),), CELLS) for part in self._outs]
        fixed += [Term((), ((part.key,),), CELLS * NODES) for part in self._norms]
        chosen = [
            Term((node,), tuple(_keys(ops, choice) for choice in choices), CELLS)
            for node, choices in enumerate(self.edges)
            for ops in self._stages
        ]
        return (*fixed, *chosen)

    def workloads(self) -> tuple[Workload, ...]:
        ops = [each for stage in self._stages for each in stage.values() if each is not None]
        return tuple(dict.fromkeys([*self._begins, *ops, *self._norms, *self._outs, self._head]))

    def parts(self, architecture: Architecture) -> tuple[Workload, ...]:
        found: list[Workload] = []
        cell = self.cell(architecture)
        for begin, ops, norm, out in zip(self._begins, self._stages, self._norms, self._outs, strict=True):
            inside = [block for edges in cell for op, _ in edges if (block := ops[op]) is not None]
            found += [begin, *CELLS * [*inside, *NODES * [norm], out]]
        return (*found, self._head)

    def cell(self, architecture: Architecture) -> tuple[tuple[Edge, ...], ...]:
        """The edges of each node."""
        return tuple(choices[index] for choices, index in zip(self.edges, self.indices(architecture), strict=True))

    def network(self, architecture: Architecture) -> Policy:
        cell = self.cell(architecture)
        return self._policy(lambda depth: Cell(depth, cell))

    def mixed(self) -> tuple[Policy, nn.Parameter]:
        """The supernet of RL-DARTS, every cell an ``impala.MixedCell``, and their logits ``(E, O + 1)``."""
        alpha_EO = nn.Parameter(torch.zeros(impala.EDGES, len(self.ops) + 1))
        return self._policy(lambda depth: impala.MixedCell(depth, self.ops, alpha_EO)), alpha_EO

    def _policy(self, cell: Callable[[int], nn.Module]) -> Policy:
        cells = [[cell(depth) for _ in range(CELLS)] for depth in self.depths]
        head = self._head.build()
        assert isinstance(head, Head)
        return Policy([begin.build() for begin in self._begins], cells, head)

    def supernet(self) -> Supernet:
        raise MethodError(
            f"{self.name} is searched by playing, not with labelled images",
            mend="unas-hw search --task minatar:breakout",
        )


def written(edges: Sequence[Edge]) -> str:
    """A choice: ``conv_3x3.0+relu.1``."""
    return "+".join(f"{op}.{source}" for op, source in edges)


def _keys(ops: Mapping[str, Workload | None], edges: Sequence[Edge]) -> tuple[str, ...]:
    return tuple(block.key for op, _ in edges if (block := ops[op]) is not None)


def _joined(depth: int) -> nn.Module:
    """The convolution at the end of a cell."""
    return nn.Conv2d(NODES * depth, depth, 1)
