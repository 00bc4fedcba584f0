"""A block as one function gives what its layers give: values, and gradients in input, weights and mixture."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from unas_hw.ops import fused_mbconv, mbconv
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mbconv, "is_quick", lambda x: False)
        return torch.stack([w * candidate(x) for w, candidate in zip(weights, mixed.candidates, strict=False)]).sum(0)


@pytest.mark.parametrize(("width", "stride", "identity"), [(8, 1, True), (8, 1, False), (12, 1, False), (12, 2, False)])
@pytest.mark.parametrize("size", [2, 5, 8, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("recompute", [False, True])
def test_fused_blocks_are_their_layers(
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


@pytest.mark.parametrize("kept", [10**9, 0])
def test_what_is_kept_changes_nothing(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    mixed = _mixed(8, 1, identity=True).double()
    x = torch.randn(3, 8, 5, 5, dtype=torch.float64, requires_grad=True)
    path = torch.softmax(torch.randn(7, dtype=torch.float64), 0).requires_grad_()
    inputs: Sequence[Tensor] = [x, path, *mixed.parameters()]
    plain = _alone(mixed, x, path)
    wanted = torch.autograd.grad(plain.square().sum(), inputs)
    before = x.detach().clone()
    monkeypatch.setattr(mbconv, "is_quick", lambda x: True)  # in doubles, too
    monkeypatch.setattr(fused_mbconv, "KEPT", kept)
    ours = mixed(x, path)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(torch.autograd.grad(ours.square().sum(), inputs), wanted)
    torch.testing.assert_close(x.detach(), before, atol=0, rtol=0)


def test_layers_share_what_they_work_in_and_disturb_nobody(space: ChainSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, path = space.supernet().eval(), torch.randn(16, 1, 8, 8), torch.full((3, 7), 1 / 7, requires_grad=True)
    inputs = [path, *net.parameters()]
    with torch.inference_mode():
        net(x, path)
    ours = net(x, path)
    other = net(torch.randn(32, 1, 8, 8), path)  # between the two passes of the first, and larger
    seen = torch.autograd.grad(ours.square().sum(), inputs)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(other.square().sum(), inputs))
    monkeypatch.setattr(mbconv, "is_quick", lambda x: False)
    plain = net(x, path)
    torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)
    for gradient, expected in zip(seen, torch.autograd.grad(plain.square().sum(), inputs), strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-3 * float(expected.abs().max().clamp_min(1)), rtol=1e-3)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # of the compiler
def test_compiled_parts_give_the_same() -> None:
    mixed, x = _mixed(8, 1, identity=False), torch.randn(4, 8, 5, 5, requires_grad=True)
    mixed = MixedOp([mixed.candidates[0], mixed.candidates[3]])
    path = torch.tensor([0.3, 0.7], requires_grad=True)
    inputs = [x, path, *mixed.parameters()]
    wanted, alone = torch.autograd.grad(mixed(x, path).square().sum(), inputs), mixed(x, 1)
    mixed.compile_parts("aot_eager")
    seen = torch.autograd.grad(mixed(x, path).square().sum(), inputs)
    for gradient, expected in zip(seen, wanted, strict=True):
        torch.testing.assert_close(gradient, expected, atol=1e-3 * float(expected.abs().max().clamp_min(1)), rtol=1e-3)
    torch.testing.assert_close(mixed(x, 1), alone, atol=1e-4, rtol=1e-3)


def test_only_what_expands_and_normalises_by_its_batch_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Tensor:
        raise AssertionError("fused")

    monkeypatch.setattr(mbconv, "expand_to_project", refuse)
    wide, narrow = (MBConv(8, 8, kernel=3, expand=expand, stride=1) for expand in (3, 1))
    x = torch.randn(2, 8, 5, 5)
    wide(x)  # it has running statistics: a network that is trained or deployed
    keep_no_statistics(wide)
    keep_no_statistics(narrow)
    narrow(x)
    with pytest.raises(AssertionError, match="fused"):
        wide(x)


def test_frozen_weights_get_no_gradients_that_would_be_thrown_away(
    space: ChainSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Tensor:
        raise AssertionError("a gradient of the weights was computed")

    net: Supernet = space.supernet()
    path = torch.full((3, 7), 1 / 7, requires_grad=True)
    monkeypatch.setattr(fused_mbconv, "weight_gradient", refuse)
    with net.frozen():
        torch.autograd.grad(net(torch.randn(8, 1, 8, 8), path).square().sum(), path)
    with pytest.raises(AssertionError, match="of the weights"):
        torch.autograd.grad(net(torch.randn(8, 1, 8, 8), path).square().sum(), path)


def test_what_is_recomputed_is_not_kept_and_drops_the_same(space: ChainSpace) -> None:
    def run(recompute: bool) -> tuple[int, Tensor]:
        net.set_memory(recompute=recompute)
        kept: dict[int, int] = {}

        def count(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        torch.manual_seed(3)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = net(x, path).square().sum()
        (gradient,) = torch.autograd.grad(loss, path)
        return sum(kept.values()), gradient

    net, path, x = space.supernet(), torch.full((3, 7), 1 / 7, requires_grad=True), torch.randn(64, 1, 8, 8)
    (stored, wanted), (recomputed, seen) = run(False), run(True)
    assert recomputed < 0.8 * stored
    torch.testing.assert_close(seen, wanted)


def test_bfloat16_is_for_the_passes_only(space: ChainSpace) -> None:
    net, path, x = space.supernet().eval(), torch.full((3, 7), 1 / 7), torch.randn(16, 1, 8, 8)
    exact = net(x, path)
    net.bf16 = True
    rounded = net(x, path)
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    assert float((rounded - exact).norm() / exact.norm()) < 0.1
    assert {weight.dtype for weight in net.parameters()} == {torch.float32}


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
