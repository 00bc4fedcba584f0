"""Follows the channels of a traced network from the layers that make them to those that read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any, final

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils.parametrize import is_parametrized

from unas_hw.ops.depthwise import DepthwiseConv2d
from unas_hw.prunable import operations as ops
from unas_hw.prunable.channels import LEFT_OUT, Channels, Kept, contents, spread, varies
from unas_hw.prunable.tracing import Traced, called
from unas_hw.recorder import run

NORMS: tuple[type[nn.Module], ...] = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, _InstanceNorm, nn.GroupNorm, nn.PReLU),
)
"""With numbers of their own for each channel."""
_READERS = frozenset({"conv1d", "conv2d", "conv3d", "conv_transpose2d", "linear", "bilinear", "matmul", "einsum"})
"""Functions that are given weights."""
_HOMES = ("torch.nn.modules.linear", "torch.nn.modules.conv")


@dataclass(frozen=True)
class Site:
    """A call of the module at ``path`` that is resized with its channels: ``(C_in,)`` inputs and ``(C_out,)`` outputs.

    Kinds are ``conv``, ``grouped``, ``depthwise``, ``linear`` and ``norm``.
    """

    node: fx.Node
    path: str
    kind: str
    inputs: Tensor = field(repr=False)
    outputs: Tensor = field(repr=False)

    @property
    def reads(self) -> bool:
        """Whether it mixes its input channels, so that one that is left out has to be 0 there."""
        return self.kind in ("conv", "grouped", "linear")


@dataclass(frozen=True)
class Flow:
    """Where the channels of a network are: by node that gives a tensor or several, those in them; and the sites, in
    order.

    ``moves`` are nodes that were tried out on the channels, ``kept`` modules with weights that are left as they are.
    """

    traced: Traced
    channels: Channels
    held: dict[fx.Node, Any]
    sites: list[Site]
    moves: list[fx.Node]
    kept: list[Kept]

    @cached_property
    def contents(self) -> dict[fx.Node, Tensor]:
        """The channels in what each node gives, once each."""
        return {
            node: torch.cat([contents(held) for held in tensors(value)]).unique() for node, value in self.held.items()
        }


def propagate(traced: Traced) -> Flow:
    """Follows the channels; what is not understood keeps all channels that it touches."""
    return _Propagation(traced).flow


def dense(value: Any) -> Any:
    """The tensors in a value with memory of their own, as views of them need."""
    if isinstance(value, Tensor):
        return value.contiguous()
    return type(value)(map(dense, value)) if type(value) in (tuple, list) else value


def tensors(value: Any) -> Iterator[Tensor]:
    """Those in a value."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from tensors(each)


@final
class _Propagation:
    def __init__(self, traced: Traced) -> None:
        self.traced, self.channels = traced, Channels()
        self.held: dict[fx.Node, Any] = {}
        self.flow = Flow(traced, self.channels, self.held, [], [], [])
        self._tied = _tied(traced)
        for node in traced.graph.nodes:
            if next(tensors(traced.values[node]), None) is not None:
                self.held[node] = self._node(node)
        self.flow.kept.extend(Kept(path, "no output depends on it", LEFT_OUT) for path in _unused(traced))

    def _node(self, node: fx.Node) -> Any:
        value = self.traced.values[node]
        if node.op in ("placeholder", "get_attr"):
            return _fixed(value)
        if node.op == "output":
            return self._pinned(node, "they are the network's outputs")
        if node.op == "call_module":
            found = self._module(node, self.traced.network.get_submodule(str(node.target)))
        else:
            found = self._function(node)
        if isinstance(found, str):
            return self._pinned(node, found)
        return found

    def _pinned(self, node: fx.Node, reason: str) -> Any:
        where = "" if node.op == "output" else f"{self.traced.place(node)}: "
        if node.op == "call_module":
            module = self.traced.network.get_submodule(str(node.target))
            if isinstance(module, nn.Linear | _ConvNd):  # it is one that could be smaller otherwise
                count = module.out_features if isinstance(module, nn.Linear) else module.out_channels
                own = self.channels.make(str(node.target), count)
                self.channels.pin(own, f"{where}{reason}")
            elif any(weight.ndim > 1 for weight in module.parameters()) and not isinstance(module, nn.LayerNorm):
                self._keep(str(node.target), reason)
        for source in node.all_input_nodes:
            if source.op == "get_attr" and called(node) in _READERS:
                self._keep(str(source.target), f"{called(node)} reads it, which is no module")
            for held in tensors(self.held.get(source)):
                self.channels.pin(held, f"{where}{reason}")
        return _fixed(self.traced.values[node])

    def _keep(self, path: str, reason: str) -> None:
        if path not in (each.layer for each in self.flow.kept):
            self.flow.kept.append(Kept(path, reason))

    def _function(self, node: fx.Node) -> Any:
        name = ops.function_of(node)
        value, unknown = self.traced.values[node], f"what {called(node)} does to channels is not known"
        sources = [self.held[each] for each in node.all_input_nodes if each in self.held]
        if name in ops.MOVES or (node.target is getattr and isinstance(value, Tensor)):  # x.T, x.data
            return self._moved(node)
        if node.name in self.traced.same:
            return sources[0]
        if name in ops.REDUCTIONS and len(sources) == 1 and isinstance(value, tuple):
            found = self._reduced(node, sources[0])
            return found if isinstance(found, str) else (found, found)
        if not isinstance(value, Tensor) or not all(isinstance(each, Tensor) for each in sources):
            return unknown
        if name in ops.ELEMENTWISE or (name in ("max", "min") and len(sources) == 2):
            return self._elementwise(node, sources)
        if name in ops.CASTS:
            return sources[0]
        if name == "glu":
            return self._gated(node, sources[0], ops.argument(node, 1, "dim", -1))
        if name in ops.POOLS and len(sources) == 1:
            return self._pooled(node, sources[0])
        if name == "pad" and len(sources) == 1:
            by_position = len(ops.argument(node, 1, "pad", ())) <= 2 * (value.ndim - 2)
            return self._pooled(node, sources[0]) if by_position else unknown
        if name in ops.REDUCTIONS and len(sources) == 1:
            return self._reduced(node, sources[0])
        return unknown

    def _module(self, node: fx.Node, module: nn.Module) -> Any:
        value, path = self.traced.values[node], str(node.target)
        sources = [self.held[each] for each in node.all_input_nodes if each in self.held]
        unknown = f"what {type(module).__name__} does to channels is not known"
        if len(sources) != 1 or not isinstance(sources[0], Tensor) or not isinstance(value, Tensor):
            return unknown
        (held,) = sources
        if (
            path in self.traced.same
            or isinstance(module, ops.ELEMENTWISE_MODULES)
            or (isinstance(module, nn.PReLU) and module.num_parameters == 1)
        ):
            return held
        if isinstance(module, nn.GLU):
            return self._gated(node, held, module.dim)
        if isinstance(module, ops.MOVE_MODULES):
            return self._moved(node)
        if isinstance(module, ops.POOL_MODULES):
            return self._pooled(node, held)
        if path in self._tied:
            return self._tied[path]
        if module._forward_hooks or module._forward_pre_hooks or is_parametrized(module):
            return f"{type(module).__name__} has hooks or parametrizations"
        if isinstance(module, nn.Linear | _ConvNd) and not _is_plain(module):
            return f"{type(module).__name__} computes otherwise than the layer of PyTorch that it is made from"
        if isinstance(module, nn.Linear):
            return self._site(node, "linear", held, -1, module.out_features)
        if isinstance(module, _ConvNd):
            return self._conv(node, module, held)
        if isinstance(module, nn.GroupNorm) and module.num_groups != module.num_channels:
            return "GroupNorm takes its statistics over several channels"
        if isinstance(module, NORMS):
            return self._site(node, "norm", held, 1, None)
        return unknown

    def _conv(self, node: fx.Node, conv: _ConvNd, held: Tensor) -> Tensor | str:
        if held.ndim != conv.weight.ndim:
            return "it is given one image without its axis"
        if conv.groups == 1:
            return self._site(node, "conv", held, 1, conv.out_channels)
        if conv.groups == conv.in_channels:
            return self._site(node, "depthwise", held, 1, None)
        if isinstance(conv, _ConvTransposeNd):
            return "transposed convolutions in groups are left whole"
        return self._site(node, "grouped", held, 1, conv.out_channels)

    def _site(self, node: fx.Node, kind: str, held: Tensor, dim: int, makes: int | None) -> Tensor:
        """The channels after a layer along that axis, which are its own where it makes some."""
        path, value = str(node.target), self.traced.values[node]
        inputs = self.channels.along(held, dim)
        before = next((site for site in self.flow.sites if site.path == path), None)
        if before is not None:
            reason = f"{path}: the layer is used again where its input channels stay"
            self.channels.unite(before.inputs, inputs, reason)
        if makes is None:
            outputs = inputs.repeat_interleave(value.shape[dim] // len(inputs))
        else:
            outputs = self.channels.make(path, makes)
        if kind == "grouped":
            conv: Any = self.traced.network.get_submodule(path)
            reason = f"{path}: another group of it has channels that stay"
            for each in (inputs, outputs):  # of each group as many, at the same places
                rows = each.view(conv.groups, -1)
                self.channels.unite(rows, rows[:1].expand_as(rows), reason)
        self.flow.sites.append(Site(node, path, kind, inputs, outputs))
        return spread(outputs, value.shape, dim)

    def _moved(self, node: fx.Node) -> Any:
        def given(each: fx.Node) -> Any:
            return dense(self.held[each]) if each in self.held else self.traced.values[each]

        value = self.traced.values[node]
        try:
            found = run(node, self.traced.network, *fx.map_arg((node.args, node.kwargs), given))
        except Exception:  # whatever it raises with other channels, they stay, and this is the reason that is told
            return f"{called(node)} could not be followed"
        if [each.shape for each in tensors(found)] != [each.shape for each in tensors(value)]:
            return f"{called(node)} could not be followed"
        self.flow.moves.append(node)
        return found

    def _pooled(self, node: fx.Node, held: Tensor) -> Tensor | str:
        value = self.traced.values[node]
        if value.ndim != held.ndim or value.shape[:2] != held.shape[:2] or self._mixes(held, range(2, held.ndim)):
            return f"{self._name(node)} does not keep channels apart here"
        return spread(held.flatten(2)[0, :, 0], value.shape, 1)

    def _reduced(self, node: fx.Node, held: Tensor) -> Tensor | str:
        dims = ops.argument(node, 1, "dim", node.kwargs.get("axis"))
        dims = list(range(held.ndim)) if dims is None else [dims] if isinstance(dims, int) else list(dims)
        if not all(isinstance(dim, int) for dim in dims) or self._mixes(held, dims):
            return f"{called(node)} mixes channels"
        value = self.traced.values[node]
        shape = value[0].shape if isinstance(value, tuple) else value.shape
        return held.amax(dims).view(shape)

    def _gated(self, node: fx.Node, held: Tensor, dim: int) -> Tensor | str:
        """Of halves of which one multiplies the other."""
        one, other = held.chunk(2, dim)
        return self._together(node, one, other)

    def _mixes(self, held: Tensor, dims: Any) -> bool:
        return any(varies(held, dim) for dim in dims)

    def _name(self, node: fx.Node) -> str:
        if node.op != "call_module":
            return called(node)
        return type(self.traced.network.get_submodule(str(node.target))).__name__

    def _elementwise(self, node: fx.Node, sources: list[Tensor]) -> Tensor | str:
        shape: torch.Size = self.traced.values[node].shape
        found, *others = sources
        for other in others:
            found = self._together(node, found, other)
        return found if found.shape == shape else f"{called(node)} changes the shape"

    def _together(self, node: fx.Node, one: Tensor, other: Tensor) -> Tensor:
        """The channels of what is computed of two tensors place by place."""
        where = self.traced.place(node)
        shape = torch.broadcast_tensors(one, other)[0].shape
        one, other = (each[(None,) * (len(shape) - each.ndim)] for each in (one, other))
        for each, beside in ((one, other), (other, one)):
            if _apart(each, beside):  # any number of channels will do for it, and it needs what is beside it whole
                self.channels.pin(beside, f"{where}: it meets every channel of another tensor")
                return each.expand(shape)
        one, other = one.expand(shape), other.expand(shape)
        self.channels.unite(one, other, f"{where}: it meets a tensor whose channels stay")
        return one


def _apart(one: Tensor, other: Tensor) -> bool:
    """Whether the channels of one tensor differ along no axis that the other has too; and it has any."""
    shared = [dim for dim in range(one.ndim) if other.shape[dim] > 1]
    return (
        bool(one.any())
        and any(varies(one, dim) for dim in range(one.ndim))
        and not any(varies(one, dim) for dim in shared)
    )


def _is_plain(module: nn.Linear | _ConvNd) -> bool:
    """Whether it computes as the class of PyTorch that it is or is derived from."""
    if isinstance(module, DepthwiseConv2d):
        return True
    kind = next(each for each in type(module).__mro__ if each.__module__ in _HOMES)
    return type(module).forward is kind.forward  # type: ignore[attr-defined]


def _fixed(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.zeros((), dtype=torch.long).expand(value.shape)
    if isinstance(value, tuple | list):
        return type(value)(map(_fixed, value)) if type(value) in (tuple, list) else tuple(map(_fixed, value))
    return value


def _unused(traced: Traced) -> list[str]:
    """Paths of modules with weights of their own that the graph does not know."""
    called = {str(node.target) for node in traced.graph.nodes if node.op == "call_module"}
    read = {str(node.target).rpartition(".")[0] for node in traced.graph.nodes if node.op == "get_attr"}
    return [
        path
        for path, module in traced.network.named_modules()
        if next(module.parameters(recurse=False), None) is not None
        and path not in read
        and called.isdisjoint(accumulate(path.split("."), "{}.{}".format))
    ]


def _tied(traced: Traced) -> dict[str, str]:
    """Paths of modules one of whose parameters someone else has too, with the reason to leave them whole."""
    owners: dict[int, list[str]] = {}
    paths = dict.fromkeys(str(node.target) for node in traced.graph.nodes if node.op == "call_module")
    for path in paths:
        for parameter in traced.network.get_submodule(path).parameters():
            owners.setdefault(id(parameter), []).append(path)
    read = {
        id(traced.values[node]): f"{traced.place(next(iter(node.users), node))} reads its weights itself"
        for node in traced.graph.nodes
        if node.op == "get_attr" and isinstance(traced.values[node], nn.Parameter)
    }
    found: dict[str, str] = {}
    for key, users in owners.items():
        for user in users:
            if others := [each for each in users if each != user]:
                found.setdefault(user, f"it shares its weights with {others[0]}")
            elif key in read:
                found.setdefault(user, read[key])
    return found
