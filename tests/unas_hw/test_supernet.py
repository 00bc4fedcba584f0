"""A supernet is all networks of its space at once: a relaxed path with all weight on one choice is that choice's path,
every candidate that has weight learns, and no network leaves statistics behind for another.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unas_hw.spaces.chain import ChainSpace
from unas_hw.supernet import IDENTITY_DROPOUT, MixedOp

PATHS: list[tuple[int, ...]] = [(0, 0, 0), (5, 6, 5), (2, 0, 3), (1, 4, 0)]


def _one_hot(path: tuple[int, ...]) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(path), 7).float()


def _mixed(net: nn.Module) -> list[MixedOp]:
    return [module for module in net.modules() if isinstance(module, MixedOp)]


@pytest.mark.parametrize("path", PATHS)
def test_a_one_hot_relaxed_path_equals_the_single_path(space: ChainSpace, path: tuple[int, ...]) -> None:
    net, x = space.supernet().eval(), torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(net(x, _one_hot(path)), net(x, path))
    other = PATHS[(PATHS.index(path) + 1) % len(PATHS)]
    assert not torch.allclose(net(x, path), net(x, other), atol=1e-3)


def test_a_relaxed_path_is_the_weighted_sum_of_the_candidates() -> None:
    mixed = MixedOp([nn.Linear(3, 3), nn.Identity(), nn.Linear(3, 3)])
    x, weights = torch.randn(2, 3), torch.tensor([0.2, 0.5, 0.3, 0.0])
    expected = sum(float(w) * m(x) for w, m in zip(weights, mixed.candidates, strict=False))
    torch.testing.assert_close(mixed(x, weights), expected)


def test_every_candidate_learns_from_a_relaxed_path(space: ChainSpace) -> None:
    net = space.supernet()
    net(torch.randn(8, 1, 8, 8), torch.full((3, 7), 1 / 7)).square().sum().backward()
    for mixed in _mixed(net):
        for candidate in mixed.candidates:
            for name, weight in candidate.named_parameters():
                assert weight.grad is not None and float(weight.grad.abs().sum()) > 0, name


def test_only_the_chosen_candidates_learn_from_a_single_path(space: ChainSpace) -> None:
    net, path = space.supernet(), (2, 3, 1)
    net(torch.randn(8, 1, 8, 8), path).square().sum().backward()
    for mixed, chosen in zip(_mixed(net), path, strict=True):
        for index, candidate in enumerate(mixed.candidates):
            learns = [weight.grad is not None for weight in candidate.parameters()]
            assert learns == [index == chosen] * len(learns)


def test_the_weights_of_a_relaxed_path_have_gradients_where_there_is_a_choice(space: ChainSpace) -> None:
    path = torch.full((3, 7), 1 / 7, requires_grad=True)
    space.supernet().eval()(torch.randn(8, 1, 8, 8), path).square().sum().backward()
    assert path.grad is not None
    assert (path.grad != 0).sum(1).tolist() == [6, 7, 6]


def test_batch_normalisation_keeps_no_running_statistics(space: ChainSpace) -> None:
    net, x = space.supernet(), torch.randn(4, 1, 8, 8)
    assert list(net.buffers()) == []
    net.eval()
    before = net(x, (1, 1, 1))
    net.train()
    for _ in range(3):
        net(100 + 10 * torch.randn(16, 1, 8, 8), (1, 1, 1))
    torch.testing.assert_close(net.eval()(x, (1, 1, 1)), before, atol=0, rtol=0)


def test_skipping_a_layer_is_no_free_ride_while_searching(space: ChainSpace) -> None:
    net, x = space.supernet(), torch.randn(4, 1, 8, 8)
    skips = [module for module in net.modules() if isinstance(module, nn.Dropout)]
    assert [skip.p for skip in skips] == [IDENTITY_DROPOUT]
    assert not torch.equal(net(x, (1, 0, 1)), net(x, (1, 0, 1)))
    net.eval()
    assert torch.equal(net(x, (1, 0, 1)), net(x, (1, 0, 1)))
