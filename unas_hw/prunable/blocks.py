"""Residual branches that can be left out: ``x + f(x)`` is then ``x``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from torch import fx, nn

from unas_hw.prunable import operations as ops
from unas_hw.prunable.channels import Kept
from unas_hw.prunable.propagation import Flow
from unas_hw.prunable.tracing import container


@dataclass(frozen=True)
class Block:
    """A residual branch, named by the path of the module that adds it to its input.

    ``members`` are the paths of the convolutions and linear layers in it, in order; of the two things that the node
    ``addition`` adds it is number ``branch``, made by ``nodes``.
    """

    name: str
    members: tuple[str, ...]
    addition: str = field(repr=False)
    branch: int = field(repr=False)
    nodes: frozenset[str] = field(repr=False)


def residual_blocks(flow: Flow) -> tuple[tuple[Block, ...], list[Kept]]:
    """All of a network, in order; and those that have to stay."""
    found, kept, names = list[Block](), list[Kept](), Counter(flow.channels.made.keys())
    for node in flow.traced.graph.nodes:
        inputs = list(node.args)
        if ops.function_of(node) not in ops.ADDITIONS or node.kwargs or len(inputs) != 2:
            continue
        for branch in (0, 1):
            start = _start(flow, inputs[1 - branch])
            nodes = _branch(flow, node, inputs[branch], start)
            layers = [site.path for site in flow.sites if site.reads and site.node in nodes]
            if layers:
                name = container(node) or node.name
                names[name] += 1
                unique = name if names[name] == 1 else f"{name}#{names[name]}"
                if any(_writes(flow, each) and start in each.all_input_nodes for each in nodes):
                    kept.append(Kept(unique, "what it does in place changes what it is added to"))
                    continue
                inside_only = {*nodes, node, inputs[1 - branch]}
                if any(_writes(flow, each) for each in node.users) and not inside_only.issuperset(_users(start)):
                    kept.append(Kept(unique, "what is done to the sum in place would change what is read again"))
                    continue
                inside = frozenset(each.name for each in nodes)
                found.append(Block(unique, tuple(dict.fromkeys(layers)), node.name, branch, inside))
                break
    return tuple(found), kept


def _users(node: object) -> set[fx.Node]:
    return set(node.users) if isinstance(node, fx.Node) else set()


def _start(flow: Flow, node: object) -> object:
    """What a shortcut that does nothing is given."""
    while isinstance(node, fx.Node) and isinstance(_module(flow, node), nn.Identity):
        (node,) = node.all_input_nodes
    return node


def _branch(flow: Flow, addition: fx.Node, end: object, start: object) -> set[fx.Node]:
    """Nodes from ``start`` to ``end`` if they are for that alone, and nothing else is added; else none."""
    traced = flow.traced
    if not (isinstance(end, fx.Node) and isinstance(start, fx.Node) and end in flow.held and start in flow.held):
        return set()
    if traced.values[end].shape != traced.values[start].shape:
        return set()
    nodes: set[fx.Node] = set()
    waiting = [end]
    while waiting:
        node = waiting.pop()
        if node is start or node in nodes:
            continue
        if node.op == "placeholder":
            return set()
        nodes.add(node)
        waiting += node.all_input_nodes
    inside = nodes | {addition}
    return set() if any(user not in inside for node in nodes for user in node.users) else nodes


def _module(flow: Flow, node: fx.Node) -> nn.Module | None:
    return flow.traced.network.get_submodule(str(node.target)) if node.op == "call_module" else None


def _writes(flow: Flow, node: fx.Node) -> bool:
    """Whether the node changes what it is given."""
    if node.op == "call_module":
        return bool(getattr(_module(flow, node), "inplace", False))
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    return bool(node.kwargs.get("inplace")) or name.endswith("_")
