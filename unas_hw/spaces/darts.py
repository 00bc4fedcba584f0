"""The DARTS space as UNAS factorises it: a normal and a reducing cell, shared by all layers.

A cell has four nodes, a node two pairs of independent decisions: the input, any earlier node, and the operation; the
weight of an edge is the outer product of both. Source: UNAS (arXiv 1912.07651), appendix; DARTS (arXiv 1806.09055).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Unpack, final

from torch import Tensor, nn

from profilers.opspec import Attribute
from profilers.workload import Workload
from unas_hw.ops import darts
from unas_hw.ops.darts_cell import EDGES, INPUTS, NODES, PAIRS, Cell, CellNetwork, connect, live_layers, strided_stem
from unas_hw.ops.mbconv import Classifier
from unas_hw.ops.nas_bench_201 import stem as plain_stem
from unas_hw.space import Architecture, Decision, Mask, Paths, Term
from unas_hw.spaces.darts_supernet import DartsSupernet, MixedCell, used_inputs
from unas_hw.spaces.genotypes import CELLS, Genotype, genotype_of, read_genotype
from unas_hw.spaces.image_space import Images, ImageSpace

LARGE_IMAGES = 128
"""From so many pixels on the stem is that for ImageNet, unless it is said."""


@dataclass(frozen=True)
class Layer:
    """What a layer may run: by operation an edge from one of the cell's inputs, or from one of its own nodes; None is
    nothing.
    """

    reduces: bool
    preprocess: tuple[Workload, Workload]
    from_inputs: Mapping[str, Workload | None]
    from_nodes: Mapping[str, Workload | None]

    def edge(self, op: str, source: int) -> Workload | None:
        return (self.from_inputs if source < INPUTS else self.from_nodes)[op]

    def build(self, op: str, source: int) -> nn.Module:
        block = self.edge(op, source)
        return block.build() if block else nn.Identity()


@final
class DartsSpace(ImageSpace):
    """The space for images of any size; sizes that cannot be halved are rounded up.

    Usable are networks both of whose cells use both of their inputs. In others preprocessings or whole layers are dead:
    those networks are built, and their parts are listed, without what is dead; the terms count it. The sums in the
    nodes and the concatenations have no rows in a table: calibration takes them up.
    Long, as it is one subject: terms, parts, networks and supernet all list the operations that a layer may run.

    Args:
        name: As in ``ImageSpace``.
        width: Channels of a node in the first layers; doubled at a third and at two thirds of the layers.
        layers: Three or more.
        stem: ``cifar``: one convolution to three times the width; ``imagenet``: three that leave an eighth of the size;
            ``auto``: the latter from 128 pixels on.
        ops: Operations to choose among, one of ``darts.LISTS``: ``7`` as in UNAS, ``5`` the first of them, ``darts``
            those of DARTS, ``all``. Networks are built of any.
        images: As in ``ImageSpace``.
    """

    def __init__(
        self,
        name: str,
        *,
        width: int = 16,
        layers: int = 8,
        stem: str = "auto",
        ops: str = "7",
        **images: Unpack[Images],
    ) -> None:
        super().__init__(name, **images)
        self.width, self.depth = width, layers
        self.stem = stem if stem != "auto" else "cifar" if images["image_size"] < LARGE_IMAGES else "imagenet"
        self.ops = darts.LISTS[ops]

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return self._decisions

    @cached_property
    def _decisions(self) -> tuple[Decision, ...]:
        found = []
        for cell in CELLS:
            for node in range(NODES):
                sources = tuple(map(str, range(INPUTS + node)))
                for pair in "ab"[:PAIRS]:
                    place = f"{cell}.{INPUTS + node}{pair}"
                    found += [Decision(f"{place}.input", sources), Decision(f"{place}.op", self.ops)]
        return tuple(found)

    def usable(self, paths_NG: Paths) -> Mask:
        sources = paths_NG[:, ::2].reshape(len(paths_NG), len(CELLS), EDGES)
        used: Mask = ((sources == 0).any(2) & (sources == 1).any(2)).all(1)
        return used

    def duplicate_edges(self, relaxed_GK: Tensor) -> Tensor:
        """UNAS's R(z): summed over nodes, the inner product of its two edges, each the outer product input (x) op.

        For a discrete path the number of nodes both of whose edges are the same. ``(..., G, K)`` to ``(...)``.
        """
        nodes: Tensor = relaxed_GK.unflatten(-2, (len(CELLS) * NODES, PAIRS, 2))  # then inputs and operations
        return nodes.prod(-3).sum(-1).prod(-1).sum(-1)

    @cached_property
    def _stems(self) -> tuple[Workload, ...]:
        """What layer 0 gets: the output of the first as the earlier of its inputs, of the last as the later."""
        channels, size, _ = self.input_shape[1:]
        if self.stem == "cifar":
            attrs = {"kernel": 3, "out": 3 * self.width, "stride": 1}
            return (self.block("conv_bn", attrs, channels, size, partial(plain_stem, channels, 3 * self.width)),)
        build = partial(darts.ReLUConvBN, self.width, self.width, kernel=3, stride=2)
        return (
            self.block(
                "strided_stem", {"out": self.width}, channels, size, partial(strided_stem, channels, self.width)
            ),
            self.block("nor_conv", {"kernel": 3, "out": self.width, "stride": 2}, self.width, _halved(size, 2), build),
        )

    @cached_property
    def _layers(self) -> tuple[Layer, ...]:
        size, reducing = self.input_shape[2], {self.depth // 3, 2 * self.depth // 3}
        cifar = self.stem == "cifar"
        before = last = 3 * self.width if cifar else self.width
        before_size, size = (size, size) if cifar else (_halved(size, 2), _halved(size, 3))
        width, found = self.width, []
        for number in range(self.depth):
            reduces = number in reducing
            width *= 1 + reduces
            preprocess = (
                self._convolved(before, width, size)
                if before_size == size
                else self._halving(before, width, before_size),
                self._convolved(last, width, size),
            )
            inside = _halved(size, int(reduces))
            found.append(
                Layer(
                    reduces,
                    preprocess,
                    {op: self._edge(op, width, size, 1 + reduces) for op in darts.LISTS["all"]},
                    {op: self._edge(op, width, inside, 1) for op in darts.LISTS["all"]},
                )
            )
            before, last, before_size, size = last, NODES * width, size, inside
        return tuple(found)

    @cached_property
    def _head(self) -> Workload:
        last = self._layers[-1]
        inside = last.preprocess[1].op
        channels, size = NODES * int(inside.attrs["out"]), _halved(inside.shape[2], int(last.reduces))
        build = partial(Classifier, channels, self.classes)
        return self.block("classifier", {"classes": self.classes}, channels, size, build)

    def _edge(self, op: str, width: int, size: int, stride: int) -> Workload | None:
        if op == "skip_connect":
            return None if stride == 1 else self._halving(width, width, size)
        kind, _, kernel = op.rpartition("_")
        attrs: dict[str, Attribute] = {"stride": stride}
        if kind.endswith("_pool"):
            kind, attrs = "pool_bn", {"kernel": 3, "mode": kind.removesuffix("_pool"), "stride": stride}
        elif kind != "conv_7x1":
            attrs["kernel"] = int(kernel[0])
        return self.block(kind, attrs, width, size, partial(darts.build, op, width, stride))

    def _convolved(self, channels: int, width: int, size: int) -> Workload:
        build = partial(darts.ReLUConvBN, channels, width, kernel=1)
        return self.block("nor_conv", {"kernel": 1, "out": width}, channels, size, build)

    def _halving(self, channels: int, width: int, size: int) -> Workload:
        build = partial(darts.FactorizedReduce, channels, width)
        return self.block("factorized_reduce", {"out": width}, channels, size, build)

    def terms(self) -> tuple[Term, ...]:
        fixed = [*self._stems, *(part for layer in self._layers for part in layer.preprocess), self._head]
        found = [Term((), ((key,),), count) for key, count in Counter(part.key for part in fixed).items()]
        normal = Counter(self._keys(layer, 0) for layer in self._layers if not layer.reduces)
        for edge in range(EDGES):  # every input costs the same
            found += [Term((2 * edge + 1,), keys, count) for keys, count in normal.items()]
        for edge in range(EDGES):  # only from the cell's inputs the size is halved
            sources, decision = range(INPUTS + edge // PAIRS), 2 * (EDGES + edge)
            for layer in filter(lambda layer: layer.reduces, self._layers):
                keys = tuple(each for source in sources for each in self._keys(layer, source))
                found.append(Term((decision, decision + 1), keys))
        return tuple(found)

    def _keys(self, layer: Layer, source: int) -> tuple[tuple[str, ...], ...]:
        blocks = [layer.edge(op, source) for op in self.ops]
        return tuple((block.key,) if block else () for block in blocks)

    def workloads(self) -> tuple[Workload, ...]:
        found = [*self._stems]
        for layer in self._layers:
            edges = [layer.edge(op, source) for source in (0, INPUTS) for op in self.ops]
            found += [*layer.preprocess, *(block for block in edges if block)]
        return tuple(dict.fromkeys([*found, self._head]))

    def parts(self, architecture: Architecture) -> tuple[Workload, ...]:
        cells = _cells(architecture)
        used = self._used(cells)
        live = live_layers(used)
        found = [*(self._stems if -1 in live else self._stems[:1])]
        for number, layer in enumerate(self._layers):
            if number in live:
                found += [layer.preprocess[source] for source in sorted(used[number])]
                edges = [layer.edge(op, source) for op, source in cells[layer.reduces]]
                found += [block for block in edges if block]
        return (*found, self._head)

    def network(self, architecture: Architecture) -> CellNetwork:
        cells = _cells(architecture)
        used = self._used(cells)

        def cell(number: int) -> Cell:
            layer = self._layers[number]
            edges = cells[layer.reduces]
            return Cell(
                {source: layer.preprocess[source].build() for source in sorted(used[number])},
                [layer.build(op, source) for op, source in edges],
                [source for _, source in edges],
            )

        return connect([stem.build() for stem in self._stems], used, cell, self._head.build())

    def _used(self, cells: Sequence[Sequence[tuple[str, int]]]) -> list[frozenset[int]]:
        """Per layer, which of its inputs its cell uses."""
        used = [used_inputs([(source, op) for op, source in edges]) for edges in cells]
        return [used[layer.reduces] for layer in self._layers]

    def supernet(self) -> DartsSupernet:
        def cell(layer: Layer) -> MixedCell:
            nodes = [
                [[layer.build(op, source) for op in self.ops] for source in range(INPUTS + node)]
                for node in range(NODES)
            ]
            return MixedCell([part.build() for part in layer.preprocess], nodes)

        cells = [cell(layer) for layer in self._layers]
        reduces = [layer.reduces for layer in self._layers]
        return DartsSupernet([stem.build() for stem in self._stems], cells, reduces, self._head.build())

    def parse(self, text: str) -> Architecture:
        """Also reads a genotype, as text, as JSON or in a file.

        One with operations that this space does not choose among becomes an architecture of the space that does, which
        is this one but for its option ``ops``; this space builds and prices it all the same.
        """
        genotype = read_genotype(text)
        if genotype is None:
            return super().parse(text)
        return Architecture(self._offering(genotype), genotype.choices)

    def _offering(self, genotype: Genotype) -> str:
        if genotype.ops <= set(self.ops):
            return self.name
        base = re.sub(r"[?&]ops=\w+$", "", self.name)  # the last option in a name
        return base if genotype.option == "7" else f"{base}{'&' if '?' in base else '?'}ops={genotype.option}"


def _cells(architecture: Architecture) -> tuple[tuple[tuple[str, int], ...], ...]:
    """Operation and input of each edge of the normal and of the reducing cell."""
    genotype = genotype_of(architecture)
    return genotype.normal, genotype.reduce


def _halved(size: int, times: int) -> int:
    """So often, rounded up."""
    return -(-size >> times)
