"""Networks as plain sums over paths: absolute weights, nothing cut off, normalisation that only scales and shifts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

RECTIFIERS = frozenset((F.relu, F.relu6, F.hardtanh, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_))
"""Functions that are off or on; what a module such as ``nn.ReLU6`` calls, and what the user's own code may call."""
_CUTS = RECTIFIERS | {
    F.hardswish, F.silu, F.gelu, F.mish, F.elu, F.celu, F.selu, F.leaky_relu, F.prelu, F.softplus
}  # fmt: skip
_NORMS: dict[Callable[..., Any], int] = {
    F.batch_norm: 3, F.instance_norm: 3, F.group_norm: 2, F.layer_norm: 2, F.rms_norm: 2
}  # fmt: skip
"""Places of their scales among their arguments; the shifts follow."""


class Positive(TorchFunctionMode):
    """Within it activations are the identity, as ReLU is for positive numbers, and normalisation is ``gamma x + beta``.

    Of modules, functions and fused blocks alike, and no module is changed. Gates such as sigmoids stay what they are.
    """

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in _CUTS:
            return first_of(args, given)
        if func in _NORMS:
            x, place = first_of(args, given), _NORMS[func]
            scale, shift = (
                args[place + number] if len(args) > place + number else given.get(name)
                for number, name in enumerate(("weight", "bias"))
            )
            if func not in (F.layer_norm, F.rms_norm):
                scale, shift = (each if each is None else _of_channels(each, x) for each in (scale, shift))
            x = x if scale is None else x * scale
            return x if shift is None else x + shift
        return func(*args, **given)


def first_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The input of a function of torch."""
    x: Tensor = args[0] if args else kwargs["input"]
    return x


def _of_channels(weight: Tensor, x: Tensor) -> Tensor:
    return weight.view(-1, *[1] * (x.dim() - 2))


def absolute(network: nn.Module) -> dict[str, Tensor]:
    """Absolute values of all parameters and buffers, in double precision, by their names; the network keeps its own."""
    named = (*network.named_parameters(), *network.named_buffers())
    return {name: value.detach().double().abs() for name, value in named if value.is_floating_point()}
