"""The supernet of the DARTS space: one operation of each kind per node and input, which the node's two pairs share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from typing import final

import torch
from torch import Tensor, nn

from unas_hw.ops.darts_cell import EDGES, INPUTS, NODES, PAIRS, Cell, connect, run_layers
from unas_hw.supernet import MixedOp, Path, Supernet, keep_no_statistics, make_constant

Pairs = Sequence[tuple[int, int]]
"""Of a cell: input and operation of each of its edges, two edges for each node."""


@final
class MixedCell(nn.Module):
    """A cell with all operations from every earlier node.

    Normalisation in it learns no scale and no shift, as in DARTS: else a scale could stand in for a weight of the path.

    Args:
        preprocess: What brings the two inputs to the cell's width and size.
        nodes: Per node and earlier node, the operations.
    """

    def __init__(self, preprocess: Sequence[nn.Module], nodes: Sequence[Sequence[Sequence[nn.Module]]]) -> None:
        super().__init__()
        self.preprocess = nn.ModuleList(preprocess)
        self.mixed = [[MixedOp(ops) for ops in sources] for sources in nodes]
        self.nodes = nn.ModuleList(nn.ModuleList(sources) for sources in self.mixed)
        make_constant(self)

    def forward(self, before: Tensor | None, last: Tensor | None, path: Sequence[Tensor] | Pairs) -> Tensor:
        """``path``: per node the ``(inputs, ops)`` weights of its edges, or what each edge has chosen."""
        nodes: list[Tensor] = [module(x) for module, x in zip(self.preprocess, (before, last), strict=True)]
        for number, sources in enumerate(self.mixed):
            chosen = path[number]
            if isinstance(chosen, Tensor):
                made = [ops(x, weights) for ops, x, weights in zip(sources, nodes, chosen, strict=True)]
            else:
                pairs = path[PAIRS * number : PAIRS * (number + 1)]
                made = [sources[source](nodes[source], op) for source, op in pairs]
            nodes.append(reduce(torch.add, made))
        return torch.cat(nodes[INPUTS:], 1)

    def of(self, pairs: Pairs) -> Cell:
        """The cell of one path, with these very weights."""
        sources = [source for source, _ in pairs]
        edges = [self.mixed[place // PAIRS][source].candidates[op] for place, (source, op) in enumerate(pairs)]
        return Cell({i: module for i, module in enumerate(self.preprocess) if i in sources}, edges, sources)


@final
class DartsSupernet(Supernet):
    """Mixed cells, the normal ones on the first half of a path, the reducing ones on the second.

    ``stems`` as in ``run_layers``, then for each layer its cell and whether it is a reducing one; the head makes
    logits.
    """

    def __init__(
        self, stems: Sequence[nn.Module], cells: Sequence[MixedCell], reduces: Sequence[bool], head: nn.Module
    ) -> None:
        super().__init__()
        self.stems = nn.ModuleList(stems)
        self.cells = nn.ModuleList(cells)
        self.mixed = list(cells)
        self.reduces = tuple(reduces)
        self.head = head
        keep_no_statistics(self)

    def forward(self, x: Tensor, path: Path) -> Tensor:
        chosen = self._weights(path) if isinstance(path, Tensor) else cell_pairs(path)
        cells = {
            layer: partial(cell, path=chosen[reduces])
            for layer, (cell, reduces) in enumerate(zip(self.mixed, self.reduces, strict=True))
        }
        logits: Tensor = self.head(run_layers(x, list(self.stems), cells))
        return logits

    def _weights(self, path_GK: Tensor) -> list[list[Tensor]]:
        """Per cell and node the ``(inputs, ops)`` weights: the sum over pairs of input (x) operation."""
        ops = len(self.mixed[0].mixed[0][0].candidates)
        pairs = path_GK.reshape(2, NODES, PAIRS, 2, -1)
        weights = torch.einsum("cnpi,cnpo->cnio", pairs[..., 0, :], pairs[..., 1, :ops])
        return [[weights[cell, node, : INPUTS + node] for node in range(NODES)] for cell in range(2)]

    def state_of(self, path: Sequence[int]) -> dict[str, Tensor]:
        pairs = cell_pairs(path)
        network = connect(
            list(self.stems),
            [used_inputs(pairs[reduces]) for reduces in self.reduces],
            lambda layer: self.mixed[layer].of(pairs[self.reduces[layer]]),
            self.head,
        )
        return network.state_dict()


def cell_pairs(path: Sequence[int]) -> tuple[Pairs, Pairs]:
    """What the edges of the normal and of the reducing cell have chosen."""
    pairs = list(zip(path[::2], path[1::2], strict=True))
    return pairs[:EDGES], pairs[EDGES:]


def used_inputs(pairs: Sequence[tuple[int, object]]) -> frozenset[int]:
    """Which of its two inputs a cell takes."""
    return frozenset(source for source, _ in pairs if source < INPUTS)
