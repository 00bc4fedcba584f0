"""A network as a graph of layers and functions: torch.fx, with what every node gives for an example beside it.

Unlike what an export traces, sizes stay open: a smaller network has others.
"""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any, final

import torch
from torch import Tensor, fx, nn

from unas_hw.errors import PruningError
from unas_hw.ops.depthwise import DepthwiseConv2d
from unas_hw.ops.drop_path import DropPath
from unas_hw.prunable.ready import IMAGES, check, check_frozen, images_of, reason_of
from unas_hw.prunable.spelling import simplify, tell_training
from unas_hw.recorder import Recorder

_LEAVES = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""Whose subclasses are layers too where they only construct themselves otherwise."""
REWRITE = "write it with modules of torch.nn and without decisions by values, as docs/pruning.md shows"
_OURS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))
"""Folders of which no line is the user's."""
_TRAINING = frozenset({"training", "train", "is_training", "is_train"})
"""What functions call the argument that says whether the network is being trained."""


@dataclass(frozen=True)
class Traced:
    """A network's graph.

    Attributes:
        network: A copy, which was traced; it also has the constants that the graph reads.
        graph: Its nodes in order; sizes are nodes.
        values: What each node gave for ``IMAGES`` images; of tensors only the sizes.
        decided: Nodes by whose value the network decided what to do.
        same: Paths of modules and names of nodes that give what they are given in evaluation, as a dropout of one's
            own.
    """

    network: nn.Module
    graph: fx.Graph
    values: dict[fx.Node, Any] = field(repr=False)
    decided: tuple[fx.Node, ...] = ()
    same: frozenset[str] = frozenset()

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
    check(network)
    network = copy.deepcopy(network)
    traced = _trace(network.eval(), IMAGES, shape)
    output = traced.values[traced.graph.output_node()]
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != IMAGES or not output.is_floating_point():
        raise PruningError(
            f"{type(network).__name__} gives {_words(output)} for {IMAGES} images, not an output for each image and "
            f"class",
            mend="give a network from (N, C, H, W) to (N, classes), of several outputs that one",
        )
    if (node := _difference(traced, _trace(network, IMAGES + 1, shape))) is not None:
        what = "the number of images is part of what it does"
        raise PruningError(f"{traced.place(node)} of {type(network).__name__}: {what}", mend=REWRITE)
    check_frozen(network.train())
    training = _trace(network, IMAGES, shape)
    same = set(traced.same)
    tell_training(traced.network, traced.graph, traced.values, training.graph, same)
    if (node := _difference(traced, training)) is not None:
        what = "training changes what it does, other than in modules of torch.nn"
        raise PruningError(f"{traced.place(node)} of {type(network).__name__}: {what}", mend=REWRITE)
    return Traced(traced.network, traced.graph, traced.values, traced.decided, frozenset(same))


def _words(output: Any) -> str:
    """What a network gives, for people."""
    if isinstance(output, Tensor):
        dtype = "" if output.is_floating_point() else f" of {str(output.dtype).removeprefix('torch.')}"
        return "x".join(map(str, output.shape)) + dtype
    if isinstance(output, dict):
        return f"a dict of {', '.join(map(str, output))}"
    return f"a {type(output).__name__} of {len(output)}" if isinstance(output, tuple | list) else type(output).__name__


def _trace(network: nn.Module, images: int, shape: tuple[int, int, int]) -> Traced:
    network = copy.deepcopy(network).requires_grad_(False)  # so that only the network itself turns gradients off
    example = torch.randn(images, *shape, generator=torch.Generator().manual_seed(0))
    tracer = _Tracer(example)
    try:
        with torch.enable_grad(), _knowing_proxies(network, tracer):
            graph = tracer.trace(network)
    except Exception as error:
        at = f"{tracer.at} of " if tracer.at else ""
        reason = reason_of(error)
        if "Proxy" in reason:
            reason = "it has to know the value of something that is traced"
        name, line = type(network).__name__, _line(error)
        raise PruningError(
            f"{at}{name} cannot be traced with {images_of(shape, images)}: {reason}{line}", mend=REWRITE
        ) from error
    simplify(network, graph, tracer.values, tracer.decided)
    values = {
        node: tracer.values[node] if node.op == "get_attr" else _sizes(tracer.values[node]) for node in graph.nodes
    }
    return Traced(network, graph, values, tuple(tracer.decided), frozenset(tracer.same))


def _line(error: Exception) -> str:
    """Of the user's, for people, where it was raised."""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith(_OURS)]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


@contextmanager
def _knowing_proxies(network: nn.Module, tracer: _Tracer) -> Iterator[None]:
    """In the files of a network's modules ``len`` and ``isinstance`` take what is traced, and functions that do nothing
    but in training are not looked into.
    """
    before: list[tuple[dict[str, Any], str, Any]] = []
    forwards = {id(home): home for home in map(_globals_of, network.modules()) if home}
    for home in forwards.values():
        for name, value in list(home.items()):
            if isinstance(value, FunctionType) and not _TRAINING.isdisjoint(inspect.signature(value).parameters):
                before.append((home, name, value))
                home[name] = tracer.followed(value)
        for name, ours in {"len": tracer.length, "isinstance": tracer.is_instance}.items():
            if name not in home:
                before.append((home, name, None))
                home[name] = ours
    try:
        yield
    finally:
        for home, name, value in before:
            if value is None:
                del home[name]
            else:
                home[name] = value


def _globals_of(module: nn.Module) -> dict[str, Any]:
    """What ``forward`` of a module of the user's sees; nothing for one of PyTorch's."""
    found = getattr(inspect.unwrap(type(module).forward), "__globals__", {})
    return {} if found.get("__name__", "torch.").startswith("torch.") else found


def _sizes(value: Any) -> Any:
    """Tensors of the same sizes without the memory."""
    if isinstance(value, Tensor):
        return value.new_zeros(()).expand(value.shape)
    return type(value)(map(_sizes, value)) if type(value) in (tuple, list) else value


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


class _Proxy(fx.Proxy):
    """Has a length where that does not depend on the images: sizes, parts of what was split."""

    def __len__(self) -> int:
        tracer: Any = self.tracer
        known = tracer.values[self.node]
        return len(known) if isinstance(known, tuple | list) else super().__len__()


@final
class _Tracer(Recorder):
    """Stops at layers; knows by which sizes something was decided, and where it was when it failed.

    ``same`` are the paths of modules and names of nodes that give what they are given in evaluation.
    """

    def __init__(self, example: Tensor) -> None:
        super().__init__(example)
        self.decided: list[fx.Node] = []
        self.same: set[str] = set()
        self.at = ""

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """The network and its images; all else has its defaults."""
        return root_fn, [self.root, self.create_proxy("placeholder", "x", (), {})]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> fx.Node:
        node = super().create_node(kind, target, args, kwargs, *rest, **named)
        value = self.values[node]
        learned = any(each.op != "get_attr" for each in node.all_input_nodes)
        if learned and isinstance(value, Tensor) and value.is_floating_point() and kind != "output":
            if not torch.is_grad_enabled():
                raise ValueError("torch.no_grad() in it would be lost; requires_grad_(False) for its layers is not")
            if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
                raise ValueError("torch.autocast in it would be lost")
        return node

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        plain = any(isinstance(m, kind) and type(m).forward is kind.forward for kind in _LEAVES)
        ours = isinstance(m, DepthwiseConv2d | DropPath) or module_qualified_name in self.same
        return plain or ours or super().is_leaf_module(m, module_qualified_name)

    def _enter(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        assert self.submodule_paths is not None
        if (path := self.submodule_paths.get(m)) is None:
            if next(m.parameters(), next(m.buffers(), None)) is not None:
                raise ValueError(f"{type(m).__name__} is none of its modules: make it in __init__, in nn.ModuleList")
            return forward(*args, **kwargs)
        outer, self.at = self.at, path
        if not kwargs and self._is_same(m, args):
            self.same.add(path)
        found = super()._enter(m, forward, args, kwargs)
        self.at = outer  # not where it raises: that is where the error is from
        return found

    def _is_same(self, module: nn.Module, args: tuple[Any, ...]) -> bool:
        """Whether a module of the user's without weights gives what it is given in evaluation."""
        if type(module).__module__.startswith("torch.") or len(args) != 1 or not isinstance(args[0], fx.Proxy):
            return False
        if module._modules or module._parameters or module._buffers:
            return False
        return self._gives(copy.deepcopy(module).eval(), args, {})

    def _gives(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a function gives what is its first argument."""
        args = tuple(map(self._value, args))
        kwargs = {name: self._value(each) for name, each in kwargs.items()}
        if not args or not isinstance(args[0], Tensor):
            return False
        runs, self.runs = self.runs, True
        try:
            found = function(args[0].clone(), *args[1:], **kwargs)
        except Exception:  # it is looked into then, which says what it is
            return False
        finally:
            self.runs = runs
        return isinstance(found, Tensor) and torch.equal(found, args[0])

    def _value(self, argument: Any) -> Any:
        return self.values[argument.node] if isinstance(argument, fx.Proxy) else argument

    def followed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of the user's that is told whether the network is trained: a node where it else does nothing."""
        parameters = inspect.signature(function)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.runs or not args or not isinstance(args[0], fx.Proxy):
                return function(*args, **kwargs)
            try:
                told = parameters.bind(*args, **kwargs)
            except TypeError:
                return function(*args, **kwargs)
            flags = {name for name, value in told.arguments.items() if name in _TRAINING and isinstance(value, bool)}
            plain = all(isinstance(each, fx.Proxy | int | float | str | None) for each in told.arguments.values())
            told.arguments.update(dict.fromkeys(flags, False))
            if not flags or not plain or not self._gives(function, told.args, told.kwargs):
                return function(*args, **kwargs)
            found = self.create_proxy("call_function", function, args, kwargs)
            self.same.add(found.node.name)
            return found

        return call

    def length(self, value: Any) -> Any:
        """``len``; of a tensor that is traced its first size."""
        traced = isinstance(value, fx.Proxy) and isinstance(self._value(value), Tensor)
        return value.size(0) if traced else len(value)

    def is_instance(self, value: Any, kind: Any) -> bool:
        """``isinstance``; of what is traced whether what it gives is one."""
        return isinstance(self._value(value), kind)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Over sizes, and over the parts of what was split, whose number does not change."""
        value = self.values[obj.node]
        if not isinstance(value, tuple | list):
            raise ValueError("it goes through the values of a tensor")
        proxy: Any = obj
        return iter([proxy[place] for place in range(len(value))])

    def to_bool(self, obj: fx.Proxy) -> bool:
        value = self.values[obj.node]
        if isinstance(value, Tensor):
            raise ValueError("what it does depends on the values of a tensor")
        self.decided.append(obj.node)
        return bool(value)
