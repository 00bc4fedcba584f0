"""Candidates that nest share one weight: each network is what it is on its own, a relaxed layer is one block."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

import unas_hw
from unas_hw.data import Batch
from unas_hw.distribution import ArchitectureDistribution
from unas_hw.errors import MethodError
from unas_hw.estimators import find_estimator
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.methods.unas.entangled import ends_of, supernet_of
from unas_hw.nesting import Nest, groups
from unas_hw.network import inherit
from unas_hw.objectives import TaskLoss, task
from unas_hw.ops.mbconv import MBConv
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space
from unas_hw.spaces.building import Chain
from unas_hw.supernet import MixedOp, Supernet

ENTANGLED = UnasConfig(supernet="entangled")
SPACES = ["mbconv-small", "nas_bench_201?width=4&cells=1"]


def moved(net: Supernet) -> Supernet:
    """With scales and shifts of normalisation that a mistake would not survive."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and isinstance(module.weight, nn.Parameter):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return net.eval()


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return find_space(request.param, image_shape=(1, 8, 8), classes=3)


@pytest.fixture
def net(space: SearchSpace) -> Supernet:
    torch.manual_seed(0)
    return moved(supernet_of(space, ENTANGLED)[0])


def _paths(space: SearchSpace, count: int = 6) -> list[tuple[int, ...]]:
    rng = random.Random(1)
    return [space.indices(space.draw(rng)) for _ in range(count)]


def test_each_network_is_what_it_is_with_the_same_weights_on_its_own(space: SearchSpace, net: Supernet) -> None:
    x = torch.randn(8, 1, 8, 8)
    for path in _paths(space):
        network = space.network(space.architecture(path))
        inherit(network, net, path)
        torch.testing.assert_close(net(x, path), network.train()(x), atol=1e-4, rtol=1e-4)


def test_all_weight_on_one_network_gives_what_it_gives(space: SearchSpace, net: Supernet) -> None:
    x, most = torch.randn(8, 1, 8, 8), max(len(decision.choices) for decision in space.decisions)
    for path in _paths(space):
        torch.testing.assert_close(
            net(x, one_hot(torch.tensor(path), most).float()), net(x, path), atol=1e-4, rtol=1e-4
        )


def test_weights_are_those_of_the_largest_and_normalisation_is_each_ones_own() -> None:
    blocks = [MBConv(4, 4, kernel=kernel, expand=expand, stride=1) for expand in (3, 6) for kernel in (3, 5, 7)]
    largest = sum(weight.numel() for weight in blocks[-1].parameters())
    norms = sum(2 * (2 * 4 * expand + 4) for expand in (3, 3, 3, 6, 6))
    mixed = MixedOp([nn.Identity(), *blocks])
    assert mixed.entangle() == 6
    assert sum(weight.numel() for weight in mixed.parameters()) == largest + norms
    small, whole = mixed.alone(1), mixed.alone(6)
    assert isinstance(small, MBConv) and isinstance(whole, MBConv)
    centre = whole.depthwise.get_parameter("conv.weight")[:12, :, 2:5, 2:5]
    assert torch.equal(small.depthwise.get_parameter("conv.weight"), centre)
    assert torch.equal(small.project.get_parameter("conv.weight"), whole.project.get_parameter("conv.weight")[:, :12])


def test_what_is_no_part_of_another_shares_nothing() -> None:
    def block(kernel: int = 3, expand: int = 3, stride: int = 1) -> MBConv:
        return MBConv(4, 4, kernel=kernel, expand=expand, stride=stride)

    assert groups([block(kernel=5), block(expand=6)]) == [], "neither is inside the other"
    assert groups([block(), block(kernel=4)]) == [], "no centre"
    assert groups([block(), block(stride=2)]) == []
    assert groups([block(kernel=5), nn.Identity(), block(), block(expand=6, kernel=5)]) == [[2, 0, 3]]
    assert groups([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3)]) == [], "they do not say so"


def test_a_relaxed_layer_is_the_block_of_the_mean_weights() -> None:
    blocks = [MBConv(4, 4, kernel=3, expand=3, stride=1), MBConv(4, 4, kernel=3, expand=6, stride=1)]
    nest, x = Nest(blocks), torch.randn(5, 4, 6, 6)
    same = nest.mixed(x, [torch.tensor(0.0), torch.tensor(0.4)])
    torch.testing.assert_close(same, 0.4 * nest(x, 1))
    half = [torch.tensor(0.5), torch.tensor(0.5)]
    expected = nest.alone(1)
    assert isinstance(expected, MBConv)
    for part, axis in ((expected.expand, 0), (expected.depthwise, 0), (expected.project, 1)):
        weight = part.get_parameter("conv.weight")
        weight.data.narrow(axis, 12, 12).mul_(0.5)
    for part in (expected.expand, expected.depthwise):
        for name in ("bn.weight", "bn.bias"):
            part.get_parameter(name).data[12:].mul_(0.5)
    torch.testing.assert_close(nest.mixed(x, half), expected.train()(x), atol=1e-5, rtol=1e-4)


def test_candidates_that_are_left_out_have_no_part_in_the_mean_whatever_their_size() -> None:
    nest = Nest([MBConv(4, 4, kernel=kernel, expand=expand, stride=1) for expand in (3, 6) for kernel in (3, 5)])
    x, weights = torch.randn(5, 4, 6, 6), torch.tensor([0.3, 0.2, 0.0, 0.0])
    some = nest.mixed(x, [weights[0], weights[1], None, None])
    torch.testing.assert_close(some, nest.mixed(x, weights.unbind()), atol=1e-5, rtol=1e-4)


def test_the_drawn_network_runs_once_a_step(space: SearchSpace, net: Supernet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "SMALLEST", 1)
    ends, batch = ends_of(space, net), Batch(torch.randn(8, 1, 8, 8), torch.arange(8) % 3)
    term, passes = TaskLoss(net, gap_weight=0.0, gap="means", ends=ends), []
    term.set_batches(batch, batch)
    distribution = ArchitectureDistribution([len(each.choices) for each in space.decisions])
    estimator = find_estimator("rebar", term)
    sample = estimator.draw(distribution, 1, torch.Generator().manual_seed(0))
    wanted = term.discrete(sample)
    net.register_forward_pre_hook(lambda _, args: passes.append(args[1]))
    term.train_weights(sample)
    torch.testing.assert_close(term.discrete(sample), wanted)
    assert passes == [*ends, sample.paths()[0]], "what the drawn network costs is known from what it learns"
    term.discrete(sample)
    term.train_weights(sample)
    term.set_batches(batch, batch)
    term.discrete(sample)
    assert len(passes) == 3 + 1 + 3 + 1, "once, and of these images"


def _tiny() -> SearchSpace:
    chain = Chain("tiny", image_size=4, channels=2)
    for number in range(2):
        chain.choose(f"layer{number}", {f"e{e}": chain.mbconv(2, kernel=3, expand=e, stride=1) for e in (2, 4)})
    chain.fixed("classifier", chain.classifier(2))
    return chain.space(2)


def test_the_estimate_over_shared_weights_is_unbiased() -> None:
    torch.manual_seed(0)
    net, generator = moved(supernet_of(_tiny(), ENTANGLED)[0]), torch.Generator().manual_seed(0)
    batch = Batch(3 * torch.randn(6, 2, 4, 4, generator=generator), torch.tensor([0, 1, 0, 1, 0, 1]))
    distribution = ArchitectureDistribution((2, 2))
    with torch.no_grad():
        distribution.alpha.copy_(torch.tensor([[0.4, -0.4], [0.2, -0.2]]))

    def exact(paths: Sequence[tuple[int, ...]]) -> Tensor:
        probs = distribution.probs()
        terms = []
        for path in paths:
            with torch.no_grad():
                loss = cross_entropy(net(batch.x, path), batch.y).double()
            terms.append(loss * probs[0][path[0]] * probs[1][path[1]])
        (found,) = torch.autograd.grad(torch.stack(terms).sum(), distribution.alpha)
        return found

    term = TaskLoss(net, gap_weight=0.0, gap="means", ends=((1, 1), (0, 0)))
    term.set_batches(batch, batch)
    estimator, found = find_estimator("rebar", term), []
    for _ in range(2000):
        sample = estimator.draw(distribution, 1, generator)
        (gradient,) = torch.autograd.grad(estimator.loss(sample, term, distribution), distribution.alpha)
        found.append(gradient)
    gradients, wanted = torch.stack(found), exact([*itertools.product(range(2), repeat=2)])
    error = gradients.std(0) / len(found) ** 0.5
    assert bool(((gradients.mean(0) - wanted).abs() < 4 * error).all())
    assert float(error.max()) < 0.1 * float(wanted.abs().max()), "it could tell a bias"


@pytest.mark.parametrize("chance", [0, 1])
def test_the_largest_network_teaches_the_smallest_and_the_one_that_is_drawn(
    space: SearchSpace, net: Supernet, chance: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "SMALLEST", chance)
    largest, smallest = ends_of(space, net)
    batch = Batch(torch.randn(8, 1, 8, 8), torch.arange(8) % 3)
    sample = ArchitectureDistribution([len(each.choices) for each in space.decisions]).sample(
        1, generator=torch.Generator().manual_seed(0)
    )
    term = TaskLoss(net, gap_weight=0.0, gap="means", ends=(largest, smallest))
    term.set_batches(batch, batch)
    term.train_weights(sample)
    seen = [weight.grad for weight in net.parameters()]
    logits = net(batch.x, largest)
    taught = logits.detach().softmax(1)
    taught_too = [*[smallest] * chance, sample.paths()[0]]
    students = [-(taught * net(batch.x, path).log_softmax(1)).sum(1).mean() for path in taught_too]
    loss = cross_entropy(logits, batch.y) + sum(students)
    for one, other in zip(seen, torch.autograd.grad(loss, list(net.parameters()), allow_unused=True), strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)
    before = [weight.grad.clone() if weight.grad is not None else None for weight in net.parameters()]
    term.relaxed(sample)
    assert all(
        weight.grad is old or (old is not None and weight.grad is not None and torch.equal(weight.grad, old))
        for weight, old in zip(net.parameters(), before, strict=True)
    ), "mixtures teach no weight"


@pytest.mark.parametrize(("name", "most", "fewest"), [
    ("nas_bench_201?cells=1", {"nor_conv_3x3"}, {"nor_conv_1x1"}),
    ("mbconv-small", {"k7e3", "k7e6"}, {"k3e3"}),
])  # fmt: skip
def test_the_smallest_network_that_is_taught_shares_weights(name: str, most: set[str], fewest: set[str]) -> None:
    """A network of skips alone is small too, but what it learns is for itself: it would look better than it is."""
    space = find_space(name, image_shape=(3, 16, 16), classes=4)
    heaviest, lightest = (
        set(space.architecture(each).choices) for each in ends_of(space, supernet_of(space, ENTANGLED)[0])
    )
    assert heaviest <= most
    assert lightest == fewest


def test_where_nothing_nests_it_is_refused() -> None:
    with pytest.raises(MethodError, match=r"no candidates of .* nest") as caught:
        supernet_of(find_space("darts?width=4&layers=3", image_shape=(1, 8, 8), classes=3), ENTANGLED)
    assert "leave out --supernet entangled" in caught.value.mend


def test_a_search_with_shared_weights_that_is_stopped_goes_on_to_the_same_end(
    npz: Path, small_table_path: Path, tmp_path: Path
) -> None:
    class Stop(unas_hw.Callback):
        def on_epoch_end(self, metrics: object) -> None:
            raise InterruptedError

    small: dict[str, Any] = {"warmup_epochs": 1, "epochs": 1, "finetune_epochs": 1, "batch_size": 24}
    told: dict[str, Any] = {"budget": "40%", "dataset": npz, "finals": "none"}
    told["unas"] = {**small, "supernet": "entangled"}
    table = unas_hw.load_table(small_table_path)
    whole = unas_hw.search(table, run="whole", progress=False, **told)
    with pytest.raises(InterruptedError):
        unas_hw.search(table, run="stopped", progress=False, callbacks=[Stop()], **told)
    stopped = unas_hw.search(table, run="stopped", progress=False, **told)
    assert stopped.architecture == whole.architecture
    for name in ("metrics.jsonl", "weights.safetensors"):
        assert (Path("runs") / "stopped" / name).read_bytes() == (Path("runs") / "whole" / name).read_bytes(), name


def test_second_order_darts_teaches_no_shared_weight_by_mixtures(space: SearchSpace, net: Supernet) -> None:
    term, batch = (
        TaskLoss(net, gap_weight=0.0, gap="means", ends=ends_of(space, net)),
        Batch(torch.randn(8, 1, 8, 8), torch.arange(8) % 3),
    )
    term.set_batches(batch, batch)
    sample = ArchitectureDistribution([len(each.choices) for each in space.decisions]).sample(1)
    term.unrolled(sample)
    assert all(weight.grad is None for weight in net.parameters())
