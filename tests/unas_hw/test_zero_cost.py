"""Proxies are their formulas, on networks small enough to do them by hand, and change nothing of the network."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space
from unas_hw.spaces.chain import ChainSpace
from unas_hw.zero_cost.proxies import MOVED, PROXIES, Batch, fresh_network, log_synflow, naswot, snip, synflow, zen
from unas_hw.zero_cost.ranking import correlations


def linear(rows: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight.data = torch.tensor(rows)
    return layer


def batch(rows: list[list[float]], labels: list[int] | None = None) -> Batch:
    return Batch(torch.tensor(rows), torch.tensor(labels or [0] * len(rows)), 0)


TWO = [[1.0, -2.0], [3.0, 0.5]], [[-1.0, 4.0]]


def two_layers() -> nn.Module:
    return nn.Sequential(linear(TWO[0]), nn.ReLU6(), linear(TWO[1]))


def test_synflow_is_what_flows_once_for_every_layer() -> None:
    flow = 1 * (1 + 2) + 4 * (3 + 0.5)
    assert synflow(two_layers(), batch([[0.0, 0.0]])) == pytest.approx(2 * flow)  # ReLU6 would cut it off
    lasting = nn.Sequential(nn.Flatten(), linear([[2.0, -1.0]]), nn.BatchNorm1d(1))
    lasting[2].weight.data.fill_(-3.0)  # type: ignore[operator]
    assert synflow(lasting, batch([[0.0, 0.0]])) == pytest.approx(9)


def test_log_synflow_takes_the_logarithm_of_the_gradients() -> None:
    first = sum(w * math.log1p(g) for w, g in ((1, 1), (2, 1), (3, 4), (0.5, 4)))
    second = 1 * math.log1p(3) + 4 * math.log1p(3.5)
    assert log_synflow(two_layers(), batch([[0.0, 0.0]])) == pytest.approx(first + second)


def test_a_flow_that_single_precision_has_no_number_for_is_finite() -> None:
    deep = nn.Sequential(*(linear([[1e6, 1e6], [1e6, 1e6]]) for _ in range(8)))
    assert 1e48 < synflow(deep, batch([[0.0, 0.0]])) < math.inf


class _Functional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


@pytest.mark.parametrize("rectifier", [nn.ReLU(), nn.ReLU6(), _Functional()])
def test_naswot_counts_the_rectifiers_that_agree(rectifier: nn.Module) -> None:
    images = [[1.0, -1.0, 1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, -1.0]]
    agreements = [[3, 1, 1], [1, 3, 1], [1, 1, 3]]
    wanted = math.log(np.linalg.det(np.array(agreements, float)))
    assert naswot(nn.Sequential(rectifier), batch(images)) == pytest.approx(wanted)
    twice = nn.Sequential(rectifier, linear(np.eye(3).tolist()), rectifier)  # what is off stays off
    assert naswot(twice, batch(images)) == pytest.approx(wanted + 3 * math.log(2))


def test_naswot_of_images_that_cannot_be_told_apart_is_as_bad_as_can_be() -> None:
    assert naswot(nn.Sequential(nn.ReLU()), batch([[1.0], [2.0]])) == -math.inf
    assert naswot(nn.Sequential(linear([[1.0]])), batch([[1.0], [2.0]])) == -math.inf


def test_zen_adds_the_deviations_that_normalisation_takes_away() -> None:
    images = Batch(torch.randn(8, 2, 4, 4), torch.zeros(8, dtype=torch.long), 5)
    network = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = zen(network, images)
    weight = torch.randn(3, 2, 1, 1, generator=torch.Generator().manual_seed(5))
    seen, deviation = [], 0.0
    for x in (images.x, images.x + MOVED * images.moved):
        out = F.conv2d(x, weight)
        variance, mean = torch.var_mean(out, (0, 2, 3), unbiased=False, keepdim=True)
        seen.append((out - mean) / (variance + 1e-5).sqrt())
        deviation = deviation or 0.5 * math.log(float(variance.mean()))
    distance = float((seen[0] - seen[1]).abs().sum((1, 2, 3)).mean())
    assert found == pytest.approx(math.log(distance) + deviation, rel=1e-4)


def test_zen_hangs_on_no_scale_of_the_weights_that_were_there() -> None:
    network, images = two_layers(), batch([[1.0, 2.0], [0.5, -1.0]])
    before = zen(network, images)
    for weight in network.parameters():
        weight.data *= 100
    assert zen(network, images) == before


def test_snip_is_the_loss_that_each_weight_carries() -> None:
    network, images = nn.Sequential(linear([[0.5, -1.0], [2.0, 1.0]])), batch([[1.0, 2.0], [3.0, -1.0]], [0, 1])
    weight = torch.tensor([[0.5, -1.0], [2.0, 1.0]])
    error = (images.x @ weight.t()).softmax(1) - F.one_hot(images.y)
    wanted = float((error.t() @ images.x / 2 * weight).abs().sum())
    assert snip(network, images) == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["mbconv-small?width=0.25", "nas_bench_201?width=3&cells=1", "darts?width=2&layers=3"])
def test_every_proxy_has_a_number_for_networks_of_every_space_and_leaves_their_weights(name: str) -> None:
    space = find_space(name, image_shape=(1, 8, 8))
    images = Batch.random(space, 6, 0)
    network = fresh_network(space, space.architecture([1] * len(space.decisions)), 0)
    before = [weight.clone() for weight in network.parameters()]
    for score in PROXIES.values():
        assert math.isfinite(score(network, images))
        assert score(network, images) == score(network, images)
    assert all(map(torch.equal, before, network.parameters()))
    assert all(weight.grad is None for weight in network.parameters())


def test_a_cell_that_nothing_gets_through_scores_less_than_any_other() -> None:
    space = find_space("nas_bench_201?width=4&cells=1", image_shape=(1, 8, 8))
    images = Batch.random(space, 6, 0)
    cut, other = (fresh_network(space, space.architecture(path), 0) for path in ((0,) * 6, (3,) * 6))
    for name, score in PROXIES.items():
        assert score(cut, images) < score(other, images), name


def test_the_same_seed_gives_the_same_network_and_batch(space: ChainSpace) -> None:
    def drawn(seed: int, of: SearchSpace = space) -> list[Tensor]:
        made = Batch.random(of, 4, seed)
        weights = fresh_network(of, of.architecture([0, 0, 0]), seed).parameters()
        return [*weights, made.x, made.y.float(), made.moved]

    torch.manual_seed(7)
    first, again, other = drawn(1), drawn(1), drawn(2)
    assert all(map(torch.equal, first, again)) and not all(map(torch.equal, first, other))
    assert torch.initial_seed() == 7


def test_correlations_are_over_all_networks_and_over_the_best_tenth() -> None:
    accuracies = np.arange(100.0)
    backwards = np.where(accuracies >= 90, -accuracies, accuracies - 1000)  # wrong among the best only
    found = correlations({"right": accuracies**3, "backwards": backwards, "never": np.full(100, np.nan)}, accuracies)
    assert list(found["right"]["all"].values()) == pytest.approx([1, 1, 1, 100])
    best = found["backwards"]["best"]
    assert (best["spearman"], best["networks"]) == (pytest.approx(-1), 10)
    assert 0.9 < found["backwards"]["all"]["spearman"] < 1
    assert math.isnan(found["never"]["all"]["spearman"]) and math.isnan(found["never"]["all"]["low"])


def test_an_interval_has_the_value_in_it_and_copies_of_a_network_do_not_narrow_it() -> None:
    rng = np.random.default_rng(0)
    accuracies = rng.normal(size=60)
    scores = {"noisy": accuracies + rng.normal(size=60)}
    once = correlations(scores, accuracies)["noisy"]["all"]
    assert once["low"] < once["spearman"] < once["high"]
    copies = {"noisy": np.tile(scores["noisy"], 9)}, np.tile(accuracies, 9)
    told, untold = (
        correlations(*copies, kinds)["noisy"]["all"] for kinds in (np.tile(np.arange(60), 9), np.arange(540))
    )
    widths = [each["high"] - each["low"] for each in (once, told, untold)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1) and widths[2] < 0.6 * widths[0]


def test_infinite_scores_are_ranked_like_others() -> None:
    accuracies = np.arange(5.0)
    for low, high in product((-np.inf, -1.0), (np.inf, 9.0)):
        scores = {"x": np.array([low, 0.0, 1.0, 2.0, high])}
        assert correlations(scores, accuracies)["x"]["all"]["spearman"] == pytest.approx(1)
