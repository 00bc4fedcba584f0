"""Whether a network that is written for its channels bears fewer: views, slices and sizes are tried out on numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx

from unas_hw.prunable.channels import left
from unas_hw.prunable.propagation import Flow, dense, tensors
from unas_hw.recorder import run


def broken(flow: Flow, alive: Tensor) -> Iterator[tuple[Tensor, str]]:
    """Channels that have to stay, and why, because without those that are not ``alive`` something comes out wrong."""
    traced, numbers = flow.traced, dict[fx.Node, Any]()
    touched = {node for node, inside in flow.contents.items() if not bool(alive[inside].all())}

    def rest(value: Any) -> Any:
        if isinstance(value, Tensor):
            smaller = left(value, alive)
            if smaller is None:
                raise ValueError("what is left has holes")
            return smaller
        return type(value)(map(rest, value)) if type(value) in (tuple, list) else value

    def sized(node: fx.Node) -> Any:
        """What a node gives that is asked for its size, without memory."""
        if node in numbers:
            return numbers[node]
        value, held = traced.values[node], rest(flow.held[node])
        return value.new_zeros(()).expand(held.shape) if isinstance(value, Tensor) else held

    def moved(node: fx.Node) -> Any:
        return numbers[node] if node in numbers else dense(rest(flow.held[node]))

    for node in traced.graph.nodes:
        value, inputs = traced.values[node], node.all_input_nodes
        changed = [each for each in inputs if each in numbers and numbers[each] != traced.values[each]]
        if not changed and touched.isdisjoint(inputs):
            if node not in flow.held:
                numbers[node] = value
        elif node not in flow.held:
            try:
                numbers[node] = run(node, traced.network, *fx.map_arg((node.args, node.kwargs), sized))
            except Exception:
                numbers[node] = value
                yield _behind(flow, node), f"{traced.place(node)}: it fails with fewer channels"
            if node in traced.decided and bool(numbers[node]) != bool(value):
                yield _behind(flow, node), f"{traced.place(node)}: the network decides by the number of channels"
        elif node in flow.moves:
            try:
                found = run(node, traced.network, *fx.map_arg((node.args, node.kwargs), moved))
                fits = _equal(found, rest(flow.held[node]))
            except Exception:
                fits = False
            if not fits:
                yield _behind(flow, node), f"{traced.place(node)}: it is written for this number of channels"
        else:
            for each in changed:
                yield _behind(flow, each), f"{traced.place(node)}: it calculates with the number of channels"


def _equal(found: Any, expected: Any) -> bool:
    some, others = list(tensors(found)), list(tensors(expected))
    return len(some) == len(others) and all(map(torch.equal, some, others))


def _behind(flow: Flow, node: fx.Node) -> Tensor:
    """All channels of the tensors that a node computes with, directly or through sizes."""
    found: list[Tensor] = [torch.zeros(1, dtype=torch.long)]
    for source in node.all_input_nodes:
        if source in flow.held:
            found.append(flow.contents[source])
        elif source.all_input_nodes:
            found.append(_behind(flow, source))
    return torch.cat(found)
