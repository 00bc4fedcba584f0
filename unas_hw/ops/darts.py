"""Operations of the DARTS space, with ``channels`` in and out: an edge of a cell, which halves the size at stride 2.

Source: Liu, Simonyan & Yang, "DARTS: Differentiable Architecture Search", ICLR 2019 (arXiv 1806.09055), section 3.1.1;
the list and its order are those of UNAS (arXiv 1912.07651), which has no ``none``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from unas_hw.ops.depthwise import DepthwiseConv2d
from unas_hw.ops.nas_bench_201 import ReLUConvBN

__all__ = ["OPS", "FactorizedReduce", "ReLUConvBN", "build"]


@final
class FactorizedReduce(nn.Module):
    """ReLU, two 1x1 convolutions of stride 2 that see every other position, the second those on the diagonal between.

    ``(N, in_channels, H, W)`` to ``(N, out_channels, H / 2, W / 2)``, for even H and W; published is even sizes only.
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
        out: Tensor = self.bn(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], 1))
        return out


def separable(channels: int, stride: int, *, kernel: int) -> nn.Module:
    """``sep_conv``: ReLU, depthwise, 1x1 convolution, batch normalisation; twice, the stride in the first."""
    return nn.Sequential(
        *_separated(DepthwiseConv2d(channels, kernel, stride)), *_separated(DepthwiseConv2d(channels, kernel, 1))
    )


def dilated(channels: int, stride: int) -> nn.Module:
    """``dil_conv_3x3``: ReLU, depthwise over 5x5 positions of which it sees nine, 1x1 convolution, normalisation."""
    depthwise = nn.Conv2d(channels, channels, 3, stride, padding=2, dilation=2, groups=channels, bias=False)
    return nn.Sequential(*_separated(depthwise))


def _separated(depthwise: nn.Conv2d) -> list[nn.Module]:
    channels = depthwise.out_channels
    return [nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)]


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
    "dil_conv_3x3": dilated,
    "sep_conv_5x5": partial(separable, kernel=5),
    "avg_pool_3x3": avg_pool,
    "sep_conv_7x7": partial(separable, kernel=7),
}
OPS = tuple(_BUILDERS)
"""In the published order."""


def build(op: str, channels: int, stride: int) -> nn.Module:
    """``(N, channels, H, W)`` to ``(N, channels, H / stride, W / stride)``; ``op`` is one of ``OPS``."""
    return _BUILDERS[op](channels, stride)
