"""An inverted residual up to its projection as one function, for blocks that normalise by their batch, on CPUs.

It keeps little for the gradients and works in memory of its own, which saves time as well.

Shape letters: N images, P positions of all images.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unas_hw.ops.depthwise import NHWC, depthwise, input_gradient, weight_gradient

_aten = torch.ops.aten
KEPT = 600_000
"""Elements up to which convolutions' outputs are kept: of small images they cost the most time and the least memory."""


def expand_to_project(x: Tensor, stride: int, eps: float, *weights: Tensor) -> Tensor:
    """``relu6(norm_2(relu6(norm_1(x expand)) * filters)) project``, not normalised.

    Args:
        x: Images ``(N, C, H, W)``, float32 on a CPU.
        stride: Of the depthwise convolution.
        eps: Of both normalisations.
        weights: Expansion, gamma_1, beta_1, filters, gamma_2, beta_2, projection, as the layers have them.
    """
    out: Tensor = _Fused.apply(x.contiguous(memory_format=NHWC), stride, eps, *weights)  # type: ignore[no-untyped-call]
    return out


class _Fused(torch.autograd.Function):
    """``wide`` is what the first ReLU6 gives, ``narrow`` the second.

    Kept are x and the statistics; what is larger than ``KEPT`` is computed again for the gradients.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int, eps: float, *weights: Tensor) -> Tensor:
        expand, gamma_1, beta_1, filters, gamma_2, beta_2, project = weights
        positions, inner = x.numel() // x.shape[1], len(filters)
        keeps = positions * inner <= KEPT
        expanded = _expanded(x, expand, x.new_empty(positions, inner) if keeps else _work(0, x, inner))
        wide, *stats_1 = _norm(expanded, gamma_1, beta_1, eps, 1)
        filtered = depthwise(wide.clamp_(0, 6), filters, stride).contiguous(memory_format=NHWC)
        narrow, *stats_2 = _norm(filtered, gamma_2, beta_2, eps, 2)
        out = _image(_rows(narrow.clamp_(0, 6)) @ project.flatten(1).t(), filtered)
        ctx.stride, ctx.eps = stride, eps
        ctx.save_for_backward(x, *((expanded, filtered) if keeps else (None, None)), *stats_1, *stats_2, *weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, expanded, filtered, mean_1, scale_1, mean_2, scale_2, *weights = ctx.saved_tensors
        expand, gamma_1, beta_1, filters, gamma_2, beta_2, project = weights
        to_x, learns = ctx.needs_input_grad[0], any(ctx.needs_input_grad[3:])
        grad = _rows(grad_outputs[0].contiguous(memory_format=NHWC))

        expanded = _expanded(x, expand, _work(0, x, len(filters))) if expanded is None else expanded
        wide = _norm_relu6(expanded, gamma_1, beta_1, mean_1, scale_1, 1)
        if filtered is None:
            filtered = depthwise(wide, filters, ctx.stride).contiguous(memory_format=NHWC)
        narrow = _norm_relu6(filtered, gamma_2, beta_2, mean_2, scale_2, 2)

        inner = torch.mm(grad, project.flatten(1), out=_work(3, narrow, len(filters)))
        to_project = grad.t() @ _rows(narrow) if learns else None
        back, *to_norm_2 = _through_norm(
            _image(inner, narrow), narrow, filtered, gamma_2, mean_2, scale_2, ctx.eps, learns
        )
        del narrow, filtered
        to_filters = weight_gradient(back, wide, filters.shape[2], ctx.stride) if learns else None
        back = input_gradient(back, wide, filters, ctx.stride).contiguous(memory_format=NHWC)
        back, *to_norm_1 = _through_norm(back, wide, expanded, gamma_1, mean_1, scale_1, ctx.eps, learns)
        del wide, expanded
        grad_x = _image(_rows(back) @ expand.flatten(1), x) if to_x else None
        if to_project is None:
            return (grad_x, *[None] * (2 + len(weights)))
        to_expand = (_rows(back).t() @ _rows(x)).view_as(expand)
        return (grad_x, None, None, to_expand, *to_norm_1, to_filters, *to_norm_2, to_project.view_as(project))


def _expanded(x: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    return _image(torch.mm(_rows(x), weight.flatten(1).t(), out=out), x)


def _norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float, place: int) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised, with its mean and inverse standard deviation."""
    out, mean, scale = _image(_work(place, x, x.shape[1]), x), torch.empty_like(gamma), torch.empty_like(gamma)
    _aten.native_batch_norm.out(x, gamma, beta, None, None, True, 0.0, eps, out=out, save_mean=mean, save_invstd=scale)
    return out, mean, scale


def _norm_relu6(x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, scale: Tensor, place: int) -> Tensor:
    factor = gamma * scale
    out = _work(place, x, x.shape[1])
    torch.addcmul(beta - mean * factor, _rows(x), factor, out=out)
    return _image(out.clamp_(0, 6), x)


def _through_norm(
    grad: Tensor, out: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, scale: Tensor, eps: float, learns: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of ``out = relu6(norm(x))`` in x, gamma and beta; ``grad`` is overwritten."""
    _aten.hardtanh_backward.grad_input(grad, out, 0, 6, grad_input=grad)
    gradients: tuple[Tensor, Tensor | None, Tensor | None] = _aten.native_batch_norm_backward(
        grad, x, gamma, None, None, mean, scale, True, eps, [True, learns, learns]
    )
    return gradients


class _Memory(threading.local):
    """Places to work in, each as large as what was largest: memory that is given back and fetched anew is slow, and
    lies in pieces between what is kept.
    """

    def __init__(self) -> None:
        self.places: dict[tuple[int, torch.dtype, bool], Tensor] = {}


_memory = _Memory()


def _work(place: int, x: Tensor, channels: int) -> Tensor:
    """``(P, channels)`` for the positions of an image, uninitialised; good until the place is asked for again."""
    count = x.numel() // x.shape[1] * channels
    key = place, x.dtype, torch.is_inference_mode_enabled()  # what is made in that mode is of no use in another
    flat = _memory.places.get(key)
    if flat is None or flat.numel() < count:
        flat = _memory.places[key] = torch.empty(count, dtype=x.dtype)
    return flat[:count].view(-1, channels)


def _rows(x: Tensor) -> Tensor:
    """``(P, C)``: a view of an image in ``channels_last``."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


def _image(rows: Tensor, like: Tensor) -> Tensor:
    """The inverse of ``_rows``, with the sizes of another image."""
    return rows.view(like.shape[0], *like.shape[2:], -1).permute(0, 3, 1, 2)
