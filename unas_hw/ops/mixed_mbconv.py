"""The weighted sum of inverted residuals that share their input, all at once: what a relaxed layer of a supernet is.

Batch normalisation with the statistics of the batch treats channels one by one, so blocks side by side are one block
with the channels of all. On CPUs blocks of one kernel size are run together (they share a depthwise convolution, and
what a group is at work on fits into the caches) by a function that keeps little for the gradients and works in memory
of its own; elsewhere all blocks are one expansion.

Shape letters: N images, P positions of all images, J blocks of a group.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import batch_norm, conv2d, relu6

from unas_hw.ops.depthwise import NHWC, depthwise, input_gradient, is_quick, weight_gradient
from unas_hw.ops.mbconv import BN_EPS, MBConv

_aten = torch.ops.aten
MOST_AT_ONCE = 1_600_000
"""Elements of an inner activation: larger ones fall out of the caches between one pass over them and the next."""
KEPT = 600_000
"""Elements up to which convolutions' outputs are kept: of small images they cost the most time and the least memory."""


class _Weights(NamedTuple):
    """The parameters of a block; a number says of which normalisation."""

    expand: Tensor
    gamma_1: Tensor
    beta_1: Tensor
    filters: Tensor
    gamma_2: Tensor
    beta_2: Tensor
    project: Tensor
    gamma_3: Tensor
    beta_3: Tensor

    @classmethod
    def of(cls, block: MBConv) -> _Weights:
        weights: list[Tensor] = []
        for part in (block.expand, block.depthwise, block.project):
            convolution: Any = part.conv
            norm: Any = part.bn
            weights += (convolution.weight, norm.weight, norm.bias)
        return cls._make(weights)

    def split(self, most: int) -> list[_Weights]:
        """Blocks of at most so many inner channels each, whose projections add up to those of this one."""
        inner = zip(*(each.split(most) for each in self[:6]), self.project.split(most, 1), strict=True)
        return [_Weights._make((*each, self.gamma_3, self.beta_3)) for each in inner]


def can_be_batched(block: MBConv) -> bool:
    """Whether the block expands, normalises by its batch and drops nothing."""
    norm: Any = block.project.bn
    drops = block.training and block.drop.rate > 0
    return isinstance(block.expand, nn.Sequential) and norm.running_mean is None and not drops


def weighted_sum(x: Tensor, weights: Sequence[Tensor], blocks: Sequence[MBConv]) -> Tensor:
    """``sum_j weights[j] * blocks[j](x)``, of images ``(N, C, H, W)`` and a scalar a block.

    The blocks ``can_be_batched``, and are of one stride and one width.
    """
    convolution: Any = blocks[0].depthwise.conv
    x, stride = x.contiguous(memory_format=NHWC), convolution.stride[0]
    by_kernel: dict[int, list[_Weights]] = {}
    factors: dict[int, list[Tensor]] = {}
    for weight, block in zip(weights, blocks, strict=True):
        own = _Weights.of(block)
        by_kernel.setdefault(own.filters.shape[2], []).append(own)
        factors.setdefault(own.filters.shape[2], []).append(weight)
    groups = list(by_kernel.values())
    if is_quick(x):
        projected = torch.cat([_quick(x, group, stride) for group in groups], 1)
    else:
        projected = _plain(x, groups, stride)
    # z (gamma h + beta) = (z gamma) h + (z beta): the weights cost no pass over the activations.
    factor = torch.stack([weight for kernel in by_kernel for weight in factors[kernel]])[:, None]
    everyone = [own for group in groups for own in group]
    gamma = (torch.stack([own.gamma_3 for own in everyone]) * factor).flatten()
    beta = (torch.stack([own.beta_3 for own in everyone]) * factor).flatten()
    normed: Tensor = batch_norm(projected, None, None, gamma, beta, training=True, eps=BN_EPS)
    normed = normed.contiguous(memory_format=NHWC)
    out = _image(rows(normed).unflatten(1, (len(everyone), -1)).sum(1), normed)
    if blocks[0].residual:
        out = out + factor.sum() * x
    return out


def _plain(x: Tensor, groups: Sequence[Sequence[_Weights]], stride: int) -> Tensor:
    """All blocks up to their projections, side by side, by PyTorch's own functions."""
    everyone = [own for group in groups for own in group]
    hidden = conv2d(x, torch.cat([own.expand for own in everyone]))
    hidden = batch_norm(hidden, None, None, *_side_by_side(everyone, 1), training=True, eps=BN_EPS)
    parts = relu6(hidden).split([sum(len(own.filters) for own in group) for group in groups], 1)
    filters = [torch.cat([own.filters for own in group]) for group in groups]
    hidden = torch.cat([depthwise(part, filter_, stride) for part, filter_ in zip(parts, filters, strict=True)], 1)
    hidden = batch_norm(hidden, None, None, *_side_by_side(everyone, 2), training=True, eps=BN_EPS)
    alone = relu6(hidden).split([len(own.filters) for own in everyone], 1)
    return torch.cat([conv2d(part, own.project) for part, own in zip(alone, everyone, strict=True)], 1)


def _quick(x: Tensor, group: Sequence[_Weights], stride: int) -> Tensor:
    """Blocks of one kernel size up to their projections, side by side; on large images piece by piece."""
    most = MOST_AT_ONCE * x.shape[1] // x.numel()
    if sum(len(own.filters) for own in group) <= most:
        return _together(x, group, stride)
    outs = []
    for own in group:
        first, *pieces = own.split(max(most // 16 * 16, 16))  # the library is quickest with multiples of 16
        out = _together(x, [first], stride)
        for piece in pieces:
            out = out + _together(x, [piece], stride)
        outs.append(out)
    return torch.cat(outs, 1)


def _together(x: Tensor, group: Sequence[_Weights], stride: int) -> Tensor:
    pointwise = [own.expand for own in group] + [own.project for own in group]
    filters = torch.cat([own.filters for own in group])
    out: Tensor = _Group.apply(x, stride, *pointwise, *_side_by_side(group, 1), filters, *_side_by_side(group, 2))  # type: ignore[no-untyped-call]
    return out


def _side_by_side(everyone: Sequence[_Weights], number: Literal[1, 2]) -> tuple[Tensor, Tensor]:
    """Gamma and beta of a normalisation, side by side."""
    pairs = [(own.gamma_1, own.beta_1) if number == 1 else (own.gamma_2, own.beta_2) for own in everyone]
    return torch.cat([gamma for gamma, _ in pairs]), torch.cat([beta for _, beta in pairs])


class _Group(torch.autograd.Function):
    """``x, stride, J expansions, J projections, gamma_1, beta_1, filters, gamma_2, beta_2`` to J outputs.

    ``wide = relu6(norm_1(x expansions))``, ``narrow = relu6(norm_2(wide * filters))``, out = ``narrow projections``.
    Kept are x and the statistics; what is larger than ``KEPT`` is computed again for the gradients.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int, *weights: Tensor) -> Tensor:
        *pointwise, gamma_1, beta_1, filters, gamma_2, beta_2 = weights
        expand, project = _matrices(pointwise)
        positions, inner = x.numel() // x.shape[1], len(filters)
        keeps = positions * inner <= KEPT
        expanded = _expanded(x, expand, x.new_empty(positions, inner) if keeps else _work(0, x, inner))
        wide, *stats_1 = _norm(expanded, gamma_1, beta_1, 1)
        filtered = depthwise(wide.clamp_(0, 6), filters, stride).contiguous(memory_format=NHWC)
        narrow, *stats_2 = _norm(filtered, gamma_2, beta_2, 2)
        narrow.clamp_(0, 6)
        out = _empty(filtered, sum(len(weight) for weight in project))
        _multiply(_of(narrow, project, 1), [weight.t() for weight in project], _of(out, project, 0))
        ctx.stride = stride
        ctx.save_for_backward(x, *((expanded, filtered) if keeps else (None, None)), *stats_1, *stats_2, *weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, expanded, filtered, mean_1, scale_1, mean_2, scale_2, *weights = ctx.saved_tensors
        *pointwise, gamma_1, beta_1, filters, gamma_2, beta_2 = weights
        expand, project = _matrices(pointwise)
        to_x, learns = ctx.needs_input_grad[0], any(ctx.needs_input_grad[2:])
        grad = grad_outputs[0].contiguous(memory_format=NHWC)

        expanded = _expanded(x, expand, _work(0, x, len(filters))) if expanded is None else expanded
        wide = _norm_relu6(expanded, gamma_1, beta_1, mean_1, scale_1, 1)
        if filtered is None:
            filtered = depthwise(wide, filters, ctx.stride).contiguous(memory_format=NHWC)
        narrow = _norm_relu6(filtered, gamma_2, beta_2, mean_2, scale_2, 2)

        inner = _image(_work(3, narrow, len(filters)), narrow)
        _multiply(_of(grad, project, 0), project, _of(inner, project, 1))
        to_project = _outer(_of(grad, project, 0), _of(narrow, project, 1)) if learns else []
        inner, *to_norm_2 = _through_norm(inner, narrow, filtered, gamma_2, mean_2, scale_2, learns)
        del narrow, filtered
        to_filters = weight_gradient(inner, wide, filters.shape[2], ctx.stride) if learns else None
        inner = input_gradient(inner, wide, filters, ctx.stride).contiguous(memory_format=NHWC)
        inner, *to_norm_1 = _through_norm(inner, wide, expanded, gamma_1, mean_1, scale_1, learns)
        del wide, expanded
        grad_x = torch.zeros_like(x) if to_x else None
        if grad_x is not None:
            for part, weight in zip(_of(inner, expand, 0), expand, strict=True):
                rows(grad_x).addmm_(part, weight)
        if not learns:
            return (grad_x, *[None] * (len(weights) + 1))
        to_expand = _outer(_of(inner, expand, 0), [rows(x)] * len(expand))
        matrices = (matrix[:, :, None, None] for matrix in (*to_expand, *to_project))
        return (grad_x, None, *matrices, *to_norm_1, to_filters, *to_norm_2)


def _outer(left: Sequence[Tensor], right: Sequence[Tensor]) -> list[Tensor]:
    return [a.t() @ b for a, b in zip(left, right, strict=True)]


def _multiply(left: Sequence[Tensor], right: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    for a, b, to in zip(left, right, out, strict=True):
        torch.mm(a, b, out=to)


def _expanded(x: Tensor, weights: Sequence[Tensor], out: Tensor) -> Tensor:
    expanded = _image(out, x)
    _multiply([rows(x)] * len(weights), [weight.t() for weight in weights], _of(expanded, weights, 0))
    return expanded


def _norm(x: Tensor, gamma: Tensor, beta: Tensor, place: int) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised, with its mean and inverse standard deviation."""
    out, mean, scale = _image(_work(place, x, x.shape[1]), x), torch.empty_like(gamma), torch.empty_like(gamma)
    _aten.native_batch_norm.out(
        x, gamma, beta, None, None, True, 0.0, BN_EPS, out=out, save_mean=mean, save_invstd=scale
    )
    return out, mean, scale


def _norm_relu6(x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, scale: Tensor, place: int) -> Tensor:
    factor = gamma * scale
    out = _work(place, x, x.shape[1])
    torch.addcmul(beta - mean * factor, rows(x), factor, out=out)
    return _image(out.clamp_(0, 6), x)


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


def _through_norm(
    grad: Tensor, out: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, scale: Tensor, learns: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of ``out = relu6(norm(x))`` in x, gamma and beta; ``grad`` is overwritten."""
    _aten.hardtanh_backward.grad_input(grad, out, 0, 6, grad_input=grad)
    gradients: tuple[Tensor, Tensor | None, Tensor | None] = _aten.native_batch_norm_backward(
        grad, x, gamma, None, None, mean, scale, True, BN_EPS, [True, learns, learns]
    )
    return gradients


def _matrices(pointwise: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Expansions and projections of 1x1 convolutions, without their two axes of length one."""
    matrices = [weight.flatten(1) for weight in pointwise]
    return matrices[: len(matrices) // 2], matrices[len(matrices) // 2 :]


def rows(x: Tensor) -> Tensor:
    """``(P, C)``: a view of an image in ``channels_last``."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


def _image(rows_: Tensor, like: Tensor) -> Tensor:
    """The inverse of ``rows``, with the sizes of another image."""
    return rows_.view(like.shape[0], *like.shape[2:], -1).permute(0, 3, 1, 2)


def _empty(like: Tensor, channels: int) -> Tensor:
    return _image(like.new_empty(like.numel() // like.shape[1], channels), like)


def _of(x: Tensor, weights: Sequence[Tensor], axis: int) -> tuple[Tensor, ...]:
    """Rows of the channels that belong to each of the weights."""
    return rows(x).split_with_sizes([weight.shape[axis] for weight in weights], 1)
