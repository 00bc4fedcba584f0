"""Spaces beyond enumeration: times that are whole numbers have an exact distribution to compare the grid with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from latency_tables.expectation import MAX_ATOMS, LatencyDistribution, latency_distribution

DECISIONS, CHOICES, CONSTANT_MS = 21, 7, 3.0


class Whole:
    """21 decisions of up to 7 choices; their latencies are whole milliseconds, so the distribution is a convolution."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        sizes = rng.integers(2, CHOICES + 1, DECISIONS)
        self.times = [rng.integers(0, 40, size) for size in sizes]
        self.alpha = [torch.from_numpy(rng.normal(0, 1, size)).requires_grad_() for size in sizes]
        self.probs = [torch.softmax(alpha, 0) for alpha in self.alpha]
        self.mass = np.ones(1)
        for times, probs in zip(self.times, self.probs, strict=True):
            self.mass = np.convolve(self.mass, np.bincount(times, probs.detach().numpy()))
        self.latency_ms = CONSTANT_MS + np.arange(len(self.mass))

    def found(self, grid: int = 4096) -> LatencyDistribution:
        return latency_distribution(
            self.probs, [torch.from_numpy(t).double() for t in self.times], CONSTANT_MS, grid=grid
        )

    def hinge(self, budget_ms: float) -> float:
        return float(self.mass @ np.maximum(self.latency_ms / budget_ms - 1, 0))

    def cdf(self, budget_ms: float) -> float:
        return float(self.mass[self.latency_ms <= budget_ms].sum())

    def quantile(self, share: float) -> float:
        return float(self.latency_ms[np.searchsorted(np.cumsum(self.mass), share)])


@pytest.fixture(scope="module")
def whole() -> Whole:
    return Whole()


def test_the_space_is_too_large_to_enumerate_and_is_put_on_a_grid(whole: Whole) -> None:
    assert math.prod(map(len, whole.times)) > MAX_ATOMS
    found = whole.found()
    assert found.shift_ms > 0
    assert len(found.probs) == 4096
    assert float(found.probs.detach().min()) > -1e-12
    assert float(found.probs.detach().sum()) == pytest.approx(1, abs=1e-12)


def test_the_mean_is_exact(whole: Whole) -> None:
    assert float(whole.found().expectation().detach()) == pytest.approx(whole.mass @ whole.latency_ms, abs=1e-9)


@pytest.mark.parametrize("grid", [128, 1024, 4096])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.77, 0.99])
def test_hinge_probability_and_quantile_keep_the_bounds_that_are_stated(whole: Whole, grid: int, share: float) -> None:
    found, budget_ms = whole.found(grid), whole.quantile(share)
    off = float(found.hinge(budget_ms).detach()) - whole.hinge(budget_ms)
    assert -1e-12 <= off <= found.deviation_ms / budget_ms
    low, high = found.cdf_bounds(budget_ms)
    assert low - 1e-9 <= whole.cdf(budget_ms) <= high + 1e-9
    assert abs(found.quantile(share) - whole.quantile(share)) <= found.shift_ms + 1e-9


def test_a_finer_grid_is_nearer(whole: Whole) -> None:
    budget_ms = whole.quantile(0.5)
    off = [abs(float(whole.found(grid).hinge(budget_ms).detach()) - whole.hinge(budget_ms)) for grid in (128, 4096)]
    assert off[1] < off[0] / 100
    assert off[1] < 1e-4


def _score(whole: Whole, budget_ms: float, f: str) -> Tensor:
    found = whole.found()
    return {"hinge": found.hinge, "cdf": found.cdf}[f](budget_ms)


def test_the_gradient_is_what_a_small_change_of_a_logit_makes_of_the_value(whole: Whole) -> None:
    budget_ms, step = whole.quantile(0.6), 1e-5
    gradient = torch.autograd.grad(_score(whole, budget_ms, "hinge"), whole.alpha)
    changed = Whole()
    for decision in (0, 10, 20):
        value = []
        for sign in (1, -1):
            probs = list(changed.probs)
            alpha = changed.alpha[decision].detach().clone()
            alpha[1] += sign * step
            probs[decision] = torch.softmax(alpha, 0)
            times = [torch.from_numpy(t).double() for t in changed.times]
            value.append(float(latency_distribution(probs, times, CONSTANT_MS).hinge(budget_ms).detach()))
        assert float(gradient[decision][1]) == pytest.approx((value[0] - value[1]) / (2 * step), abs=1e-7)


@pytest.mark.parametrize("sizes", [(3,), (2, 5), (4, 3, 2)])
def test_the_gradient_of_the_probability_to_keep_a_budget_equals_enumeration(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(sizes))
    alpha = [torch.from_numpy(rng.normal(0, 1, size)).requires_grad_() for size in sizes]
    times = [torch.from_numpy(rng.uniform(0.1, 3.0, size)) for size in sizes]
    probs = [torch.softmax(each, 0) for each in alpha]
    mass, latencies = [], []
    for choice in np.ndindex(*sizes):
        picked = list(zip(probs, times, choice, strict=True))
        mass.append(torch.stack([prob[z] for prob, _, z in picked]).prod())
        latencies.append(CONSTANT_MS + sum(float(time[z]) for _, time, z in picked))
    budget_ms = float(np.median(latencies)) + 1e-9
    exact = torch.stack([m for m, latency in zip(mass, latencies, strict=True) if latency <= budget_ms]).sum()
    found = latency_distribution(probs, times, CONSTANT_MS).cdf(budget_ms)
    torch.testing.assert_close(found, exact, atol=1e-9, rtol=0)
    for seen, wanted in zip(
        torch.autograd.grad(found, alpha, retain_graph=True), torch.autograd.grad(exact, alpha), strict=True
    ):
        torch.testing.assert_close(seen, wanted, atol=1e-9, rtol=0)


def test_decisions_that_change_nothing_leave_one_latency() -> None:
    probs = [torch.full((7,), 1 / 7, dtype=torch.float64)] * DECISIONS
    found = latency_distribution(probs, [torch.full((7,), 2.0, dtype=torch.float64)] * DECISIONS, CONSTANT_MS)
    assert found.quantile(0.5) == pytest.approx(CONSTANT_MS + 2 * DECISIONS)
    assert float(found.hinge(CONSTANT_MS + 2 * DECISIONS)) == pytest.approx(0, abs=1e-12)
