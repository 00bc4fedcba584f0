"""What PyTorch's functions and modules do to channels, as far as it has to be known."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from unas_hw.ops.drop_path import DropPath
from unas_hw.prunable.tracing import called

_ACTIVATIONS = """relu relu_ relu6 leaky_relu leaky_relu_ elu elu_ selu selu_ celu gelu silu mish hardswish hardsigmoid
hardtanh hardtanh_ sigmoid sigmoid_ tanh tanh_ softplus softsign logsigmoid threshold silu_ mish_ hardswish_
hardsigmoid_ celu_ hardshrink softshrink tanhshrink relu6_"""
_ARITHMETIC = """add add_ iadd sub sub_ isub subtract subtract_ mul mul_ imul multiply multiply_ div div_ truediv
itruediv divide divide_ true_divide rsub neg neg_ negative pos pow pow_ ipow square square_ sqrt sqrt_ rsqrt reciprocal
abs abs_ absolute sign exp exp_ expm1 log log2 log1p sin cos erf clamp clamp_ clip clip_ clamp_min clamp_min_ clamp_max
clamp_max_ minimum maximum where gt ge lt le eq ne masked_fill nan_to_num lerp addcmul zeros_like ones_like"""
_COPIES = """contiguous clone detach float half double bfloat16 dropout dropout_ dropout1d dropout2d dropout3d
alpha_dropout feature_alpha_dropout feature_dropout rrelu"""
_POOLS = """max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
adaptive_max_pool3d interpolate upsample instance_norm"""
_MOVES = """view reshape flatten permute transpose t squeeze unsqueeze chunk split split_with_sizes tensor_split unbind
getitem cat concat concatenate stack hstack vstack dstack expand
expand_as view_as reshape_as repeat tile narrow select roll flip movedim
moveaxis swapaxes swapdims unflatten pixel_shuffle pixel_unshuffle channel_shuffle"""

ELEMENTWISE = frozenset(f"{_ACTIVATIONS} {_ARITHMETIC} {_COPIES}".split())
"""Of numbers at the same place, broadcast where they are fewer."""
POOLS = frozenset(_POOLS.split())
"""Of each channel on its own, at the positions of an image."""
MOVES = frozenset(_MOVES.split())
"""What only says where numbers lie; it is tried out on the channels themselves."""
REDUCTIONS = frozenset({"mean", "sum", "amax", "amin", "std", "var", "max", "min"})
"""Of which the last two, along an axis, give places too."""
CASTS = frozenset({"to", "type", "type_as", "cpu"})
"""Of the first tensor to a type, which another may have."""
ADDITIONS = frozenset({"add", "iadd", "add_"})
COPIES = frozenset({"clone", "contiguous"})
_IN_PLACE = frozenset({"iadd", "isub", "imul", "itruediv", "ipow"})

ELEMENTWISE_MODULES: tuple[type[nn.Module], ...] = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
    *(nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Threshold),
    *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, DropPath),
    *(nn.FeatureAlphaDropout, nn.Hardshrink, nn.Softshrink, nn.Tanhshrink, nn.RReLU),
)
POOL_MODULES: tuple[type[nn.Module], ...] = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.LPPool2d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool2d, nn.Upsample),
    *(nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d),
    *(nn.ConstantPad2d, nn.ZeroPad1d, nn.ZeroPad3d, nn.ReflectionPad1d, nn.ReflectionPad3d, nn.ReplicationPad1d),
    *(nn.ReplicationPad3d, nn.ConstantPad1d, nn.ConstantPad3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool3d, nn.LPPool1d),
)
MOVE_MODULES: tuple[type[nn.Module], ...] = (
    *(nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle),
)


def function_of(node: fx.Node) -> str | None:
    """The name of the function of PyTorch or method of a tensor that the node calls; None where it is another's."""
    name = called(node).removeprefix("_")
    if node.op == "call_method":
        return name[1:-2] if name.startswith("_") and name.endswith("__") else name  # of __iadd__ the function iadd
    known = any(getattr(home, called(node), None) is node.target for home in (torch, F, operator))
    return name if node.op == "call_function" and known else None


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """An argument of the call, by place or by name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def written(network: nn.Module, node: fx.Node) -> fx.Node | None:
    """What the node changes in place; None where it changes nothing."""
    name = function_of(node) or ""
    in_place = name.endswith("_") or name in _IN_PLACE or bool(node.kwargs.get("inplace"))
    if node.op == "call_module":
        in_place = in_place or bool(getattr(network.get_submodule(str(node.target)), "inplace", False))
    given = argument(node, 0, "input")
    return given if in_place and isinstance(given, fx.Node) else None
