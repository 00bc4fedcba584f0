"""Depthwise convolution whose gradients are quick on CPUs.

PyTorch's CPU library (oneDNN) has a fast kernel for the gradient of a depthwise convolution's weights where these are
at most three columns wide and the image is larger than that; a 7x7 one takes it 10 to 150 times as long as all else.
The same sum is therefore taken in parts of at most three columns, over copies of the input moved to where they belong.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, pad

COLUMNS = 3
"""Of weights whose gradient the library computes quickly, in images of more rows and columns than ``SMALL``."""
SMALL = 2
NHWC = torch.channels_last


@final
class DepthwiseConv2d(nn.Conv2d):
    """One filter per channel, padded by half the kernel.

    On CPUs what learns has gradients of its own, to rounding the same; in evaluation mode, and in every export, it is
    a convolution.
    """

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        if self.training and torch.is_grad_enabled() and is_quick(input):
            out: Tensor = _Depthwise.apply(input.contiguous(memory_format=NHWC), self.weight, self.stride[0])  # type: ignore[no-untyped-call]
            return out
        return super().forward(input)


def is_quick(x: Tensor) -> bool:
    """Whether the forms for CPUs serve this tensor: the library knows no doubles, autocast and compilers not these."""
    plain = torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
    return x.device.type == "cpu" and x.dtype == torch.float32 and not plain


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return depthwise(x, weight, stride)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        grad = grad_outputs[0].contiguous(memory_format=NHWC)
        to_x, to_weight, _ = ctx.needs_input_grad
        return (
            input_gradient(grad, x, weight, ctx.stride) if to_x else None,
            weight_gradient(grad, x, weight.shape[2], ctx.stride) if to_weight else None,
            None,
        )


def depthwise(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """``(N, C, H, W)`` with filters ``(C, 1, k, k)``, padded by ``k // 2``."""
    return conv2d(x, weight, None, stride, weight.shape[2] // 2, groups=x.shape[1])


def input_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Gradient in the input ``x`` of ``depthwise``, of ``grad`` in its output; of x only the shape counts."""
    padding = weight.shape[2] // 2
    return _gradients(grad, x, weight, stride, (padding, padding), (True, False, False))[0]


def weight_gradient(grad: Tensor, x: Tensor, kernel: int, stride: int) -> Tensor:
    """``(C, 1, kernel, kernel)``: gradient in the weights of ``depthwise``; tensors are best in ``channels_last``."""
    if kernel <= COLUMNS and min(x.shape[2:]) > SMALL:
        weight = x.new_empty(x.shape[1], 1, kernel, kernel)
        return _gradients(grad, x, weight, stride, (kernel // 2, kernel // 2), (False, True, False))[1]
    out = x.new_zeros(x.shape[1], 1, kernel, kernel)
    for rows in _parts(kernel, stride, x.shape[2], grad.shape[2], kernel):
        for columns in _parts(kernel, stride, x.shape[3], grad.shape[3], COLUMNS):
            moved = x[:, :, rows.phase :: stride, columns.phase :: stride]
            if rows.padding != (0, 0) or columns.padding != (0, 0):
                moved = pad(moved, (*columns.padding, *rows.padding))
            moved = moved.contiguous(memory_format=NHWC)
            weight = x.new_empty(x.shape[1], 1, len(rows.taps), len(columns.taps))
            taps = (rows.taps, columns.taps)
            part = _gradients(grad, moved, weight, 1, (rows.left, columns.left), (False, True, False))[1]
            out[:, :, *(slice(each.start, each.stop, each.step) for each in taps)] = part
    return out


@dataclass(frozen=True)
class _Part:
    """Taps of a kernel along one axis, and what they see of the input: every stride-th position from ``phase`` on,
    padded (or cut, where negative) so that a convolution of stride 1 sees just that, which pads both ends by ``left``.
    """

    taps: range
    phase: int
    padding: tuple[int, int]
    left: int


@lru_cache(maxsize=256)
def _parts(kernel: int, stride: int, size: int, out_size: int, most: int) -> list[_Part]:
    """All taps that see more than padding, at most so many in a part."""
    first = max(0, kernel // 2 - stride * (out_size - 1))
    last = min(kernel - 1, kernel // 2 + size - 1)
    by_library = stride == 1 and size >= kernel  # on smaller images it is slow
    parts = []
    for start in range(first, min(first + stride, last + 1)):
        same_phase = range(start, last + 1, stride)
        # A part in the middle needs no copy: what it sees is the input itself, padded at both ends by the same.
        beside = (len(same_phase) - most) // 2 % most if by_library and len(same_phase) > most else 0
        begins = [*([0] if beside else []), *range(beside, len(same_phase), most)]
        for begin, end in zip(begins, [*begins[1:], len(same_phase)], strict=True):
            taps = same_phase[begin:end]
            shift, phase = divmod(taps.start - kernel // 2, stride)
            before, after = -shift, out_size + len(taps) - 1 + shift - len(range(phase, size, stride))
            left = before if by_library and before == after > 0 else 0
            parts.append(_Part(taps, phase, (before - left, after - left), left))
    return parts


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int], mask: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Of a depthwise convolution, in its input and its weights, as far as the mask asks for them."""
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, list(padding), [1, 1], False, [0, 0], x.shape[1], list(mask)
    )
    return gradients
