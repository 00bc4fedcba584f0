"""Makes the layers of a network of the places where channels are resized."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from unas_hw.prunable import operations as ops
from unas_hw.prunable.blocks import Block
from unas_hw.prunable.groups import Group
from unas_hw.prunable.layers import ACTIVATIONS, Layer, Segment, Shape
from unas_hw.prunable.propagation import Flow, Site

_FUSED = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def layers_of(
    flow: Flow, groups: tuple[Group, ...], positions: dict[str, Tensor], blocks: tuple[Block, ...]
) -> tuple[Layer, ...]:
    """The layers, in order; ``positions`` says by group the unit of each channel, -1 for others'."""
    found, done, seen = [], set[fx.Node](), set[str]()
    norms = {site.node: site for site in flow.sites if site.kind == "norm"}
    for site in flow.sites:
        if site.node in done:
            continue
        shape, last = _shape(flow, site), site.node
        norm = norms.get(only) if site.kind != "norm" and (only := _only_user(last)) is not None else None
        if norm is not None and isinstance(_module(flow, norm), _FUSED):
            shape, last = replace(shape, **_norm(_module(flow, norm), norm.path in seen)), norm.node
            seen.add(norm.path)
            done.add(last)
        after = _only_user(last)
        act = _activation(flow, after) if after is not None else None
        around = tuple(block.name for block in blocks if site.node.name in block.nodes)
        inputs, outputs = (_segments(each, groups, positions) for each in (site.inputs, site.outputs))
        found.append(Layer(site.path, around, inputs, outputs, site.path in seen, replace(shape, act=act)))
        seen.add(site.path)
    return tuple(found)


def _module(flow: Flow, site: Site) -> nn.Module:
    return flow.traced.network.get_submodule(site.path)


def _only_user(node: fx.Node) -> fx.Node | None:
    (*users,) = node.users
    return users[0] if len(users) == 1 else None


def _activation(flow: Flow, node: fx.Node) -> str | None:
    if node.op == "call_module":
        module = flow.traced.network.get_submodule(str(node.target))
        names = [name for name, kind in ACTIVATIONS.items() if type(module) is kind]
        return names[0] if names and module.extra_repr() in ("", "inplace=True", "approximate='none'") else None
    name = (ops.function_of(node) or "").removesuffix("_")
    alone = len(node.args) <= 1 and set(node.kwargs) <= {"input", "inplace"}
    return name if name in ACTIVATIONS and alone else None


def repeats(flow: Flow, node: fx.Node) -> bool:
    """Whether the node is a ReLU of what is one already, as where a block between them is left out: it does nothing."""
    kind = _activation(flow, node)
    if kind not in ("relu", "relu6"):
        return False
    (source,) = node.all_input_nodes
    while source.op == "call_module" and type(flow.traced.network.get_submodule(str(source.target))) is nn.Identity:
        (source,) = source.all_input_nodes
    return _activation(flow, source) == kind


def _norm(module: nn.Module, again: bool) -> dict[str, Any]:
    count = 0 if again else len(list(module.parameters()))
    return {"norm": type(module).__name__, "norm_params": count}


def _shape(flow: Flow, site: Site) -> Shape:
    module = _module(flow, site)
    given, value = flow.traced.values[site.node.all_input_nodes[0]].shape, flow.traced.values[site.node].shape
    if isinstance(module, nn.Linear):
        between = tuple(value[1:-1])
        return Shape("Linear", between, math.prod(between), bias=module.bias is not None)
    sizes = tuple(given[2:])
    if not isinstance(module, _ConvNd):
        return Shape("", sizes, 0, groups=0, **_norm(module, False))
    transposed = isinstance(module, _ConvTransposeNd)
    options: dict[str, tuple[int, ...] | str] = {"stride": module.stride, "dilation": module.dilation}
    options |= {"padding": _padding(module), "padding_mode": module.padding_mode}
    if transposed:
        options["output_padding"] = module.output_padding
    return Shape(
        next(kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith("torch.nn")),
        sizes,
        math.prod(given[2:] if transposed else value[2:]),
        tuple(module.kernel_size),
        options,
        groups=0 if site.kind == "depthwise" else module.groups,
        bias=module.bias is not None,
    )


def _padding(conv: _ConvNd) -> tuple[int, ...] | str:
    """Numbers, where the words for them have such."""
    if not isinstance(conv.padding, str):
        return conv.padding
    if conv.padding == "valid":
        return (0,) * len(conv.kernel_size)
    both = [(kernel - 1) * dilation for kernel, dilation in zip(conv.kernel_size, conv.dilation, strict=True)]
    return conv.padding if any(each % 2 for each in both) else tuple(each // 2 for each in both)


def _segments(channels: Tensor, groups: tuple[Group, ...], positions: dict[str, Tensor]) -> tuple[Segment, ...]:
    """What a tensor's channels are parts of, in the order in which they begin."""
    found: list[tuple[int, Segment]] = []
    rest = len(channels)
    for group in groups:
        inside = positions[group.name][channels] >= 0
        count = int(inside.sum())
        if count:
            distinct = len(channels[inside].unique())
            first = int(inside.nonzero()[0, 0])
            found.append((first, Segment(group.name, group.size, distinct, count // distinct)))
            rest -= count
    if rest:
        taken = sum((positions[group.name][channels] >= 0 for group in groups), channels.new_zeros(len(channels)))
        found.append((int((taken == 0).nonzero()[0, 0]), Segment(None, 1, rest)))
    return tuple(segment for _, segment in sorted(found, key=lambda each: each[0]))
