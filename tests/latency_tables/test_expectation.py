"""The distribution of the latency is that of enumeration, on small spaces exactly, on a grid within what it states."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latency_tables.expectation import GridPlan, LatencyDistribution, joint_distribution, latency_distribution

SPACES = [(3,), (3, 3), (2, 4, 3), (7, 6, 7, 6)]
BUDGETS = [0.2, 0.5, 0.9]


class Enumerated:
    """Everything about a small space, by going through it."""

    def __init__(self, choices: tuple[int, ...]) -> None:
        generator = torch.Generator().manual_seed(len(choices))
        self.times = [torch.rand(count, generator=generator, dtype=torch.float64) * 3 for count in choices]
        self.alpha = [
            torch.randn(count, generator=generator, dtype=torch.float64).requires_grad_() for count in choices
        ]
        self.probs = [torch.softmax(alpha, 0) for alpha in self.alpha]
        every = torch.cartesian_prod(*(torch.arange(count) for count in choices)).reshape(-1, len(choices)).T
        self.mass = torch.stack([prob[z] for prob, z in zip(self.probs, every, strict=True)]).prod(0)
        self.latency_ms = 0.5 + torch.stack([time[z] for time, z in zip(self.times, every, strict=True)]).sum(0)

    def budget_ms(self, share: float) -> float:
        return float(torch.quantile(self.latency_ms, share)) + 1e-9

    def hinge(self, budget_ms: float) -> Tensor:
        return (self.mass * (self.latency_ms / budget_ms - 1).clamp_min(0)).sum()

    def cdf(self, budget_ms: float) -> float:
        return float(self.mass.detach()[self.latency_ms <= budget_ms].sum())

    def exact(self) -> LatencyDistribution:
        return latency_distribution(self.probs, self.times, 0.5)

    def grid(self, points: int = 1024) -> LatencyDistribution:
        return GridPlan(self.times, 0.5, points).distribution(self.probs)


@pytest.fixture(params=SPACES, ids=str)
def space(request: pytest.FixtureRequest) -> Enumerated:
    return Enumerated(request.param)


@pytest.mark.parametrize("share", BUDGETS)
def test_hinge_probability_and_gradients_equal_enumeration(space: Enumerated, share: float) -> None:
    budget_ms, found = space.budget_ms(share), space.exact()
    torch.testing.assert_close(found.hinge(budget_ms), space.hinge(budget_ms), atol=1e-9, rtol=0)
    assert float(found.cdf(budget_ms).detach()) == pytest.approx(space.cdf(budget_ms), abs=1e-9)
    assert found.cdf_bounds(budget_ms) == pytest.approx((space.cdf(budget_ms),) * 2)
    wanted = torch.autograd.grad(space.hinge(budget_ms), space.alpha, retain_graph=True)
    seen = torch.autograd.grad(found.hinge(budget_ms), space.alpha, retain_graph=True)
    for left, right in zip(seen, wanted, strict=True):
        torch.testing.assert_close(left, right, atol=1e-9, rtol=0)


@pytest.mark.parametrize("share", BUDGETS)
def test_the_grid_errs_by_no_more_than_it_states(space: Enumerated, share: float) -> None:
    budget_ms, found = space.budget_ms(share), space.grid(64)
    off = float((found.hinge(budget_ms) - space.hinge(budget_ms)).detach())
    assert -1e-12 <= off <= found.deviation_ms / budget_ms, "the hinge is convex, so the grid can only be above"
    low, high = found.cdf_bounds(budget_ms)
    assert low - 1e-9 <= space.cdf(budget_ms) <= high + 1e-9
    assert abs(found.quantile(share) - space.exact().quantile(share)) <= found.shift_ms
    assert float(found.probs.detach().sum()) == pytest.approx(1)


def test_the_mean_is_exact_on_any_grid(space: Enumerated) -> None:
    mean = (space.mass * space.latency_ms).sum()
    for points in (32, 4096):
        torch.testing.assert_close(space.grid(points).expectation(), mean, atol=1e-9, rtol=0)


def test_gradients_of_the_grid_are_those_of_its_value() -> None:
    space = Enumerated((2, 3, 2))
    plan = GridPlan(space.times, 0.5, 64)
    flat = [alpha.detach().requires_grad_() for alpha in space.alpha]
    assert torch.autograd.gradcheck(lambda *a: plan.distribution([torch.softmax(x, 0) for x in a]).hinge(3.0), flat)


def test_a_certain_network_has_its_latency_and_nothing_else() -> None:
    space = Enumerated((2, 3, 2))
    sure = [torch.eye(len(times), dtype=torch.float64)[0] for times in space.times]
    latency = 0.5 + sum(float(times[0]) for times in space.times)
    found = latency_distribution(sure, space.times, 0.5)
    assert found.quantile(0.01) == pytest.approx(latency)
    assert found.quantile(1.0) == pytest.approx(latency)


def test_a_latency_that_is_no_sum_has_the_distribution_of_enumeration() -> None:
    space, any_ms = Enumerated((2, 4, 3)), 3 * torch.rand(24, dtype=torch.float64)
    found = joint_distribution(space.probs, any_ms)
    torch.testing.assert_close(found.expectation(), space.mass @ any_ms)
    torch.testing.assert_close(found.hinge(1.5), space.mass @ (any_ms / 1.5 - 1).clamp_min(0))
    assert float(found.cdf(1.5).detach()) == pytest.approx(float(space.mass.detach()[any_ms <= 1.5].sum()))
    assert (found.shift_ms, found.deviation_ms, found.upper_bound) == (0, 0, False)
    flat = [alpha.detach().requires_grad_() for alpha in space.alpha]
    assert torch.autograd.gradcheck(
        lambda *a: joint_distribution([torch.softmax(x, 0) for x in a], any_ms).hinge(1.5), flat
    )


def test_a_latency_that_is_a_sum_has_the_same_distribution_either_way() -> None:
    space = Enumerated((7, 6, 7, 6))
    one, other = joint_distribution(space.probs, space.latency_ms), space.exact()
    torch.testing.assert_close(one.hinge(space.budget_ms(0.5)), other.hinge(space.budget_ms(0.5)))
    assert one.quantile(0.9) == pytest.approx(other.quantile(0.9))
