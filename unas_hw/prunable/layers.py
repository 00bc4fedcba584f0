"""Layers of a prunable network as they are run: what each costs at any width, and the row of a table that it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from torch import nn

from profilers.opspec import Attribute, OpSpec
from profilers.workload import Workload

if TYPE_CHECKING:
    from torch import Tensor

Width = TypeVar("Width", int, float, "Tensor")
"""A number of channels; a soft one is a tensor without axes."""

ACTIVATIONS: Mapping[str, type[nn.Module]] = MappingProxyType(
    {
        **{"relu": nn.ReLU, "relu6": nn.ReLU6, "silu": nn.SiLU, "gelu": nn.GELU, "mish": nn.Mish},
        **{"hardswish": nn.Hardswish, "hardsigmoid": nn.Hardsigmoid, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh},
    }
)
"""Without arguments: those that a runtime may fuse into the layer before them."""


@dataclass(frozen=True)
class Segment:
    """Part of a tensor's channels: those of a group, of so many units, or, where that is None, those that stay.

    ``channels`` are counted when nothing is left out; each has ``repeat`` places, as after flattening an image.
    """

    group: str | None
    size: int
    channels: int
    repeat: int = 1

    def width(self, counts: Mapping[str, Width]) -> Width | int:
        """Its places when so many units of each group are left; of a group that is not named, all."""
        whole = self.channels * self.repeat
        if self.group is None or self.group not in counts:
            return whole
        count = counts[self.group]
        per_unit, rest = divmod(whole, self.size)
        assert not rest
        return count * per_unit


def total(segments: tuple[Segment, ...], counts: Mapping[str, Width]) -> Width | int:
    """The width of several."""
    widths = [segment.width(counts) for segment in segments]
    whole = widths[0]
    for width in widths[1:]:
        whole = whole + width
    return whole


@dataclass(frozen=True)
class Shape:
    """Everything about a layer that does not depend on its width.

    Attributes:
        module: Class of ``torch.nn``.
        sizes: Of the input without images and channels; of a linear layer those before the channels.
        positions: Products of a weight with an image.
        kernel: One number an axis; empty for linear layers and norms.
        options: Of the module, as its constructor takes them.
        groups: Of a convolution; 0 where it has one for each channel.
        bias: Whether it has one.
        norm: Class of ``torch.nn`` of the normalisation after it.
        norm_params: Learned numbers of that for a channel.
        act: Activation at the end, of ``ACTIVATIONS``.
    """

    module: str
    sizes: tuple[int, ...]
    positions: int
    kernel: tuple[int, ...] = ()
    options: Mapping[str, tuple[int, ...] | str] = field(default_factory=dict, hash=False)
    groups: int = 1
    bias: bool = False
    norm: str | None = None
    norm_params: int = 0
    act: str | None = None


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer where it is run, with the BN and the activation that follow it alone.

    A normalisation that follows nothing alone is a layer of its own.

    Attributes:
        path: Of the module.
        blocks: Residual branches without which it is gone.
        inputs: Its input channels; of a concatenation several segments.
        outputs: Its output channels.
        again: Whether its weights are those of an earlier layer, and are counted there.
        shape: All else.
    """

    path: str
    blocks: tuple[str, ...]
    inputs: tuple[Segment, ...]
    outputs: tuple[Segment, ...]
    again: bool
    shape: Shape = field(repr=False)

    @property
    def own(self) -> bool:
        """Whether it is run for each channel on its own: a depthwise convolution, a normalisation."""
        return self.shape.groups == 0

    def widths(self, counts: Mapping[str, Width]) -> tuple[Width | int, Width | int]:
        """Input and output channels when so many units of each group are left: those to give the methods below."""
        return total(self.inputs, counts), total(self.outputs, counts)

    def macs(self, n_in: Width | int, n_out: Width | int) -> Width | float:
        """Multiply-accumulates for an image; bilinear in the widths, which may be soft."""
        shape = self.shape
        if not shape.kernel and shape.groups == 0:
            return 0 * n_out
        each = shape.positions * math.prod(shape.kernel)
        return each * n_out if self.own else self._products(each, n_in, n_out)

    def params(self, n_in: Width | int, n_out: Width | int) -> Width | float:
        """Learned numbers, those of its BN too."""
        shape = self.shape
        if self.again:
            return shape.norm_params * n_out
        each = math.prod(shape.kernel)
        beside = (shape.bias + shape.norm_params) * n_out
        if self.own:
            return (each if shape.kernel else 0) * n_out + beside
        return self._products(each, n_in, n_out) + beside

    def _products(self, each: int, n_in: Width | int, n_out: Width | int) -> Width | float:
        return each * n_in * n_out if self.shape.groups == 1 else each * n_in * n_out / self.shape.groups

    def workload(self, n_in: int, n_out: int, *, batch: int = 1, precision: str = "float32") -> Workload:
        """The row of a table for these widths."""
        shape = self.shape
        dims = (batch, *shape.sizes, n_in) if shape.module == "Linear" else (batch, n_in, *shape.sizes)
        op = OpSpec(_kind(shape), _attrs(shape, n_in, n_out), dims, precision)
        return Workload(op, partial(build, shape, n_in, n_out))


def build(shape: Shape, n_in: int, n_out: int) -> nn.Module:
    """The layer at these widths, on its own."""
    layers: list[nn.Module] = []
    if shape.module == "Linear":
        layers.append(nn.Linear(n_in, n_out, bias=shape.bias))
    elif shape.kernel:
        groups = shape.groups or n_in
        module = getattr(nn, shape.module)
        layers.append(module(n_in, n_out, shape.kernel, groups=groups, bias=shape.bias, **shape.options))
    if shape.norm == "GroupNorm":
        layers.append(nn.GroupNorm(n_out, n_out, affine=shape.norm_params > 0))
    elif shape.norm == "PReLU":
        layers.append(nn.PReLU(n_out))
    elif shape.norm is not None:
        layers.append(getattr(nn, shape.norm)(n_out, affine=shape.norm_params > 0))
    if shape.act is not None:
        layers.append(ACTIVATIONS[shape.act]())
    return nn.Sequential(*layers)


_KINDS = {"Conv2d": "conv", "Linear": "linear"}


def _kind(shape: Shape) -> str:
    """What tables call it; an ordinary convolution with BN and ReLU6 is called as everywhere."""
    if not shape.kernel and shape.module != "Linear":
        return str(shape.norm).lower()
    kind = _KINDS.get(shape.module, shape.module.lower())
    return kind if shape.groups else f"depthwise_{kind}"


def _attrs(shape: Shape, n_in: int, n_out: int) -> dict[str, Attribute]:
    attrs: dict[str, Attribute] = {"act": shape.act or "none"}
    if not shape.kernel and shape.module != "Linear":
        return attrs
    attrs["out"] = n_out
    if shape.bias:
        attrs["bias"] = 1
    if shape.module == "Linear":
        return attrs if shape.norm is None else {**attrs, "norm": shape.norm.lower()}
    if shape.act == "relu6":
        del attrs["act"]
    if not str(shape.norm).startswith("BatchNorm"):
        attrs["norm"] = str(shape.norm).lower()
    if shape.groups > 1:
        attrs["groups"] = shape.groups
    half = tuple(each // 2 for each in shape.kernel)
    usual: dict[str, tuple[int, ...] | str] = {"dilation": (1,) * len(half), "padding": half, "padding_mode": "zeros"}
    usual["output_padding"] = (0,) * len(half)
    named = {"kernel": shape.kernel, **shape.options}
    return attrs | {name: _text(each) for name, each in named.items() if usual.get(name) != each}


def _text(sizes: tuple[int, ...] | str) -> int | str:
    if isinstance(sizes, str):
        return sizes
    return sizes[0] if len(set(sizes)) == 1 else "x".join(map(str, sizes))
