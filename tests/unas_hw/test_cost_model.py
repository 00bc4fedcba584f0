"""Costs of terms that depend on several decisions: of one network, of a random one with its gradient, the extremes and
the most probable are those that enumeration finds, also where a space excludes networks.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.unas_hw.made_up import COUNTS, EVERYTHING, MadeUpSpace, PickySpace
from unas_hw import cost_model, extremes
from unas_hw.cost_model import AdditiveModel
from unas_hw.extremes import spread
from unas_hw.spaces.chain import ChainSpace

CONSTANT = 0.25


def _price(key: str) -> float:
    """A number between 0 and 2 that no other key has."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**31


def _model(*, dead: bool = False, unusable: bool = False) -> AdditiveModel:
    space = PickySpace(dead=dead) if unusable else MadeUpSpace(dead=dead)
    return AdditiveModel(space, _price, name="effort", unit="J", constant=CONSTANT)


def _by_hand(model: AdditiveModel) -> Tensor:
    """``(96,)``: of ``EVERYTHING``, the sum over what the network runs."""
    space = model.space
    parts = [space.parts(space.architecture(path)) for path in EVERYTHING]
    return torch.tensor([CONSTANT + sum(_price(part.key) for part in each) for each in parts], dtype=torch.float64)


def _logits(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [1.5 * torch.randn(count, dtype=torch.float64, generator=generator) for count in COUNTS]


def _probs(logits: list[Tensor]) -> list[Tensor]:
    return [torch.softmax(row, 0) for row in logits]


def _expected(probs: list[Tensor], values: Tensor) -> float:
    chosen = [prob[torch.tensor(EVERYTHING)[:, g]] for g, prob in enumerate(probs)]
    return float(torch.stack(chosen).prod(0) @ values)


def test_decisions_that_share_terms_are_one_group() -> None:
    assert _model().costs.groups == ((0, 1, 4), (2,), (3,))


@pytest.mark.parametrize("dead", [False, True])
def test_a_network_costs_what_it_runs(dead: bool) -> None:
    model = _model(dead=dead)
    assert [model.value(path) for path in EVERYTHING] == pytest.approx(_by_hand(model).tolist(), rel=1e-12)


@pytest.mark.parametrize("dead", [False, True])
@pytest.mark.parametrize("share", [0.2, 0.7])
def test_the_distribution_is_that_of_all_networks_and_so_is_its_gradient(dead: bool, share: float) -> None:
    model, logits = _model(dead=dead), _logits(0)
    values = _by_hand(model)
    budget = float(values.quantile(share)) + 1e-9
    leaves = [row.clone().requires_grad_() for row in logits]
    found = model.distribution(_probs(leaves))
    assert not found.upper_bound
    assert float(found.expectation()) == pytest.approx(_expected(_probs(logits), values))
    assert float(found.expectation(torch.square)) == pytest.approx(_expected(_probs(logits), values**2))
    within = (values <= budget).double()
    assert float(found.cdf(budget)) == pytest.approx(_expected(_probs(logits), within))
    excess = (values / budget - 1).clamp_min(0)
    assert float(found.hinge(budget)) == pytest.approx(_expected(_probs(logits), excess))
    for f, by_hand in ((found.hinge, excess), (found.cdf, within)):
        gradients = torch.autograd.grad(f(budget), leaves, retain_graph=True)
        for g, choice in [(0, 1), (1, 2), (2, 3), (4, 0)]:
            moved = []
            for step in (1e-5, -1e-5):
                changed = [row.clone() for row in logits]
                changed[g][choice] += step
                moved.append(_expected(_probs(changed), by_hand))
            assert float(gradients[g][choice]) == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-5, abs=1e-9)


def test_on_a_grid_groups_keep_the_mean_and_the_promised_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_model, "MAX_ATOMS", 0)
    model, probs = _model(), _probs(_logits(1))
    values, found = _by_hand(model), model.distribution(probs)
    assert found.deviation_ms > 0
    assert float(found.expectation()) == pytest.approx(_expected(probs, values))
    budget = float(values.median())
    off = float(found.hinge(budget)) - _expected(probs, (values / budget - 1).clamp_min(0))
    assert -1e-12 <= off <= found.deviation_ms / budget


def test_a_bend_is_applied_to_the_sum() -> None:
    plain = _model()
    bent = AdditiveModel(
        plain.space, _price, name="effort", unit="J", constant=CONSTANT, bend=lambda x: x**2, steepest=99
    )
    assert bent.value(EVERYTHING[50]) == pytest.approx(plain.value(EVERYTHING[50]) ** 2)
    probs = _probs(_logits(2))
    assert float(bent.distribution(probs).expectation()) == pytest.approx(_expected(probs, _by_hand(plain) ** 2))
    assert bent.range == pytest.approx(tuple(end**2 for end in plain.range))


def _usable(model: AdditiveModel) -> list[bool]:
    return [model.space.is_usable(path) for path in EVERYTHING]


@pytest.fixture(params=[0, 10**6], ids=["too many to go through", "all gone through"])
def _limit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_model, "MAX_JOINT", request.param)


@pytest.mark.usefixtures("_limit")
@pytest.mark.parametrize("unusable", [False, True])
def test_the_extremes_are_those_of_the_usable_networks(unusable: bool) -> None:
    model = _model(unusable=unusable)
    values = _by_hand(model)[torch.tensor(_usable(model))]
    assert len(values) == (48 - 6 if unusable else 96)
    assert model.range == pytest.approx((float(values.min()), float(values.max())))
    assert model.value(model.smallest), model.value(model.largest) == pytest.approx(model.range)
    assert model.space.is_usable(model.smallest) and model.space.is_usable(model.largest)


@pytest.mark.parametrize("unusable", [False, True])
def test_half_of_the_usable_networks_cost_less_than_the_median(unusable: bool) -> None:
    model = _model(unusable=unusable)
    values = _by_hand(model)[torch.tensor(_usable(model))].sort().values
    assert model.median == pytest.approx(float(values[(len(values) - 1) // 2]))


def test_where_all_of_the_best_are_unusable_the_extremes_are_near_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_model, "MAX_JOINT", 0)
    monkeypatch.setattr(extremes, "NEAREST", 0)
    model = _model(unusable=True)
    low, high = model.range
    assert model.space.is_usable(model.smallest) and model.space.is_usable(model.largest)
    values = _by_hand(model)[torch.tensor(_usable(model))]
    assert low < float(values.quantile(0.2)) < float(values.quantile(0.8)) < high


def _ranked(model: AdditiveModel, log_probs: list[Tensor], low: float, high: float) -> list[tuple[int, ...]]:
    values = dict(zip(EVERYTHING, _by_hand(model).tolist(), strict=True))
    inside = [path for path in EVERYTHING if low <= values[path] <= high and model.space.is_usable(path)]
    return sorted(inside, key=lambda path: -sum(float(row[i]) for row, i in zip(log_probs, path, strict=True)))


@pytest.mark.usefixtures("_limit")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("unusable", [False, True])
def test_the_most_probable_within_bounds_are_those_that_enumeration_finds(unusable: bool, seed: int) -> None:
    model, log_probs = _model(unusable=unusable), [torch.log_softmax(row, 0) for row in _logits(seed)]
    low, high = sorted(random.Random(seed).choices(_by_hand(model).tolist(), k=2))
    bounds = low - 1e-9, high + 1e-9
    assert model.most_probable(log_probs, *bounds, 4) == _ranked(model, log_probs, *bounds)[:4]


@pytest.mark.parametrize("salt", range(24))
def test_the_largest_network_is_found_where_only_it_fits(space: ChainSpace, salt: int) -> None:
    model = AdditiveModel(space, lambda key: _price(f"{salt}{key}"), name="effort", unit="J")
    most, uniform = model.value(model.largest), [torch.zeros(count, dtype=torch.float64) for count in (6, 7, 6)]
    assert model.most_probable(uniform, most - 1e-9, most + 1e-9, 9) == [model.largest]


def test_usable_networks_are_found_where_all_that_are_most_probable_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_model, "MAX_JOINT", 0)
    monkeypatch.setattr(cost_model, "BINS", 1)  # so that the likely networks crowd out all others
    model = _model(unusable=True)
    first = [12.0 * torch.eye(count, dtype=torch.float64)[0] for count in COUNTS]
    log_probs = [torch.log_softmax(row + far, 0) for row, far in zip(_logits(3), first, strict=True)]
    assert not model.space.is_usable((0,) * 5)
    found = model.most_probable(log_probs, 0.0, 1e9, 3)
    assert found == _ranked(model, log_probs, 0.0, 1e9)[:3]  # the first is two changes away


def test_drawn_and_spread_networks_are_usable_and_reach_from_end_to_end() -> None:
    space = PickySpace()
    macs = AdditiveModel(
        space, {each.key: each.cost.macs for each in space.workloads()}.__getitem__, name="macs", unit=""
    )
    chosen = [space.indices(each) for each in spread(space, 20, random.Random(0))]
    assert len(set(chosen)) == 20 and all(map(space.is_usable, chosen))
    assert [macs.value(path) for path in chosen[:2]] == pytest.approx(macs.range)
    assert all(space.is_usable(space.indices(space.draw(random.Random(seed)))) for seed in range(20))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("combine", [np.add, np.maximum])
def test_paths_come_in_the_order_of_their_costs_each_once(sign: int, combine: np.ufunc) -> None:
    costs = MadeUpSpace().costs(_price, combine=combine)
    paths = list(costs.ascending(sign))
    assert sorted(paths) == EVERYTHING
    totals = sign * costs.total(np.array(paths))
    assert (np.diff(totals) >= -1e-12).all()
