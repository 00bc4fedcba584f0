"""Blocks of policies that see images: the IMPALA macro, its residual blocks, and the cells of RL-DARTS in their place.

Sources: Espeholt et al. 2018, "IMPALA" (arXiv 1802.01561), figure 3; RL-DARTS (arXiv 2106.02229): a cell has one input
and four nodes, its output is their concatenation and a 1x1 convolution. While searching a node is normalised by the
statistics of the batch. In a discrete cell it is by those of its own frame: acting and learning see other batches, and
a policy that ships sees one frame. That is our reading; the paper does not say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

NODES = 4
EDGES = NODES * (NODES + 1) // 2
HIDDEN = 256
SKIP = "skip"


def _conv(channels: int, copies: int, kernel: int = 3, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, copies * channels, kernel, padding=dilation * (kernel // 2), dilation=dilation)


def _conv_relu(kernel: int, dilation: int, channels: int, copies: int = 1) -> nn.Module:
    return nn.Sequential(_conv(channels, copies, kernel, dilation), nn.ReLU())


OPS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        "conv_3x3_relu": partial(_conv_relu, 3, 1),
        "dil_conv_3x3_relu": partial(_conv_relu, 3, 2),
        "conv_5x5_relu": partial(_conv_relu, 5, 1),
        "dil_conv_5x5_relu": partial(_conv_relu, 5, 2),
        "conv_3x3": lambda channels, copies=1: _conv(channels, copies),
        "relu": lambda channels, copies=1: nn.ReLU(),
        "tanh": lambda channels, copies=1: nn.Tanh(),
        SKIP: lambda channels, copies=1: nn.Identity(),
    }
)
"""By name, of so many channels in and out, or so many of them side by side on the same input, where they have weights.

``zero`` is none of them: nothing is run for it.
"""
LISTS = {
    "micro": ("conv_3x3", "relu", "tanh", SKIP),
    "classic": ("conv_3x3_relu", "dil_conv_3x3_relu", "conv_5x5_relu", "dil_conv_5x5_relu", SKIP),
}
"""What there is to choose among, both of them with ``zero`` while searching."""


def stage(in_channels: int, channels: int) -> nn.Sequential:
    """What a stage begins with: ``(N, in_channels, H, W)`` to ``(N, channels, H / 2, W / 2)``, rounded up."""
    return nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1), nn.MaxPool2d(3, 2, 1))


def frame_norm(channels: int) -> nn.GroupNorm:
    """A node's normalisation, by mean and deviation over all channels of its frame; without parameters."""
    return nn.GroupNorm(1, channels, affine=False)


@final
class Residual(nn.Module):
    """The block of IMPALA-CNN: ReLU and convolution, twice, and the input added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = _conv(channels, 1), _conv(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        inside: Tensor = self.second(torch.relu(self.first(torch.relu(x))))
        return x + inside


@final
class Cell(nn.Module):
    """A discrete cell: of each node its edges, an operation and its input, 0 the cell's, 1 the first node ..."""

    def __init__(self, channels: int, nodes: Sequence[Sequence[tuple[str, int]]]) -> None:
        super().__init__()
        self.sources = [[source for _, source in edges] for edges in nodes]
        self.ops = nn.ModuleList(nn.ModuleList(OPS[op](channels) for op, _ in edges) for edges in nodes)
        self.norm = frame_norm(channels)
        self.out = nn.Conv2d(len(nodes) * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        states = [x]
        for ops, sources in zip(self.ops, self.sources, strict=True):
            assert isinstance(ops, nn.ModuleList)
            made = [op(states[source]) for op, source in zip(ops, sources, strict=True)]
            states.append(self.norm(made[0] if len(made) == 1 else made[0] + made[1]))
        out: Tensor = self.out(torch.cat(states[1:], 1))
        return out


@final
class MixedCell(nn.Module):
    """All cells at once: every node is the sum over all earlier ones of all operations, by their probabilities.

    ``alpha_EO`` are logits of each edge, (0, 1), (0, 2), (1, 2), (0, 3) ..., for these operations and ``zero``; all
    cells share them.
    """

    def __init__(self, channels: int, ops: Sequence[str], alpha_EO: nn.Parameter) -> None:
        super().__init__()
        self.alpha = alpha_EO
        weighted = [op for op in ops if any(True for _ in OPS[op](1).parameters())]
        self.weighted = [ops.index(op) for op in weighted]
        self.free = [number for number in range(len(ops)) if number not in self.weighted]
        self.convs = nn.ModuleList(
            nn.ModuleList(OPS[op](channels, NODES - state) for op in weighted) for state in range(NODES)
        )
        self.functions = nn.ModuleList(OPS[ops[number]](channels) for number in self.free)
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(channels, affine=False, track_running_stats=False) for _ in range(NODES)
        )
        self.out = nn.Conv2d(NODES * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """A third of the time of one operation after another: what one state gives all later nodes is made at once.

        A probability scales the filters instead of what they give, which is the same, also through a ReLU.
        """
        p_EO, nodes = self.alpha.softmax(1), [torch.zeros_like(x) for _ in range(NODES)]
        for state, (convs, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            assert isinstance(convs, nn.ModuleList)
            p_KO = p_EO[[node * (node + 1) // 2 + state for node in range(state, NODES)]]
            made = [
                _scaled(conv, p_KO[:, op], x).chunk(len(p_KO), 1) for conv, op in zip(convs, self.weighted, strict=True)
            ]
            free = torch.stack([function(x).permute(0, 2, 3, 1) for function in self.functions])
            mixed = torch.tensordot(p_KO[:, self.free], free, 1).permute(0, 1, 4, 2, 3)
            for number, node in enumerate(range(state, NODES)):
                nodes[node] = sum((each[number] for each in made), nodes[node] + mixed[number])
            x = nodes[state] = norm(nodes[state])
        out: Tensor = self.out(torch.cat(nodes, 1))
        return out


def _scaled(op: nn.Module, p_K: Tensor, x: Tensor) -> Tensor:
    """K copies of a convolution side by side, with a ReLU or without, each times its probability."""
    conv = op[0] if isinstance(op, nn.Sequential) else op
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    p = p_K.repeat_interleave(len(conv.bias) // len(p_K))
    out = conv2d(x, conv.weight * p[:, None, None, None], conv.bias * p, 1, conv.padding, conv.dilation)
    return out.relu() if isinstance(op, nn.Sequential) else out


@final
class Head(nn.Module):
    """Flattens, and gives a logit for each action; ``both`` gives the value of the state too."""

    def __init__(self, in_channels: int, side: int, actions: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels * side * side, HIDDEN)
        self.policy, self.value = nn.Linear(HIDDEN, actions), nn.Linear(HIDDEN, 1)
        nn.init.orthogonal_(self.policy.weight, 0.01)  # the first policy tries everything
        nn.init.zeros_(self.policy.bias)

    def hidden(self, x: Tensor) -> Tensor:
        return torch.relu(self.linear(torch.relu(x.flatten(1))))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.policy(self.hidden(x))
        return logits

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, actions)`` and ``(N,)``."""
        hidden = self.hidden(x)
        return self.policy(hidden), self.value(hidden).squeeze(1)


@final
class Policy(nn.Module):
    """The macro: stages of a convolution, a pooling and two cells, then the head."""

    def __init__(self, stages: Sequence[nn.Module], cells: Sequence[Sequence[nn.Module]], head: Head) -> None:
        super().__init__()
        self.stages, self.head = nn.ModuleList(stages), head
        self.cells = nn.ModuleList(nn.Sequential(*pair) for pair in cells)

    def encode(self, x: Tensor) -> Tensor:
        for begin, cells in zip(self.stages, self.cells, strict=True):
            x = cells(begin(x))
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the actions ``(N, A)`` for frames ``(N, C, H, W)`` with values from 0 to 1."""
        logits: Tensor = self.head(self.encode(x))
        return logits

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(N, A)`` and values ``(N,)``, as ``Ppo`` takes them."""
        return self.head.both(self.encode(x))


def halved(size: int, times: int) -> int:
    """So often, rounded up."""
    return -(-size >> times)


def impala_cnn(image_shape: tuple[int, int, int], depths: Sequence[int], actions: int) -> Policy:
    """The policy of IMPALA, two residual blocks a stage: what cells are compared with."""
    before = (image_shape[0], *depths)
    return Policy(
        [stage(given, depth) for given, depth in zip(before, depths, strict=False)],
        [[Residual(depth), Residual(depth)] for depth in depths],
        Head(depths[-1], halved(image_shape[1], len(depths)), actions),
    )
