"""Where a choice makes operations of other decisions dead, latencies count live ones only: each, all of them together
with their gradient, the extremes, the most probable. Of too many networks to go through a bound is said to be one.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from latency_tables.calibration import Calibration
from latency_tables.table import LatencyTable
from profilers.devices.simulated import find_simulated
from profilers.registry import open_profiler
from profilers.timing import TimingRule
from tests.unas_hw.conftest import PHONE
from unas_hw import cost_model
from unas_hw.distribution import ArchitectureDistribution
from unas_hw.jobs.profile import profile
from unas_hw.latency_model import LatencyModel, predict
from unas_hw.meter import Meter
from unas_hw.progress import finish
from unas_hw.search.selection import Selection, select
from unas_hw.spaces.nas_bench_201 import NasBench201

EVERYTHING: list[tuple[int, ...]] = list(itertools.product(range(5), repeat=6))


@pytest.fixture(scope="module")
def cells() -> NasBench201:
    """All cells, in networks so small that a phone runs them at once."""
    return NasBench201("cells", image_size=8, channels=1, classes=3, batch=1, width=4, cells=2)


@pytest.fixture(scope="module")
def measured(cells: NasBench201, rule: TimingRule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "cells.jsonl"
    finish(profile(cells, open_profiler(PHONE), path=path, rule=rule, networks=6))
    return path


@pytest.fixture(scope="module")
def model(cells: NasBench201, measured: Path) -> LatencyModel:
    table = LatencyTable.load(measured)
    table.calibration = Calibration(model="scale+per_op", scale=0.9, per_op_ms=0.0003, intercept_ms=0.01)
    return LatencyModel(cells, table)


@pytest.fixture(scope="module")
def times_ms(cells: NasBench201, model: LatencyModel) -> list[float]:
    """By hand: of ``EVERYTHING``, the calibrated sum of the rows of what the network runs."""
    rows = {workload.key: model.table.latency_ms(workload.key) for workload in cells.workloads()}
    found = []
    for path in EVERYTHING:
        keys = [part.key for part in cells.parts(cells.architecture(path))]
        found.append(0.9 * sum(rows[key] for key in keys) + 0.0003 * len(keys) + 0.01)
    return found


@pytest.fixture
def many(model: LatencyModel) -> LatencyModel:
    """The same, as if its networks were too many to go through."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost_model, "MAX_JOINT", 15_624)
        made = LatencyModel(model.space, model.table)
        assert made.latency_ms(made.smallest) > 0  # the limit was looked at
    return made


def _usable(model: LatencyModel) -> list[tuple[int, ...]]:
    mask = model.space.usable(np.array(EVERYTHING))
    return [path for path, usable in zip(EVERYTHING, mask, strict=True) if usable]


def _logits(seed: int) -> Tensor:
    return 1.5 * torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_a_network_costs_its_live_operations(model: LatencyModel, times_ms: list[float]) -> None:
    assert [model.latency_ms(path) for path in EVERYTHING[::7]] == pytest.approx(times_ms[::7], rel=1e-12)
    dead, bare = (3, 0, 3, 2, 0, 0), (0, 0, 0, 2, 0, 0)
    assert model.latency_ms(dead) == model.latency_ms(bare)
    seen = predict(model.space, model.table, model.space.architecture(dead)).predicted_ms
    assert seen == pytest.approx(model.latency_ms(bare))


def test_the_simulated_networks_are_as_fast_as_predicted(cells: NasBench201, measured: Path) -> None:
    phone = find_simulated(PHONE.removeprefix("sim:"))
    fitted = LatencyModel(cells, LatencyTable.load(measured))
    for path in random.Random(0).sample(EVERYTHING, 200):
        true_ms = phone.latency_ms(cells.workload(cells.architecture(path)))
        assert fitted.latency_ms(path) == pytest.approx(true_ms, rel=0.05)


def _by_hand(times_ms: list[float], logits: Tensor, cost: Callable[[Tensor], Tensor]) -> float:
    """``E[cost(latency)]`` network by network."""
    times, log_q = torch.tensor(times_ms, dtype=torch.float64), torch.log_softmax(logits, 1)
    chosen = log_q[torch.arange(6), torch.tensor(EVERYTHING)]
    return float(chosen.sum(1).exp() @ cost(times))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_exact_expectation_is_that_of_all_networks_and_so_is_its_gradient(
    model: LatencyModel, times_ms: list[float], share: float
) -> None:
    logits, budget_ms = _logits(0).requires_grad_(), float(np.quantile(times_ms, share)) + 1e-9
    found = model.distribution(list(torch.softmax(logits, 1)))
    assert not found.upper_bound
    assert float(found.expectation()) == pytest.approx(_by_hand(times_ms, logits.detach(), lambda x: x))
    within = _by_hand(times_ms, logits.detach(), lambda x: (x <= budget_ms).double())
    assert float(found.cdf(budget_ms)) == pytest.approx(within)
    assert found.cdf_bounds(budget_ms) == pytest.approx((within, within))

    def excess(x: Tensor) -> Tensor:
        return (x / budget_ms - 1).clamp_min(0)

    assert float(found.hinge(budget_ms)) == pytest.approx(_by_hand(times_ms, logits.detach(), excess))
    (gradient,) = torch.autograd.grad(found.hinge(budget_ms), logits)
    for edge, choice in [(0, 0), (1, 3), (3, 0), (5, 4)]:
        step = torch.zeros(6, 5, dtype=torch.float64)
        step[edge, choice] = 1e-5
        above, below = (_by_hand(times_ms, logits.detach() + sign * step, excess) for sign in (1, -1))
        assert float(gradient[edge, choice]) == pytest.approx((above - below) / 2e-5, rel=1e-5, abs=1e-9)


def test_the_extremes_and_the_median_are_those_of_the_usable_networks(
    model: LatencyModel, times_ms: list[float]
) -> None:
    by_path = dict(zip(EVERYTHING, times_ms, strict=True))
    times = sorted(by_path[path] for path in _usable(model))
    assert len(times) == 15_284
    assert model.latency_ms(model.smallest) == pytest.approx(times[0])
    assert model.latency_ms(model.largest) == pytest.approx(times[-1])
    assert model.median_ms == pytest.approx(times[len(times) // 2 - 1])
    assert model.smallest == (0, 0, 0, 1, 0, 0)  # of all networks that run nothing in their cells the first
    assert model.latency_ms(model.smallest) == model.latency_ms((0,) * 6)  # which is not usable


@pytest.mark.parametrize("seed", range(4))
def test_the_most_probable_networks_within_bounds_are_those_that_enumeration_finds(
    model: LatencyModel, times_ms: list[float], seed: int
) -> None:
    log_q, by_path = torch.log_softmax(_logits(seed), 1), dict(zip(EVERYTHING, times_ms, strict=True))
    low_ms, high_ms = (time_ms + 1e-9 for time_ms in sorted(random.Random(seed).choices(times_ms, k=2)))
    inside = [path for path in _usable(model) if low_ms <= by_path[path] <= high_ms]
    inside.sort(key=lambda path: -sum(float(row[i]) for row, i in zip(log_q, path, strict=True)))
    once = {model.space.running(path): path for path in reversed(inside)}  # dead operations make no other network
    ranked = [path for path in inside if once[model.space.running(path)] == path]
    assert model.most_probable(list(log_q), low_ms, high_ms, 8) == ranked[:8]


def test_of_too_many_networks_the_distribution_is_that_of_an_upper_bound(
    model: LatencyModel, many: LatencyModel, times_ms: list[float]
) -> None:
    probs, budget_ms = list(torch.softmax(_logits(1), 1)), float(np.median(times_ms))
    exact, bound = model.distribution(probs), many.distribution(probs)
    assert bound.upper_bound
    assert float(bound.expectation()) > float(exact.expectation())
    assert float(bound.hinge(budget_ms)) > float(exact.hinge(budget_ms))
    assert bound.cdf_bounds(budget_ms)[0] < float(exact.cdf(budget_ms))
    assert many.median_ms > model.median_ms
    all_live = [torch.cat([torch.zeros(1), torch.softmax(row[1:], 0)]).double() for row in _logits(1)]
    mean = float(model.distribution(all_live).expectation())
    assert float(many.distribution(all_live).expectation()) == pytest.approx(mean)  # nothing is dead: no slack


def test_operations_that_calibration_makes_negative_leave_the_bound_a_bound(
    cells: NasBench201, measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost_model, "MAX_JOINT", 15_624)
    table = LatencyTable.load(measured)
    table.calibration = Calibration(model="scale+per_op", per_op_ms=-0.5)
    many, path = LatencyModel(cells, table), (3, 0, 3, 4, 0, 0)  # two of its three operations are dead
    probs = [torch.eye(5, dtype=torch.float64)[choice] for choice in path]
    found = many.distribution(probs)
    assert found.upper_bound
    assert float(found.expectation()) >= many.latency_ms(path) - 1e-9


def test_of_too_many_networks_single_ones_are_priced_and_found_as_ever(model: LatencyModel, many: LatencyModel) -> None:
    assert many.smallest == model.smallest
    assert many.latency_ms(many.largest) == model.latency_ms(model.largest)
    for path in EVERYTHING[::500]:
        assert many.latency_ms(path) == model.latency_ms(path)
    low_ms, high_ms = 0.8 * model.median_ms, model.median_ms
    found = many.most_probable(list(torch.log_softmax(_logits(2), 1)), low_ms, high_ms, 6)
    assert len({many.space.running(path) for path in found}) == 6
    assert all(low_ms <= model.latency_ms(path) <= high_ms and many.space.is_usable(path) for path in found)


@pytest.mark.parametrize("budget", [1.0, 100.0], ids=["some of the space", "all of it"])
def test_no_network_that_is_cut_off_is_found_even_if_it_is_the_most_probable(
    cells: NasBench201, measured: Path, rule: TimingRule, budget: float
) -> None:
    fitted = LatencyModel(cells, LatencyTable.load(measured))
    distribution = ArchitectureDistribution([5] * 6)
    with torch.no_grad():
        distribution.alpha[:, 0] = 3.0
    assert not cells.is_usable(distribution.mode())
    with open_profiler(PHONE) as profiler:
        meter = Meter(cells, fitted.table, profiler)
        losses = _even
        *_, found = select(distribution, fitted, meter, budget * fitted.median_ms, losses, rule)
    assert isinstance(found, Selection)
    assert found.best is not None
    assert all(map(cells.is_usable, found.readings))


def _even(path: tuple[int, ...]) -> Tensor:
    return torch.full((4,), math.log(3))
