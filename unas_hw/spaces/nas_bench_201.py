"""The space of NAS-Bench-201: one cell of four nodes, the same everywhere, whose six edges each choose an operation.

Source: Dong & Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", ICLR 2020
(arXiv 2001.00326), and its released program.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Unpack, final

import numpy as np
from torch import Tensor, nn

from profilers.opspec import Attribute
from profilers.workload import Workload
from unas_hw.errors import ArchitectureError
from unas_hw.ops.nas_bench_201 import EDGES, Cell, Head, ReLUConvBN, ResidualBlock, Zero, avg_pool, live_edges, run_cell
from unas_hw.ops.nas_bench_201 import stem as build_stem
from unas_hw.space import Architecture, Decision, Mask, Paths, Term
from unas_hw.spaces.image_space import Images, ImageSpace
from unas_hw.supernet import IDENTITY_DROPOUT, MixedOp, Path, Supernet, keep_no_statistics, make_constant

NONE, SKIP = "none", "skip_connect"
OPS = (NONE, SKIP, "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
STAGES = 3
_DECISIONS = tuple(Decision(f"{to}<-{source}", OPS) for to, source in EDGES)
_FORM = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"


@final
class NasBench201(ImageSpace):
    """The space for images of 8 pixels or more.

    An edge is dead unless it lies on a path from the cell's input to its output, and networks run live edges only. A
    cell without any gives zeros: such a network can be built, and is not usable. ``none`` and ``skip_connect`` have no
    rows in a table, and neither have the additions in the nodes: calibration takes them up.

    Args:
        name: As in ``ImageSpace``.
        width: Channels of the first stage, doubled in each of the other two; 16 as published.
        cells: Of each stage; 5 as published.
        images: As in ``ImageSpace``.
    """

    def __init__(self, name: str, *, width: int = 16, cells: int = 5, **images: Unpack[Images]) -> None:
        super().__init__(name, **images)
        self.width, self.cells = width, cells

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return _DECISIONS

    @property
    def has_dead_operations(self) -> bool:
        return True

    def live(self, paths_NG: Paths) -> Mask:
        return live_edges(paths_NG != OPS.index(NONE))

    def usable(self, paths_NG: Paths) -> Mask:
        alive: Mask = self.live(paths_NG).sum(1) > 0
        return alive

    @cached_property
    def _stages(self) -> tuple[dict[str, Workload], ...]:
        """What an edge may run, per stage."""
        return tuple(self._stage(stage) for stage in range(STAGES))

    def _stage(self, stage: int) -> dict[str, Workload]:
        width = self.width * 2**stage
        kinds = {f"nor_conv_{k}x{k}": self._conv(stage, width, k) for k in (1, 3)}
        return kinds | {"avg_pool_3x3": self._workload("avg_pool", {"kernel": 3}, stage, width, avg_pool)}

    def _conv(self, stage: int, width: int, kernel: int) -> Workload:
        attrs: dict[str, Attribute] = {"kernel": kernel, "out": width}
        return self._workload("nor_conv", attrs, stage, width, partial(ReLUConvBN, width, width, kernel=kernel))

    @cached_property
    def _between(self) -> tuple[Workload, ...]:
        """What is run before each stage and after the last."""
        channels, size, _ = self.input_shape[1:]
        width, last = self.width, self.width * 2 ** (STAGES - 1)
        stem = partial(build_stem, channels, width)
        widths = [width * 2**stage for stage in range(STAGES - 1)]
        return (
            self.block("conv_bn", {"kernel": 3, "out": width, "stride": 1}, channels, size, stem),
            *(
                self._workload("residual", {"out": 2 * wide, "stride": 2}, stage, wide, partial(ResidualBlock, wide))
                for stage, wide in enumerate(widths)
            ),
            self._workload(
                "bn_classifier", {"classes": self.classes}, STAGES - 1, last, partial(Head, last, self.classes)
            ),
        )

    def _workload(
        self, kind: str, attrs: Mapping[str, Attribute], stage: int, width: int, build: Callable[[], nn.Module]
    ) -> Workload:
        return self.block(kind, attrs, width, -(-self.input_shape[2] // 2**stage), build)

    def terms(self) -> tuple[Term, ...]:
        fixed = [Term((), ((part.key,),)) for part in self._between]
        edges = [
            Term((edge,), tuple((stage[op].key,) if op in stage else () for op in OPS), self.cells)
            for stage in self._stages
            for edge in range(len(EDGES))
        ]
        return (*fixed, *edges)

    def workloads(self) -> tuple[Workload, ...]:
        return (*self._between, *(op for stage in self._stages for op in stage.values()))

    def parts(self, architecture: Architecture) -> tuple[Workload, ...]:
        chosen = [architecture.choices[edge] for edge in _live_edges(self.indices(architecture))]
        parts: list[Workload] = []
        for before, stage in zip(self._between, self._stages, strict=False):
            parts += [before, *[stage[op] for op in chosen if op in stage] * self.cells]
        return (*parts, self._between[-1])

    def network(self, architecture: Architecture) -> nn.Module:
        chosen = {edge: architecture.choices[edge] for edge in _live_edges(self.indices(architecture))}

        def cell(stage: dict[str, Workload]) -> Cell:
            return Cell({edge: stage[op].build() if op in stage else nn.Identity() for edge, op in chosen.items()})

        return nn.Sequential(*self._layers(cell))

    def supernet(self) -> CellSupernet:
        return CellSupernet(self._layers(_MixedCell))

    def _layers(self, cell: Callable[[dict[str, Workload]], nn.Module]) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for before, stage in zip(self._between, self._stages, strict=False):
            layers += [before.build(), *(cell(stage) for _ in range(self.cells))]
        return [*layers, self._between[-1].build()]

    def split(self, text: str) -> list[str]:
        """Also reads the published form, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``; raises ``ArchitectureError``."""
        if "~" not in text:
            return super().split(text)
        edges: list[tuple[int, str]] = []
        choices = []
        for to, node in enumerate(text.split("+"), 1):
            for entry in re.findall(r"[^|\s]+", node):
                op, _, source = entry.partition("~")
                edges.append((to, source))
                choices.append(op)
        if edges != [(to, str(source)) for to, source in EDGES]:
            raise ArchitectureError(
                f"{text!r} is not a cell of {self.name}", mend=f"write {_FORM}, or six operations with commas"
            )
        return choices


def _live_edges(path: Sequence[int]) -> list[int]:
    """Places in ``EDGES`` of what a path runs."""
    places: list[int] = np.flatnonzero(live_edges(np.array([path]) != OPS.index(NONE))[0]).tolist()
    return places


class _MixedCell(nn.Module):
    """A cell with all operations on every edge; a single path runs its live edges only.

    Normalisation on the edges learns no scale and no shift, as in the published searches with shared weights. So zero
    stays zero, and a relaxed path with all weight on one network gives what that network gives: nothing comes out of a
    node that nothing reaches.
    """

    def __init__(self, stage: dict[str, Workload]) -> None:
        super().__init__()
        others: dict[str, Callable[[], nn.Module]] = {NONE: Zero, SKIP: partial(nn.Dropout, IDENTITY_DROPOUT)}
        self.edges = [MixedOp([stage[op].build() if op in stage else others[op]() for op in OPS]) for _ in EDGES]
        for edge, mixed in enumerate(self.edges):
            self.add_module(str(edge), mixed)
        make_constant(self)

    def forward(self, x: Tensor, path: Path) -> Tensor:
        edges = range(len(EDGES)) if isinstance(path, Tensor) else _live_edges(path)
        return run_cell(x, {edge: partial(self.edges[edge], path=path[edge]) for edge in edges})

    def of(self, path: Sequence[int]) -> Cell:
        """The cell of one path, with these very weights."""
        return Cell({edge: self.edges[edge].alone(path[edge]) for edge in _live_edges(path)})


@final
class CellSupernet(Supernet):
    """Layers in a row, some of them cells that share their choices but no weights."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        keep_no_statistics(self)

    def forward(self, x: Tensor, path: Path) -> Tensor:
        for layer in self.layers:
            x = layer(x, path) if isinstance(layer, _MixedCell) else layer(x)
        return x

    def state_of(self, path: Sequence[int]) -> dict[str, Tensor]:
        layers = [layer.of(path) if isinstance(layer, _MixedCell) else layer for layer in self.layers]
        return nn.Sequential(*layers).state_dict()
