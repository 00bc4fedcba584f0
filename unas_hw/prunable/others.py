"""What a prunable network computes outside its layers: recurrent layers, attention, products in the user's code.

It keeps its width, since what is not a layer keeps all channels that it touches, so it costs the same in every smaller
network that runs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from profilers.arithmetic import MacCounter
from unas_hw.prunable.blocks import Block
from unas_hw.prunable.propagation import Flow, tensors
from unas_hw.prunable.ready import IMAGES


@dataclass(frozen=True)
class Other:
    """A module or function that is none of the layers, and computes.

    Attributes:
        place: Where it is, for people.
        blocks: Residual branches without which it is gone.
        macs: Multiply-accumulates for an image.
        params: Its learned numbers, where they are first used.
        moved: Numbers of its inputs and outputs, for an image.
        not_counted: Operations in it that ``macs`` lacks.
    """

    place: str
    blocks: tuple[str, ...]
    macs: float
    params: int
    moved: int
    not_counted: tuple[str, ...]


def others_of(flow: Flow, blocks: tuple[Block, ...], shape: tuple[int, int, int]) -> tuple[Other, ...]:
    """All of them, in order; ``shape`` is that of an image."""
    return tuple(_others(flow, blocks, shape))


@torch.no_grad()
def _others(flow: Flow, blocks: tuple[Block, ...], shape: tuple[int, int, int]) -> Iterator[Other]:
    traced, layers = flow.traced, {site.node for site in flow.sites}
    interpreter = _Counting(fx.GraphModule(traced.network, traced.graph))
    interpreter.layers = layers
    interpreter.run(torch.rand(IMAGES, *shape, generator=torch.Generator().manual_seed(0)))
    owned = {id(weight) for site in flow.sites for weight in traced.network.get_submodule(site.path).parameters()}
    for node, counter in interpreter.counters.items():
        weights = {id(each): each.numel() for each in _weights(traced.network, node) if id(each) not in owned}
        owned |= weights.keys()
        if counter.macs or weights or counter.not_counted:
            needed = {each.name for each in (node.users if node.op == "get_attr" else (node,))}
            around = tuple(block.name for block in blocks if needed <= block.nodes)
            given = [traced.values[each] for each in (*node.all_input_nodes, node)]
            moved = sum(each.numel() for each in tensors(given)) // IMAGES
            macs, params = counter.macs / IMAGES, sum(weights.values())
            yield Other(traced.place(node), around, macs, params, moved, counter.not_counted)


def _weights(network: nn.Module, node: fx.Node) -> Iterator[Tensor]:
    """Those that the node is, or that its module has."""
    if node.op == "call_module":
        yield from network.get_submodule(str(node.target)).parameters()
    elif node.op == "get_attr":
        home, _, name = str(node.target).rpartition(".")
        weight = getattr(network.get_submodule(home), name)
        if isinstance(weight, nn.Parameter):
            yield weight


class _Counting(fx.Interpreter):
    layers: set[fx.Node]

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.counters: dict[fx.Node, MacCounter] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n in self.layers or n.op in ("placeholder", "output"):
            return super().run_node(n)
        self.counters[n] = MacCounter()
        with self.counters[n]:
            return super().run_node(n)
