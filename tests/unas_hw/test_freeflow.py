"""FreeFlow: a share is what is missing where the candidate is left out, in every space; nothing is trained or moved."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unas_hw.errors import SpaceError
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space
from unas_hw.spaces.chain import ChainSpace
from unas_hw.supernet import ChainSupernet, MixedOp, Supernet
from unas_hw.supernet import Path as NetPath
from unas_hw.zero_cost.flow import Flow, free_flow, fresh_supernet
from unas_hw.zero_cost.positive import Positive, absolute

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SPACES = {
    "mbconv-small?width=0.25": (1, 8, 8),
    "nas_bench_201?width=3&cells=2": (2, 8, 8),
    "darts?width=2&layers=3": (1, 8, 8),
    str(EXAMPLES / "tiny.yaml"): None,
}


class _Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(())


def by_hand(net: Supernet) -> Supernet:
    """The supernet made positive module by module: another way to the same numbers."""
    for module in list(net.modules()):
        if isinstance(module, nn.BatchNorm2d):
            width = module.num_features
            module.running_mean, module.running_var = torch.zeros(width), torch.full((width,), 1 - module.eps)
            module.track_running_stats = True
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(module, name, nn.Identity())
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.is_floating_point():
            tensor.data.abs_()
    return net.double().eval()


def flow_of(space: SearchSpace, net: Supernet) -> float:
    """R, where every candidate of every mixed operation weighs one."""

    def ones(mixed: nn.Module, args: tuple[Any, ...], _: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        assert isinstance(mixed, MixedOp)
        return (args[0], torch.ones(len(mixed.candidates), dtype=torch.float64)), {}

    hooks = [mixed.register_forward_pre_hook(ones, with_kwargs=True) for mixed in net.mixed_ops()]
    shape = len(space.decisions), max(len(decision.choices) for decision in space.decisions)
    with torch.no_grad():
        logits = net(torch.ones(1, *space.input_shape[1:], dtype=torch.float64), torch.ones(shape, dtype=torch.float64))
    for hook in hooks:
        hook.remove()
    return float(logits.sum())


@pytest.fixture(scope="module", params=SPACES)
def scored(request: pytest.FixtureRequest) -> tuple[SearchSpace, Flow]:
    space = find_space(request.param, image_shape=SPACES[request.param])
    return space, free_flow(space, fresh_supernet(space, 3))


def test_a_share_is_what_is_missing_of_the_flow_without_the_candidate(scored: tuple[SearchSpace, Flow]) -> None:
    space, flow = scored
    net = by_hand(fresh_supernet(space, 3))
    whole = flow_of(space, net)
    assert np.log(whole) == pytest.approx(flow.log_flow)
    drawn = np.random.default_rng(0).choice(sum(len(edge.shares) for edge in flow.edges), 12)
    every = [(edge, j) for edge in flow.edges for j in range(len(edge.shares))]
    for edge, j in (every[number] for number in drawn):
        missing = 0.0
        for mixed in [mixed for name, mixed in named(space, net) if name == edge.name]:
            candidate, mixed.candidates[j] = mixed.candidates[j], _Nothing()
            missing += (whole - flow_of(space, net)) / whole
            mixed.candidates[j] = candidate
        # Behind a maximum a little more is missing than flows through: others take its place.
        pools = any(isinstance(module, nn.MaxPool2d) for module in net.modules())
        assert edge.shares[j] == pytest.approx(missing, rel=0.05 if pools else 1e-6, abs=1e-9)


def named(space: SearchSpace, net: Supernet) -> list[tuple[str, MixedOp]]:
    """Every mixed operation with the name of its edge; of a space whose cells repeat, several have the same one."""
    if not space.name.startswith("darts"):
        names = [decision.name for decision in space.decisions]
        return [(names[number % len(names)], mixed) for number, mixed in enumerate(net.mixed_ops())]
    edges = [(node, source) for node in range(2, 6) for source in range(node)]
    places = [f"{cell}.{node}<-{source}" for cell in ("normal", "reduce", "reduce") for node, source in edges]
    return list(zip(places, net.mixed_ops(), strict=True))


def test_the_supernet_is_left_as_it_was(scored: tuple[SearchSpace, Flow]) -> None:
    space, flow = scored
    net = fresh_supernet(space, 3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert free_flow(space, net) == flow
    after = net.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert not any(mixed._forward_pre_hooks for mixed in net.mixed_ops())
    assert all(weight.grad is None and weight.requires_grad for weight in net.parameters())


def test_scores_survive_json(scored: tuple[SearchSpace, Flow]) -> None:
    _, flow = scored
    assert Flow.of(json.loads(json.dumps(flow.as_json()))) == flow


def test_another_seed_gives_other_scores_and_the_same_seed_the_same(space: ChainSpace) -> None:
    first, again, other = (free_flow(space, fresh_supernet(space, seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_what_gives_nothing_has_no_share_and_must_not_be_chosen() -> None:
    space = find_space("nas_bench_201?width=3&cells=1", image_shape=(1, 8, 8))
    flow = free_flow(space, fresh_supernet(space, 0))
    assert all(edge.shares[0] == 0 < min(edge.shares[1:]) for edge in flow.edges)
    assert all(np.isneginf(table).tolist() == [True, *[False] * 4] for table in flow.tables().values())
    assert all(np.isfinite(table).all() for table in flow.tables(nothing=True).values())


def test_dead_edges_count_nothing_in_the_score_of_a_network() -> None:
    space = find_space("nas_bench_201?width=3&cells=1", image_shape=(1, 8, 8))
    flow = free_flow(space, fresh_supernet(space, 0))
    path = (3, 0, 2, 1, 0, 4)  # nothing reaches node 2 but from node 1; all of it is live
    cut = (3, 0, 0, 1, 0, 4)  # nothing reaches node 2, and nothing takes node 1: edges 0 and 5 are dead
    shares = [edge.shares for edge in flow.edges]
    whole = sum(shares[edge][path[edge]] for edge in range(6))
    np.testing.assert_allclose(flow.scores(space, np.array([path, cut])), [whole, shares[3][1]])


def test_a_node_of_darts_takes_its_two_best_inputs_each_with_its_best_operation() -> None:
    space = find_space("darts?width=2&layers=3", image_shape=(1, 8, 8))
    flow = free_flow(space, fresh_supernet(space, 0))
    for decisions, table in flow.tables().items():
        best = np.unravel_index(table.argmax(), table.shape)
        edges = [edge for edge in flow.edges if edge.decisions == decisions]
        inputs = sorted(range(len(edges)), key=lambda source: -max(edges[source].shares))[:2]
        assert sorted((int(best[0]), int(best[2]))) == sorted(inputs) and best[0] < best[2]
        assert [int(best[1]), int(best[3])] == [int(np.argmax(edges[source].shares)) for source in sorted(inputs)]
        assert table.max() == pytest.approx(sum(max(edges[source].shares) for source in inputs))
    assert len(flow.tables()) == 8


def test_alpha_is_lowered_until_doubles_suffice_and_shares_are_those_of_that_alpha(space: ChainSpace) -> None:
    net = fresh_supernet(space, 0)
    head = next(module for module in net.modules() if isinstance(module, nn.Linear))
    head.bias.data.zero_()  # which flows whatever alpha is
    gentle = free_flow(space, net)
    head.double().weight.data *= 1e306
    flow = free_flow(space, net)
    assert gentle.alpha == 1 and flow.alpha < 1
    assert 0 < flow.log_flow < np.log(1e308)
    for edge, other in zip(flow.edges, gentle.edges, strict=True):
        np.testing.assert_allclose(edge.shares, other.shares)  # of a chain they do not hang on it


def test_a_supernet_that_nothing_gets_through_is_refused_with_a_mend(space: ChainSpace) -> None:
    net = fresh_supernet(space, 0)
    for weight in next(module for module in net.modules() if isinstance(module, nn.Linear)).parameters():
        weight.data.zero_()
    with pytest.raises(SpaceError, match="nothing of an input of ones") as caught:
        free_flow(space, net)
    assert "spaces check" in caught.value.mend


class _Doubled(Supernet):
    """Gives its candidates twice what the path says."""

    def __init__(self, inner: ChainSupernet) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, path: NetPath) -> Tensor:
        assert isinstance(path, Tensor)
        logits: Tensor = self.inner(x, 2 * path)
        return logits

    def state_of(self, path: Sequence[int]) -> dict[str, Tensor]:
        return self.inner.state_of(path)


def test_a_supernet_that_makes_weights_of_its_own_is_refused(space: ChainSpace) -> None:
    with pytest.raises(SpaceError, match="more than a row of its path"):
        free_flow(space, _Doubled(space.supernet()).eval())


def test_what_was_dropped_keeps_its_share_and_carries_no_flow(space: ChainSpace) -> None:
    net = fresh_supernet(space, 0)
    flow = free_flow(space, net)
    first = flow.edges[0]
    gone = replace(flow, edges=(replace(first, dropped=(True, *first.dropped[1:])), *flow.edges[1:]))
    again = free_flow(space, net, gone)
    assert again.edges[0].shares[0] == first.shares[0]
    assert np.exp(again.log_flow - flow.log_flow) == pytest.approx(1 - first.shares[0])
    assert again.edges[0].left == [1, 2, 3, 4, 5]
    assert np.isneginf(again.tables()[0,][0]) and np.isfinite(again.tables(dropped=True)[0,]).all()


@pytest.mark.parametrize("function", [F.relu, F.relu6, F.hardtanh, F.hardswish, F.silu, F.gelu, torch.relu])
def test_activations_let_everything_through(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.tensor([[0.5, 7.0, 700.0]])
    with Positive():
        assert torch.equal(function(x), x)
    assert not torch.equal(function(-x), -x)


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True)]
)
def test_normalisation_scales_and_shifts_and_does_nothing_else(norm: nn.Module) -> None:
    tensors = absolute(norm)
    for number, name in enumerate(tensors):
        tensors[name] = torch.arange(4.0, dtype=torch.float64) + number
    x = torch.rand(2, 4, 3, 3, dtype=torch.float64)
    with Positive():
        out = torch.func.functional_call(norm, tensors, (x,))
    scale, shift = (tensors.get(name, torch.tensor(default)) for name, default in (("weight", 1.0), ("bias", 0.0)))
    torch.testing.assert_close(out, x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1))


def test_layer_normalisation_scales_along_its_own_axes() -> None:
    norm = nn.LayerNorm(3)
    norm.weight.data = torch.tensor([1.0, 2.0, 3.0])
    x = torch.rand(2, 5, 3)
    with Positive():
        torch.testing.assert_close(norm(x), x * torch.tensor([1.0, 2.0, 3.0]))
