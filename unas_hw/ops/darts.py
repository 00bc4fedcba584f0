"""Operations of the DARTS space, with ``channels`` in and out: an edge of a cell, which halves the size at stride 2.

Source: Liu, Simonyan & Yang, "DARTS: Differentiable Architecture Search", ICLR 2019 (arXiv 1806.09055), section 3.1.1;
the list and its order are those of UNAS (arXiv 1912.07651), which has no ``none``. Poolings are normalised, as both
have them while searching: what is searched is what ships.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from unas_hw.ops.depthwise import DepthwiseConv2d
from unas_hw.ops.nas_bench_201 import ReLUConvBN

__all__ = ["LISTS", "OPS", "FactorizedReduce", "ReLUConvBN", "build"]


@final
class FactorizedReduce(nn.Module):
    """ReLU, two 1x1 convolutions of stride 2 that see every other position, the second those on the diagonal between.

    ``(N, in_channels, H, W)`` to ``(N, out_channels, H / 2, W / 2)``, rounded up: there the second sees a zero beyond
    the border; published is even sizes only.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.act = nn.ReLU()
        self.even = nn.Conv2d(in_channels, half, 1, 2, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels - half, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(x)
        odd = x[:, :, 1:, 1:]
        if x.shape[2] % 2 or x.shape[3] % 2:
            odd = pad(odd, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        out: Tensor = self.bn(torch.cat([self.even(x), self.odd(odd)], 1))
        return out


def separable(channels: int, stride: int, *, kernel: int) -> nn.Module:
    """``sep_conv``: ReLU, depthwise, 1x1 convolution, batch normalisation; twice, the stride in the first."""
    return nn.Sequential(
        *_separated(DepthwiseConv2d(channels, kernel, stride)), *_separated(DepthwiseConv2d(channels, kernel, 1))
    )


def dilated(channels: int, stride: int, *, kernel: int) -> nn.Module:
    """``dil_conv``: ReLU, depthwise that sees every other position, 1x1 convolution, normalisation."""
    padding = kernel - 1
    depthwise = nn.Conv2d(channels, channels, kernel, stride, padding, dilation=2, groups=channels, bias=False)
    return nn.Sequential(*_separated(depthwise))


def _separated(depthwise: nn.Conv2d) -> list[nn.Module]:
    channels = depthwise.out_channels
    return [nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)]


def crossed(channels: int, stride: int) -> nn.Module:
    """``conv_7x1_1x7``: ReLU, convolutions along a row and along a column, batch normalisation (NASNet)."""
    along_row = nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False)
    along_column = nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False)
    return nn.Sequential(nn.ReLU(), along_row, along_column, nn.BatchNorm2d(channels))


def max_pool(channels: int, stride: int) -> nn.Module:
    """``max_pool_3x3`` and batch normalisation without parameters."""
    return nn.Sequential(nn.MaxPool2d(3, stride, 1), nn.BatchNorm2d(channels, affine=False))


def avg_pool(channels: int, stride: int) -> nn.Module:
    """``avg_pool_3x3``, at the border the mean of fewer, and batch normalisation without parameters."""
    return nn.Sequential(nn.AvgPool2d(3, stride, 1, count_include_pad=False), nn.BatchNorm2d(channels, affine=False))


def skip(channels: int, stride: int) -> nn.Module:
    """``skip_connect``: nothing is done, but that the size is halved at stride 2."""
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)


_BUILDERS: dict[str, Callable[[int, int], nn.Module]] = {
    "skip_connect": skip,
    "sep_conv_3x3": partial(separable, kernel=3),
    "max_pool_3x3": max_pool,
    "dil_conv_3x3": partial(dilated, kernel=3),
    "sep_conv_5x5": partial(separable, kernel=5),
    "avg_pool_3x3": avg_pool,
    "sep_conv_7x7": partial(separable, kernel=7),
    "dil_conv_5x5": partial(dilated, kernel=5),
    "conv_7x1_1x7": crossed,
}
OPS = tuple(_BUILDERS)[:7]
"""In the published order."""
LISTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "7": OPS,
        "5": OPS[:5],
        "darts": (
            *("max_pool_3x3", "avg_pool_3x3", "skip_connect"),
            *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
        ),
        "all": tuple(_BUILDERS),
    }
)
"""What a space may offer: UNAS on CIFAR, UNAS on ImageNet, DARTS without ``none``, everything."""


def build(op: str, channels: int, stride: int) -> nn.Module:
    """``(N, channels, H, W)`` to ``(N, channels, H / stride, W / stride)``; ``op`` is one of ``LISTS["all"]``."""
    return _BUILDERS[op](channels, stride)
