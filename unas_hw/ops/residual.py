"""Residual block of two convolutions."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn
from torch.nn.functional import relu

from unas_hw.ops.mbconv import conv_bn


@final
class BasicBlock(nn.Module):
    """Two convolutions with batch normalisation and a shortcut, ReLU after each sum (ResNet, section 3.3).

    The shortcut is the input, or a 1x1 convolution with batch normalisation where the shape changes:
    ``(N, in_channels, H, W)`` to ``(N, out_channels, H / stride, W / stride)``, sizes rounded up.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_a = conv_bn(in_channels, out_channels, kernel=kernel, stride=stride)
        self.conv_b = conv_bn(out_channels, out_channels, kernel=kernel, act=False)
        changes = stride > 1 or in_channels != out_channels
        self.shortcut = (
            conv_bn(in_channels, out_channels, kernel=1, stride=stride, act=False) if changes else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.shortcut(x) + self.conv_b(self.conv_a(x)))
