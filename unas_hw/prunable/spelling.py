"""One spelling for what users write in several ways, so that the same network is pruned the same."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, final

from torch import Tensor, fx, nn

from unas_hw.prunable import operations as ops


@final
class Trained(nn.Module):
    """A function that is told whether the network is being trained, as ``F.dropout``.

    Args:
        function: That is called.
        place: Of that argument, by position or by name.
    """

    def __init__(self, function: Callable[..., Any], place: int | str) -> None:
        super().__init__()
        self.function, self.place = function, place

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self.place, int):
            return self.function(*args[: self.place], self.training, *args[self.place :], **kwargs)
        return self.function(*args, **kwargs, **{self.place: self.training})


def simplify(network: nn.Module, graph: fx.Graph, values: dict[fx.Node, Any], decided: list[fx.Node]) -> None:
    """Rewrites a graph, in place: sums of two have both as arguments, what is done in place is what it gives, and what
    nobody asks for is gone.

    Args:
        network: That was traced.
        graph: Of it.
        values: What each node gives.
        decided: Nodes by which something was decided: they stay.
    """
    places: dict[fx.Node, int] = {node: place for place, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if (both := _stacked(node)) is not None:
            with graph.inserting_before(node):
                added = graph.call_function(operator.add, both)
            added.meta, values[added], places[added] = dict(node.meta), values[node], places[node]
            node.replace_all_uses_with(added)
            continue
        if ops.function_of(node) in ops.ADDITIONS and isinstance(values[node], Tensor):
            _add(graph, node)
        if not node.users and (changed := ops.written(network, node)) is not None:
            later = {user for user in changed.users if places[user] > places[node]}
            changed.replace_all_uses_with(node, later.__contains__)
    for node in reversed(list(graph.nodes)):
        if node.users or node in decided or values[node] is None or node.op in ("placeholder", "output"):
            continue
        if ops.written(network, node) is None:
            graph.erase_node(node)


def _stacked(node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """The two tensors of ``torch.stack([x, y]).sum(0)``."""
    source = ops.argument(node, 0, "input")
    if ops.function_of(node) != "sum" or not isinstance(source, fx.Node) or ops.function_of(source) != "stack":
        return None
    parts, dim = ops.argument(source, 0, "tensors"), ops.argument(source, 1, "dim", 0)
    plain = len(node.args) + len(node.kwargs) == 2 and ops.argument(node, 1, "dim") in (dim, (dim,), [dim])
    return (parts[0], parts[1]) if plain and isinstance(parts, tuple | list) and len(parts) == 2 else None


def _add(graph: fx.Graph, node: fx.Node) -> None:
    told = dict(node.kwargs)
    both = [*node.args, *(told.pop(name) for name in ("input", "other") if name in told)]
    if told.get("alpha") == 1:
        del told["alpha"]
    if not told and len(both) == 2:
        node.args, node.kwargs = tuple(both), {}
        if isinstance(both[1], fx.Node) and type(both[0]) is int and both[0] == 0:  # of sum([x, y])
            node.replace_all_uses_with(both[1])


def tell_training(
    network: nn.Module, graph: fx.Graph, values: dict[fx.Node, Any], trained: fx.Graph, same: set[str]
) -> None:
    """Rewrites two graphs alike, in place: a function that is told False in evaluation and True in training, and else
    the same, becomes a module that knows it.

    Args:
        network: To which the modules are added.
        graph: In evaluation.
        values: What its nodes give.
        trained: In training.
        same: Names of nodes that give what they are given in evaluation; those of modules are added.
    """
    for number, (one, other) in enumerate(zip(list(graph.nodes), list(trained.nodes), strict=False)):
        if (one.op, one.target) != (other.op, other.target):
            return
        if one.op != "call_function" or (place := _flag(one, other)) is None:
            continue
        path = f"_trained_{number}"
        assert callable(one.target)
        network.add_module(path, Trained(one.target, place))
        if one.name in same or ops.function_of(one) in ops.ELEMENTWISE:
            same.add(path)
        for node in (one, other):
            args = tuple(each for at, each in enumerate(node.args) if at != place)
            kwargs = {name: each for name, each in node.kwargs.items() if name != place}
            with node.graph.inserting_before(node):
                module = node.graph.call_module(path, args, kwargs)
            module.meta = dict(node.meta)
            if node is one:
                values[module] = values.pop(node)
            node.replace_all_uses_with(module)
            node.graph.erase_node(node)


def _flag(one: fx.Node, other: fx.Node) -> int | str | None:
    """The only argument that is False in one call and True in the other."""
    pairs: dict[int | str, tuple[Any, Any]] = dict(enumerate(zip(one.args, other.args, strict=False)))
    pairs |= {name: (each, other.kwargs.get(name)) for name, each in one.kwargs.items()}
    found = [place for place, (before, after) in pairs.items() if before is False and after is True]
    return found[0] if len(found) == 1 else None
