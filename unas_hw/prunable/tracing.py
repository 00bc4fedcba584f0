"""A network as a graph of layers and functions: torch.fx, with what every node gives for an example beside it.

Unlike what an export traces, sizes stay open: a smaller network has others.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, fx, nn

from unas_hw.errors import PruningError
from unas_hw.ops.depthwise import DepthwiseConv2d
from unas_hw.ops.drop_path import DropPath
from unas_hw.recorder import Recorder

IMAGES = 2
"""In the example."""
_LEAVES = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""Whose subclasses are layers too where they only construct themselves otherwise."""
REWRITE = "write it with modules of torch.nn and without decisions by values, as docs/pruning.md shows"


@dataclass(frozen=True)
class Traced:
    """A network's graph.

    Attributes:
        network: A copy, which was traced; it also has the constants that the graph reads.
        graph: Its nodes in order; sizes are nodes.
        values: What each node gave for ``IMAGES`` images; of tensors only the sizes.
        decided: Nodes by whose value the network decided what to do.
    """

    network: nn.Module
    graph: fx.Graph
    values: dict[fx.Node, Any] = field(repr=False)
    decided: tuple[fx.Node, ...] = ()

    def place(self, node: fx.Node) -> str:
        """Where the node is, for people: the path of its module, or what it calls and in which module."""
        if node.op == "call_module":
            return str(node.target)
        inside = container(node)
        return f"{called(node)} in {inside}" if inside else called(node)


def called(node: fx.Node) -> str:
    """The name of the function or method that a node calls."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def container(node: fx.Node) -> str:
    """The path of the module in whose ``forward`` the node is; empty for the network's own."""
    stack = list(node.meta.get("nn_module_stack", {}))
    return stack[-1] if stack else ""


def trace(network: nn.Module, shape: tuple[int, int, int]) -> Traced:
    """The graph of a network for images ``(C, H, W)``.

    Raises:
        PruningError: If there is none that holds for any number of images, in training and out of it.
    """
    network = copy.deepcopy(network)
    traced = _trace(network.eval(), IMAGES, shape)
    output = traced.values[traced.graph.output_node()]
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != IMAGES:
        got = "x".join(map(str, output.shape)) if isinstance(output, Tensor) else type(output).__name__
        raise PruningError(
            f"{type(network).__name__} gives {got} for {IMAGES} images, not an output for each image and class",
            mend="give a network from (N, C, H, W) to (N, classes)",
        )
    others = {
        "the number of images is part of what it does": _trace(network, IMAGES + 1, shape),
        "training changes what it does, other than in modules of torch.nn": _trace(network.train(), IMAGES, shape),
    }
    for what, other in others.items():
        if (node := _difference(traced, other)) is not None:
            raise PruningError(f"{traced.place(node)} of {type(network).__name__}: {what}", mend=REWRITE)
    return traced


def _trace(network: nn.Module, images: int, shape: tuple[int, int, int]) -> Traced:
    network = copy.deepcopy(network)
    example = torch.randn(images, *shape, generator=torch.Generator().manual_seed(0))
    tracer = _Tracer(example)
    parameters = inspect.signature(network.forward).parameters.values()
    told = {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}
    try:
        with torch.no_grad():
            graph = tracer.trace(network, told)
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        at = f"{tracer.at} of " if tracer.at else ""
        name, image = type(network).__name__, "x".join(map(str, (images, *shape)))
        raise PruningError(f"{at}{name} cannot be traced with {image}: {reason}", mend=REWRITE) from error
    for node in graph.find_nodes(op="placeholder")[1:]:  # arguments with a default, and the checks that they have it
        _erase(graph, node)
    values = {node: value if node.op == "get_attr" else _sizes(value) for node, value in tracer.values.items()}
    return Traced(network, graph, values, tuple(tracer.decided))


def _sizes(value: Any) -> Any:
    """Tensors of the same sizes without the memory."""
    if isinstance(value, Tensor):
        return value.new_zeros(()).expand(value.shape)
    return type(value)(map(_sizes, value)) if type(value) in (tuple, list) else value


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    """Removes a node and all that depends on it."""
    for user in list(node.users):
        _erase(graph, user)
    graph.erase_node(node)


def _difference(one: Traced, other: Traced) -> fx.Node | None:
    """The first node in which two graphs differ."""
    places: dict[fx.Node, int] = {}
    mine: list[fx.Node] = list(one.graph.nodes)
    theirs: list[fx.Node] = list(other.graph.nodes)
    for graph in (mine, theirs):
        places |= {node: place for place, node in enumerate(graph)}
    for a, b in zip(mine, theirs, strict=False):
        said = [
            repr((node.op, node.target, fx.map_arg((node.args, node.kwargs), lambda each: f"%{places[each]}")))
            for node in (a, b)
        ]
        if said[0] != said[1]:
            return a if a.op != "output" else b
    return None if len(mine) == len(theirs) else max(mine, theirs, key=len)[-1]


@final
class _Tracer(Recorder):
    """Stops at layers; knows by which sizes something was decided, and where it was when it failed."""

    def __init__(self, example: Tensor) -> None:
        super().__init__(example)
        self.decided: list[fx.Node] = []
        self.at = ""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        plain = any(isinstance(m, kind) and type(m).forward is kind.forward for kind in _LEAVES)
        ours = isinstance(m, DepthwiseConv2d | DropPath)
        return plain or ours or super().is_leaf_module(m, module_qualified_name)

    def _enter(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        outer, self.at = self.at, self.path_of_module(m)
        found = super()._enter(m, forward, args, kwargs)
        self.at = outer  # not where it raises: that is where the error is from
        return found

    def to_bool(self, obj: fx.Proxy) -> bool:
        value = self.values[obj.node]
        if isinstance(value, Tensor):
            raise ValueError("what it does depends on the values of a tensor")
        self.decided.append(obj.node)
        return bool(value)
