"""Layers with fewer channels, and layers that read masked ones."""

from __future__ import annotations

import copy
from typing import Any, final

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from unas_hw.prunable.propagation import Site


def resized(module: nn.Module, site: Site, inputs: Tensor, outputs: Tensor, memo: dict[int, Any]) -> nn.Module:
    """A copy of the module that the site calls with only these channels, and their weights.

    ``inputs`` and ``outputs``, ``(C_in,)`` and ``(C_out,)``, say which stay; ``memo`` is that of ``copy.deepcopy``, the
    same for the whole network.
    """
    smaller = copy.deepcopy(module, memo)
    if bool(inputs.all()) and bool(outputs.all()):
        return smaller
    rows, columns = outputs.nonzero()[:, 0], inputs.nonzero()[:, 0]
    if isinstance(smaller, nn.Linear):
        smaller.in_features, smaller.out_features = len(columns), len(rows)
        _cut(smaller, "weight", (rows, columns))
        _cut(smaller, "bias", (rows,))
    elif isinstance(smaller, _ConvNd):
        smaller.in_channels, smaller.out_channels = len(columns), len(rows)
        if site.kind == "depthwise":
            smaller.groups = len(columns)
            # Of a transposed one the first axis is that of the input channels, of which each has its own outputs.
            _cut(smaller, "weight", (columns if isinstance(smaller, _ConvTransposeNd) else rows,))
        elif isinstance(smaller, _ConvTransposeNd):
            _cut(smaller, "weight", (columns, rows))
        else:
            _cut(smaller, "weight", (rows, inputs[: len(inputs) // smaller.groups].nonzero()[:, 0]))
        _cut(smaller, "bias", (rows,))
    else:
        for name in ("weight", "bias", "running_mean", "running_var"):
            _cut(smaller, name, (rows,))
        for name in ("num_features", "num_channels", "num_groups", "num_parameters"):
            if hasattr(smaller, name):
                setattr(smaller, name, len(rows))
    return smaller


def _cut(module: nn.Module, name: str, places: tuple[Tensor, ...]) -> None:
    """Leaves these rows, and columns, of a parameter or buffer, if there is one."""
    tensor = getattr(module, name, None)
    if not isinstance(tensor, Tensor):
        return
    smaller = tensor.detach()
    for dim, index in enumerate(places):
        smaller = smaller.index_select(dim, index.to(tensor.device))
    smaller = smaller.clone()
    setattr(module, name, nn.Parameter(smaller, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else smaller)


@final
class MaskedReader(nn.Module):
    """A convolution or linear layer whose input channels count as much as a mask says.

    The mask is multiplied into the weights, which is the same and less work.

    Args:
        layer: That is called; its parameters are used, not copied.
        index: ``(C_in,)``: place of each input channel in the mask.
    """

    def __init__(self, layer: nn.Module, index: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self._index = index

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        layer: Any = self.layer
        if self._index.device != mask.device:
            self._index = self._index.to(mask.device)
        factor = mask[self._index].to(layer.weight.dtype)
        if isinstance(layer, nn.Linear):
            return F.linear(x, layer.weight * factor, layer.bias)
        if isinstance(layer, _ConvTransposeNd):
            weight = layer.weight * factor.view(-1, *[1] * (layer.weight.ndim - 1))
            function: Any = getattr(F, f"conv_transpose{layer.weight.ndim - 2}d")
            settings = (layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)
            out: Tensor = function(x, weight, layer.bias, *settings)
            return out
        factor = factor[: layer.weight.shape[1]]  # channels of the other groups go together with those of the first
        weight = layer.weight * factor.view(1, -1, *[1] * (layer.weight.ndim - 2))
        out = layer._conv_forward(x, weight, layer.bias)
        return out
