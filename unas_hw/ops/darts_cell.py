"""The cell of the DARTS space and the network of cells: every cell takes the outputs of the two layers before it.

Source: Liu, Simonyan & Yang, "DARTS: Differentiable Architecture Search", ICLR 2019 (arXiv 1806.09055), sections 2.1
and 3, and its released program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn

from unas_hw.ops.drop_path import DropPath

INPUTS, NODES, PAIRS = 2, 4, 2
"""Of a cell: nodes 0 and 1 are what it takes, each of the next four is the sum of two operations on earlier ones."""
EDGES = NODES * PAIRS

LayerFunction = Callable[[Tensor | None, Tensor | None], Tensor]
"""A cell: from the outputs of the layer before last and of the last one; None where the cell does not use it."""


def strided_stem(in_channels: int, width: int) -> nn.Module:
    """A quarter of the size in two 3x3 convolutions with batch normalisation, ReLU between them."""
    half = width // 2
    return nn.Sequential(
        nn.Conv2d(in_channels, half, 3, 2, 1, bias=False),
        nn.BatchNorm2d(half),
        nn.ReLU(),
        nn.Conv2d(half, width, 3, 2, 1, bias=False),
        nn.BatchNorm2d(width),
    )


def live_layers(used: Sequence[frozenset[int]]) -> frozenset[int]:
    """Numbers of the layers whose output reaches the network's; -2 and -1 are what the first layer takes.

    ``used`` says per layer which of its two inputs its cell uses.
    """
    live = {len(used) - 1}
    for layer in reversed(range(len(used))):
        if layer in live:
            live |= {layer - INPUTS + source for source in used[layer]}
    return frozenset(live)


def run_layers(x: Tensor, stems: Sequence[nn.Module], cells: Mapping[int, LayerFunction]) -> Tensor:
    """The output of the last layer.

    Args:
        x: Images, ``(N, C, H, W)``.
        stems: One whose output is both inputs of layer 0, or a second one that makes the later input of the first's.
        cells: By the number of their layer, ascending; those that are run.
    """
    first = stems[0](x)
    outputs: dict[int, Tensor] = {-2: first, -1: stems[1](first) if len(stems) > 1 else first}
    for layer, cell in cells.items():
        outputs[layer] = cell(outputs.pop(layer - 2, None), outputs.get(layer - 1))
    return outputs[max(cells)]


@final
class Cell(nn.Module):
    """A cell on its own; its output has the channels of its four nodes.

    Args:
        preprocess: By input, 0 or 1: what brings it to the cell's width and size; of those that the cell uses.
        edges: Operations, two for each node.
        sources: The node that each takes; 0 and 1 are the inputs.
    """

    def __init__(self, preprocess: Mapping[int, nn.Module], edges: Sequence[nn.Module], sources: Sequence[int]) -> None:
        super().__init__()
        self.preprocess = nn.ModuleDict({str(source): module for source, module in preprocess.items()})
        self.edges = nn.ModuleList(edges)
        self.drop = DropPath()
        self.sources = tuple(sources)

    def forward(self, before: Tensor | None, last: Tensor | None) -> Tensor:
        given = (before, last)
        nodes = {int(source): module(given[int(source)]) for source, module in self.preprocess.items()}
        for node in range(NODES):
            one, other = (self._edge(PAIRS * node + pair, nodes) for pair in range(PAIRS))
            nodes[INPUTS + node] = one + other
        return torch.cat([nodes[INPUTS + node] for node in range(NODES)], 1)

    def _edge(self, place: int, nodes: Mapping[int, Tensor]) -> Tensor:
        op = self.edges[place]
        out: Tensor = op(nodes[self.sources[place]])
        return out if isinstance(op, nn.Identity) else self.drop(out)


@final
class CellNetwork(nn.Module):
    """Stems, live cells by the number of their layer, and what makes logits of the last output.

    ``auxiliary_at`` names the cell whose output an auxiliary head can learn from; where that cell is dead there is
    none.
    """

    def __init__(
        self, stems: Sequence[nn.Module], cells: Mapping[int, Cell], head: nn.Module, *, auxiliary: int
    ) -> None:
        super().__init__()
        self.stems = nn.ModuleList(stems)
        self.cells = nn.ModuleDict({str(layer): cell for layer, cell in cells.items()})
        self.head = head
        if auxiliary in cells:
            self.auxiliary_at = f"cells.{auxiliary}"

    def forward(self, x: Tensor) -> Tensor:
        out = run_layers(x, list(self.stems), {int(layer): cell for layer, cell in self.cells.items()})
        logits: Tensor = self.head(out)
        return logits


def connect(
    stems: Sequence[nn.Module],
    used: Sequence[frozenset[int]],
    cell: Callable[[int], Cell],
    head: nn.Module,
) -> CellNetwork:
    """The network of the live layers, each with the cell that ``cell`` makes for it.

    ``used`` says per layer which of its two inputs its cell uses; ``stems`` are as in ``run_layers``, the second left
    out where nothing takes its output.
    """
    live = live_layers(used)
    cells = {layer: cell(layer) for layer in range(len(used)) if layer in live}
    return CellNetwork(stems if -1 in live else stems[:1], cells, head, auxiliary=2 * len(used) // 3)
