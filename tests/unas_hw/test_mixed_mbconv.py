"""Blocks that are run together give what each gives alone: values, and gradients in input, weights and mixture."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from unas_hw.ops.mbconv import MBConv
from unas_hw.spaces.chain import ChainSpace
from unas_hw.supernet import MixedOp, Supernet, keep_no_statistics

CHOICES = [(kernel, expand) for expand in (3, 6) for kernel in (3, 5, 7)]


def _mixed(width: int, stride: int, *, identity: bool) -> MixedOp:
    torch.manual_seed(0)
    blocks: list[nn.Module] = [MBConv(8, width, kernel=k, expand=e, stride=stride) for k, e in CHOICES]
    mixed = MixedOp([*([nn.Identity()] if identity else []), *blocks])
    keep_no_statistics(mixed)
    for weight in mixed.parameters():  # so that no normalisation is the one that does nothing
        nn.init.normal_(weight, 0.3 if weight.ndim == 1 else 0.0, 0.5)
    return mixed


def _alone(mixed: MixedOp, x: Tensor, weights: Tensor) -> Tensor:
    return torch.stack([w * candidate(x) for w, candidate in zip(weights, mixed.candidates, strict=False)]).sum(0)


@pytest.mark.parametrize(("width", "stride", "identity"), [(8, 1, True), (8, 1, False), (12, 1, False), (12, 2, False)])
@pytest.mark.parametrize("size", [2, 5, 8, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("recompute", [False, True])
def test_together_is_each_alone(
    width: int, stride: int, identity: bool, size: int, dtype: torch.dtype, recompute: bool
) -> None:
    mixed = _mixed(width, stride, identity=identity).to(dtype)
    x = torch.randn(6, 8, size, size, dtype=dtype, requires_grad=True)
    path = torch.softmax(torch.randn(8, dtype=dtype), 0).requires_grad_()
    mixed.recompute = recompute
    plain, ours = _alone(mixed, x, path), mixed(x, path)
    atol, rtol = (2e-4, 2e-3) if dtype == torch.float32 else (1e-10, 1e-8)
    torch.testing.assert_close(ours, plain, atol=atol, rtol=rtol)
    inputs: Sequence[Tensor] = [x, path, *mixed.parameters()]
    toward = torch.randn_like(plain)
    wanted = torch.autograd.grad((plain * toward).sum(), inputs)
    for seen, expected in zip(torch.autograd.grad((ours * toward).sum(), inputs), wanted, strict=True):
        scale = float(expected.abs().max())  # sums over positions cancel: rounding is of their size
        torch.testing.assert_close(seen, expected, atol=atol * max(scale, 1.0), rtol=rtol)


def test_frozen_weights_leave_the_gradient_of_the_path_as_it_is(space: ChainSpace) -> None:
    net: Supernet = space.supernet().eval()
    x, path = torch.randn(8, 1, 8, 8), torch.full((3, 7), 1 / 7, requires_grad=True)
    (wanted,) = torch.autograd.grad(net(x, path).square().sum(), path)
    with net.frozen():
        (seen,) = torch.autograd.grad(net(x, path).square().sum(), path)
        assert not any(weight.requires_grad for weight in net.parameters())
    torch.testing.assert_close(seen, wanted)
    assert all(weight.requires_grad for weight in net.parameters())


def test_fewer_candidates_are_those_of_the_largest_weights_and_keep_the_sum() -> None:
    mixed, x = _mixed(8, 1, identity=True), torch.randn(4, 8, 5, 5)
    path = torch.tensor([0.05, 0.4, 0.05, 0.3, 0.1, 0.05, 0.05])
    mixed.most = 2
    expected = (0.4 * mixed.candidates[1](x) + 0.3 * mixed.candidates[3](x)) / 0.7
    torch.testing.assert_close(mixed(x, path), expected, atol=1e-4, rtol=1e-3)
    assert bool((mixed(x, torch.zeros(7)) == 0).all())  # an edge of a cell that no pair has chosen
