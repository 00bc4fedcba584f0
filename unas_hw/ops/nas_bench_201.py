"""Parts of the networks of NAS-Bench-201: operations of an edge, the cell, residual block and classifier.

Source: Dong & Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", ICLR 2020
(arXiv 2001.00326), section 2 and the released program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

NODES = 4
EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
"""To and from which node; node 0 is the cell's input, the last one its output."""


def live_edges(present_NE: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``(N, 6)``: whether an edge lies on a path of present edges ``(N, 6)`` from a cell's input to its output."""
    reached = np.zeros((len(present_NE), NODES), bool)
    leads_out = np.zeros((len(present_NE), NODES), bool)
    reached[:, 0] = leads_out[:, -1] = True
    for edge, (to, source) in enumerate(EDGES):  # in the order of the nodes, so each is complete before it is used
        reached[:, to] |= present_NE[:, edge] & reached[:, source]
    for edge, (to, source) in reversed(list(enumerate(EDGES))):
        leads_out[:, source] |= present_NE[:, edge] & leads_out[:, to]
    to, source = np.array(EDGES).T
    live: NDArray[np.bool_] = present_NE & reached[:, source] & leads_out[:, to]
    return live


def run_cell(x: Tensor, edges: Mapping[int, Callable[[Tensor], Tensor]]) -> Tensor:
    """The last node of a cell: every node is the sum of what its edges make of earlier nodes.

    Args:
        x: Node 0, ``(N, C, H, W)``.
        edges: By their place in ``EDGES``; those that are run. Each comes from a node that is reached.
    """
    nodes: list[Tensor | None] = [x, *[None] * (NODES - 1)]
    for edge, (to, source) in enumerate(EDGES):
        if edge in edges:
            before, sofar = nodes[source], nodes[to]
            assert before is not None
            made = edges[edge](before)
            nodes[to] = made if sofar is None else sofar + made
    out = nodes[-1]
    return nothing(x) if out is None else out


def nothing(x: Tensor) -> Tensor:
    """Zeros in the shape of x, made of x as published: an exporter that saw a constant would drop the input."""
    return 0.0 * x


@final
class Cell(nn.Module):
    """A cell on its own: its live edges, by their place in ``EDGES``; without any its output is zero."""

    def __init__(self, edges: Mapping[int, nn.Module]) -> None:
        super().__init__()
        self.edges = nn.ModuleDict({str(edge): op for edge, op in edges.items()})

    def forward(self, x: Tensor) -> Tensor:
        return run_cell(x, {int(edge): op for edge, op in self.edges.items()})


@final
class Zero(nn.Module):
    """``none``: nothing, in the shape of the input."""

    def forward(self, x: Tensor) -> Tensor:
        return nothing(x)


@final
class ReLUConvBN(nn.Module):
    """``nor_conv``: ReLU, convolution without bias, batch normalisation; padded by half the kernel."""

    nests = True

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(self.act(x)))
        return out


def avg_pool() -> nn.Module:
    """``avg_pool_3x3``: the mean of the positions there are, at the border of fewer."""
    return nn.AvgPool2d(3, 1, 1, count_include_pad=False)


def stem(in_channels: int, width: int) -> nn.Module:
    """3x3 convolution and batch normalisation."""
    return nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))


@final
class ResidualBlock(nn.Module):
    """Between stages: halves the size, rounding up, and doubles the width.

    Where the size is odd the last row and column of the shortcut's pooling are means of what is there; published is
    even sizes only.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        width = 2 * in_channels
        self.conv_a = ReLUConvBN(in_channels, width, kernel=3, stride=2)
        self.conv_b = ReLUConvBN(width, width, kernel=3)
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=True)
        self.shortcut = nn.Conv2d(in_channels, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shortcut(self.pool(x)) + self.conv_b(self.conv_a(x))
        return out


@final
class Head(nn.Module):
    """Batch normalisation, ReLU, global average pooling and one linear layer: ``(N, C, H, W)`` to ``(N, classes)``."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.act = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(in_channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.pool(self.act(self.bn(x))).flatten(1))
        return logits
