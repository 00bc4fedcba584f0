"""Depthwise convolution whose gradients are quick on CPUs for small images."""

from __future__ import annotations

from functools import lru_cache
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

MAX_POSITIONS = 64
"""Input positions up to which the matrix form is used."""


@final
class DepthwiseConv2d(nn.Conv2d):
    """One filter per channel, padded by half the kernel.

    PyTorch's CPU kernels take 10 to 20 times as long for the gradient of a small depthwise convolution's weights as
    for all the rest. While training on up to ``MAX_POSITIONS`` positions the same sum is therefore written as one
    matrix product per channel; in evaluation mode, and in every export, it is a convolution.
    """

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        batch, channels, height, width = input.shape
        quick = self.training and input.device.type == "cpu" and height == width and height * width <= MAX_POSITIONS
        if not quick:
            return super().forward(input)
        taps = _taps(self.kernel_size[0], self.stride[0], height)
        size = round((taps.shape[1] / height**2) ** 0.5)
        weights = self.weight.reshape(channels, -1)
        matrices = (weights @ taps.to(weights.dtype)).reshape(channels, height * width, size * size)
        images = input.permute(1, 0, 2, 3).reshape(channels, batch, height * width)
        return torch.bmm(images, matrices).reshape(channels, batch, size, size).transpose(0, 1).contiguous()


@lru_cache(maxsize=64)
def _taps(kernel: int, stride: int, size: int) -> Tensor:
    """``(kernel^2, in * out)`` of zeros and ones: which weight joins which input position to which output position."""
    single = torch.eye(kernel * kernel).reshape(-1, 1, kernel, kernel)
    positions = torch.eye(size * size).reshape(-1, 1, size, size)
    joined = conv2d(positions, single, stride=stride, padding=kernel // 2)  # (in, kernel^2, out, out)
    return joined.permute(1, 0, 2, 3).reshape(kernel * kernel, -1).contiguous()
