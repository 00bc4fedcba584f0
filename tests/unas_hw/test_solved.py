"""A budget is kept by solving for its multiplier: the distribution that does so changes alpha's as little as can be,
what is measured beside the table corrects it, and at the end its mode is a network that may ship.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import one_hot

from latency_tables.table import LatencyTable
from unas_hw.data import Dataset
from unas_hw.distribution import ArchitectureDistribution, ArchSample
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import TableMeter
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.methods.unas.dual import Solved
from unas_hw.methods.unas.residual import Residual
from unas_hw.methods.unas.search import UnasSearch
from unas_hw.methods.unas.settled import CLOSE, settle
from unas_hw.runs import RUNS, Run
from unas_hw.search.constraints import Constraint
from unas_hw.spaces.chain import ChainSpace


@pytest.fixture
def model(space: ChainSpace, table: LatencyTable) -> LatencyModel:
    return LatencyModel(space, table)


@pytest.fixture
def distribution(space: ChainSpace) -> ArchitectureDistribution:
    made = ArchitectureDistribution([len(decision.choices) for decision in space.decisions])
    with torch.no_grad():
        made.alpha.copy_(torch.randn(made.alpha.shape, generator=torch.Generator().manual_seed(0)))
    return made


def _at(model: LatencyModel, share: float) -> float:
    low, high = model.range
    return low + share * (high - low)


def _solved(dual: Solved, steps: int = 40) -> Solved:
    for _ in range(steps):
        dual.step()
    return dual


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_the_expectation_is_the_limit_and_nothing_else_about_alpha_changes(
    model: LatencyModel, distribution: ArchitectureDistribution, share: float
) -> None:
    before = distribution.log_q().detach()
    dual = _solved(Solved(Constraint(model, _at(model, share)), distribution, exactly=True))
    assert dual.expected() == pytest.approx(_at(model, share), rel=1e-6)
    # log q' = log q - mu c + a constant of each decision: the exponential family of the latency, so the I-projection.
    moved = distribution.log_q().detach() - before + dual.multiplier.value * dual.costs
    for row, count in zip(moved, distribution.choices, strict=True):
        assert float(row[:count].std()) < 1e-9


def test_a_limit_that_is_not_to_be_used_up_costs_nothing_while_it_is_kept(
    model: LatencyModel, distribution: ArchitectureDistribution
) -> None:
    assert _solved(Solved(Constraint(model, _at(model, 0.95)), distribution, exactly=False)).multiplier.value == 0
    tight = _solved(Solved(Constraint(model, _at(model, 0.2)), distribution, exactly=False))
    assert tight.multiplier.value > 0
    assert tight.expected() == pytest.approx(_at(model, 0.2), rel=1e-6)


def test_a_limit_below_everything_leads_to_the_smallest_network(
    model: LatencyModel, distribution: ArchitectureDistribution
) -> None:
    dual = _solved(Solved(Constraint(model, 0.5 * _at(model, 0.0)), distribution, exactly=True), 150)
    assert distribution.mode() == model.smallest
    assert dual.expected() == pytest.approx(_at(model, 0.0), rel=1e-3)


def test_alpha_does_not_learn_what_the_multiplier_would_undo(
    model: LatencyModel, distribution: ArchitectureDistribution
) -> None:
    dual = _solved(Solved(Constraint(model, _at(model, 0.4)), distribution, exactly=True))
    (slope,) = torch.autograd.grad(model.distribution(distribution.probs()).expectation(), distribution.alpha)
    task = torch.randn(slope.shape, generator=torch.Generator().manual_seed(1)).double()
    assert abs(float((task * slope).sum())) > 1e-4
    assert abs(float(((task + dual.along_budget(task)) * slope).sum())) < 1e-12


def test_what_is_measured_beside_the_table_is_found_choice_by_choice(distribution: ArchitectureDistribution) -> None:
    residual, generator = Residual(distribution), torch.Generator().manual_seed(0)
    dearer = (torch.arange(distribution.alpha.shape[1]) == 2).double()  # of the first decision
    for _ in range(400):
        sample = distribution.sample(1, generator=generator)
        noise = 0.01 * torch.randn(1, generator=generator).double()
        residual.learn(sample, 0.05 + 0.2 * dearer[sample.choice[:, 0]] + noise)
    wanted = 0.05 + 0.2 * float(distribution.probs()[0][2].detach())
    assert residual.expected() == pytest.approx(wanted, abs=0.01)
    others = [float(residual.costs_GK[0, 2] - residual.costs_GK[0, place]) for place in (0, 1, 3)]
    assert others == pytest.approx([0.2] * 3, abs=0.03)
    assert float(residual.costs_GK[1:].abs().max()) < 0.03


def test_the_first_measurement_is_not_overshot(distribution: ArchitectureDistribution) -> None:
    residual, path = Residual(distribution), torch.zeros(1, len(distribution.choices), dtype=torch.long)
    relaxed = one_hot(path, distribution.alpha.shape[1]).double()
    sample = ArchSample(choice=path, relaxed=relaxed, log_prob=distribution.log_prob(path))
    residual.learn(sample, torch.tensor([3.0]).double())
    assert 0 < residual.common + float((residual.costs_GK * relaxed[0]).sum()) < 3.0


@pytest.fixture
def begin(space: ChainSpace, model: LatencyModel, data: Dataset, distribution: Any) -> Callable[..., UnasSearch]:
    def make(share: float, **change: Any) -> UnasSearch:
        config = replace(UnasConfig(warmup_epochs=0, epochs=1, batch_size=24), **change)
        run = Run.begin(RUNS / "one", {})
        made = UnasSearch(space, model, TableMeter(model), data, _at(model, share), config, run)
        with torch.no_grad():
            made.distribution.alpha.copy_(distribution.alpha)
        return made

    return make


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_expectation_and_mode_end_at_the_target(
    begin: Callable[..., UnasSearch], model: LatencyModel, share: float
) -> None:
    unas, target_ms = begin(share), 0.99 * _at(model, share)
    settle(unas, target_ms, lambda path: True)
    assert unas.latency.dual.expected() == pytest.approx(target_ms, rel=1e-5)
    everything = itertools.product(*(range(len(decision.choices)) for decision in model.space.decisions))
    shares = [ms / target_ms for ms in map(model.latency_ms, everything) if ms <= target_ms]
    least = next(least for least in CLOSE if max(shares) >= least)
    assert least * target_ms <= unas.latency.dual.of_mode <= target_ms


def test_the_mode_keeps_other_budgets_too(begin: Callable[..., UnasSearch], model: LatencyModel) -> None:
    unas, target_ms = begin(0.5), _at(model, 0.5)
    settle(unas, target_ms, lambda path: True)
    unwanted = unas.distribution.mode()
    again = begin(0.5)
    settle(again, target_ms, lambda path: path != unwanted)
    assert again.distribution.mode() != unwanted
    assert CLOSE[0] * target_ms <= again.latency.dual.of_mode <= target_ms


@pytest.mark.parametrize("change", [{"multiplier": "ascent"}, {}], ids=["ascent", "binds nothing"])
def test_where_nothing_is_solved_nothing_is_settled(
    begin: Callable[..., UnasSearch], model: LatencyModel, change: dict[str, Any]
) -> None:
    unas = begin(0.5 if change else 1.5, **change)
    before = unas.distribution.log_q().detach()
    settle(unas, _at(model, 0.3), lambda path: True)
    assert torch.equal(unas.distribution.log_q().detach(), before)
