"""Residual branches that can be left out: ``x + f(x)`` is then ``x``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from torch import Tensor, fx, nn

from unas_hw.prunable import operations as ops
from unas_hw.prunable.channels import STAYS, Kept
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
    no_blocks = list[tuple[str, str]]()

    def unique(name: str) -> str:
        names[name] += 1
        return name if names[name] == 1 else f"{name}#{names[name]}"

    for node in flow.traced.graph.nodes:
        if ops.function_of(node) not in ops.ADDITIONS or node.kwargs or len(node.args) != 2:
            continue
        if not all(isinstance(each, fx.Node) and isinstance(flow.held.get(each), Tensor) for each in node.args):
            continue
        name = container(node) or node.name
        branches = [_branch(flow, node, branch) for branch in (0, 1)]
        place, nodes = next(
            ((place, each) for place, each in enumerate(branches) if isinstance(each, set)), (0, set[fx.Node]())
        )
        if not nodes:
            no_blocks += [(name, each) for each in branches if isinstance(each, str) and each][:1]
        elif reason := _changed(flow, node, place, nodes):
            kept.append(Kept(unique(name), reason, STAYS))
        else:
            inside = frozenset(each.name for each in nodes)
            found.append(Block(unique(name), _layers(flow, nodes), node.name, place, inside))
    kept += [Kept(unique(name), reason, STAYS) for name, reason in no_blocks]  # after those that have names
    return tuple(found), kept


def _layers(flow: Flow, nodes: set[fx.Node]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(site.path for site in flow.sites if site.reads and site.node in nodes))


def _changed(flow: Flow, addition: fx.Node, branch: int, nodes: set[fx.Node]) -> str:
    """Why something that is done in place keeps a branch; empty where nothing does."""
    end, shortcut = addition.args[branch], addition.args[1 - branch]
    assert isinstance(end, fx.Node) and isinstance(shortcut, fx.Node)
    start = _start(flow, shortcut)

    def writes(node: fx.Node, to: object) -> bool:
        return ops.written(flow.traced.network, node) is to

    if not _is_copied(flow, shortcut) and any(writes(each, start) for each in nodes):
        return "what it does in place changes what it is added to"
    inside_only = {*nodes, addition, shortcut, end}
    if any(writes(each, addition) for each in addition.users) and not inside_only.issuperset(start.users):
        return "what is done to the sum in place would change what is read again"
    return ""


def _is_copied(flow: Flow, shortcut: fx.Node) -> bool:
    return shortcut is not _start(flow, shortcut) and ops.function_of(shortcut) == "clone"


def _start(flow: Flow, node: fx.Node) -> fx.Node:
    """What a shortcut that does nothing is given."""
    while _does_nothing(flow, node):
        node = node.all_input_nodes[0]
    return node


def _does_nothing(flow: Flow, node: fx.Node) -> bool:
    if node.op == "call_module":
        module = flow.traced.network.get_submodule(str(node.target))
        return isinstance(module, nn.Identity) or str(node.target) in flow.traced.same
    return ops.function_of(node) in ops.COPIES


def _branch(flow: Flow, addition: fx.Node, branch: int) -> set[fx.Node] | str:
    """Nodes from what the shortcut is given to what is added if they are for that alone; else why it is no branch,
    empty where nothing has weights.
    """
    end, shortcut = addition.args[branch], addition.args[1 - branch]
    assert isinstance(end, fx.Node) and isinstance(shortcut, fx.Node)
    start = _start(flow, shortcut)
    nodes, beside = _behind(flow, end, start), _behind(flow, shortcut, None)
    if not any(_has_weights(flow, each) for each in nodes - beside):
        return ""
    if start not in _behind(flow, end, None):
        common = any(each.op != "get_attr" for each in beside & _behind(flow, end, None))
        return "its shortcut is not what the branch begins with" if common else ""
    if any(each.op == "placeholder" for each in nodes):
        return "what it adds is made of more than what it is added to"
    traced = flow.traced
    if traced.values[end].shape != traced.values[start].shape:
        return "what it adds has another shape"
    inside = {each for each in nodes if each.op != "get_attr"}
    for node in traced.graph.nodes:
        if node in inside and (user := _outside(flow, node, {*inside, addition})) is not None:
            return f"{traced.place(node)} in it is read by {traced.place(user)} too"
    if not _layers(flow, inside):
        weighted = next(each for each in traced.graph.nodes if each in inside and _has_weights(flow, each))
        return f"nothing in it is a layer that is understood, only {traced.place(weighted)}"
    return inside


def _behind(flow: Flow, end: fx.Node, start: fx.Node | None) -> set[fx.Node]:
    """The nodes that give tensors of which one is made, back to the start."""
    found: set[fx.Node] = set()
    waiting = [end]
    while waiting:
        node = waiting.pop()
        if node is not start and node not in found and node in flow.held:
            found.add(node)
            waiting += node.all_input_nodes
    return found


def _has_weights(flow: Flow, node: fx.Node) -> bool:
    if node.op != "call_module":
        return False
    module = flow.traced.network.get_submodule(str(node.target))
    return any(weight.ndim > 1 for weight in module.parameters())


def _outside(flow: Flow, node: fx.Node, inside: set[fx.Node]) -> fx.Node | None:
    """Who else reads a tensor of a branch, directly or its sizes."""
    for user in node.users:
        if user in inside:
            continue
        if user in flow.held or user.op == "output":
            return user
        if (further := _outside(flow, user, inside)) is not None:
            return further
    return None
