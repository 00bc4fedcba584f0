"""The exact distribution of the table latency when every decision is drawn independently.

Under ``z_g ~ Cat(q_g)`` the latency ``X = c0 + sum_g t_g(z_g)`` is a sum of independent discrete variables, so
its whole distribution is a convolution, differentiable in ``q``: ``E[f(X)]`` for any f (the hinge too),
``P(X <= T)`` and quantiles carry no sampling noise.

Small spaces are enumerated: exact to rounding. Larger ones are convolved on a grid, as a product of
characteristic functions. Each ``t`` is split between the two nearest grid points, which keeps the mean exact and
moves every network by less than ``G`` steps of the grid; the bounds below follow from that.

A latency that is no such sum, because a choice can make operations of others dead, is enumerated too
(``joint_distribution``); where there are too many networks, the sum with every operation counted bounds it from above.

Shape letters: G decisions, K choices, L points of the distribution, N networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_ATOMS = 20_000
"""Spaces up to this size are enumerated."""
MAX_JOINT = 1_000_000
"""Spaces up to this size are enumerated where the latency is no sum: forward and backward take some 0.1 s there."""
GRID = 4096
"""Points of the grid for larger spaces; 21 decisions then err by less than 0.5% of the space's range."""


@dataclass(frozen=True)
class LatencyDistribution:
    """The distribution of the latency of a random network.

    Attributes:
        values_ms: ``(L,)``, ascending on a grid, in any order where enumerated.
        probs: ``(L,)``, of each value; differentiable in the probabilities of the decisions.
        shift_ms: No network lies further than this from where it is counted; 0 where enumerated.
        deviation_ms: Bound of ``E|counted - true|``; 0 where enumerated.
        upper_bound: Whether this is the distribution of something that no network's latency exceeds, instead of the
            latency itself; expectations of growing functions and quantiles are then too high, ``P(X <= T)`` too low.
    """

    values_ms: Tensor
    probs: Tensor
    shift_ms: float
    deviation_ms: float
    upper_bound: bool = False

    def expectation(self, f: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
        """``E[f(X)]``; errs by at most ``s * deviation_ms`` for an f of slope at most s, not at all for a linear f."""
        return self.probs @ f(self.values_ms)

    def hinge(self, budget_ms: float) -> Tensor:
        """``E[max(0, X / T - 1)]``, the expected relative excess."""
        return self.expectation(lambda x: (x / budget_ms - 1).clamp_min(0))

    def cdf(self, budget_ms: float) -> Tensor:
        """``P(X <= T)``; see ``cdf_bounds`` for what the grid leaves open."""
        return (self.probs * (self.values_ms <= budget_ms)).sum()

    def cdf_bounds(self, budget_ms: float) -> tuple[float, float]:
        """Between these two lies ``P(X <= T)``."""
        if self.shift_ms == 0:
            exact = float(self.cdf(budget_ms).detach())
            return exact, exact
        low, high = self.cdf(budget_ms - self.shift_ms), self.cdf(budget_ms + self.shift_ms)
        return float(low.detach()), float(high.detach())

    def quantile(self, share: float) -> float:
        """Smallest latency that at least this share of networks does not exceed, within ``shift_ms``."""
        order = torch.argsort(self.values_ms)
        reached = torch.cumsum(self.probs.detach()[order], 0) >= share - 1e-12
        index = int(torch.argmax(reached.int())) if bool(reached.any()) else len(order) - 1
        return float(self.values_ms[order[index]])


def latency_distribution(
    probs_GK: Sequence[Tensor], times_ms_GK: Sequence[Tensor], constant_ms: float = 0.0, *, grid: int = GRID
) -> LatencyDistribution:
    """The distribution of ``constant + sum_g times[g][z_g]`` for independent ``z_g ~ Cat(probs[g])``.

    Args:
        probs_GK: One ``(K,)`` tensor per decision, float64, summing to one; K may differ.
        times_ms_GK: Latency of every choice, one ``(K,)`` tensor per decision, float64.
        constant_ms: What every network has.
        grid: Points of the grid for spaces that are too large to enumerate.
    """
    if math.prod(len(times) for times in times_ms_GK) <= MAX_ATOMS:
        values = torch.full((1,), constant_ms, dtype=torch.float64)
        for time_K in times_ms_GK:
            values = (values[:, None] + time_K).flatten()
        return joint_distribution(probs_GK, values)
    plan = GridPlan(times_ms_GK, constant_ms, grid)
    return plan.distribution(probs_GK)


def joint_distribution(probs_GK: Sequence[Tensor], latencies_ms_N: Tensor) -> LatencyDistribution:
    """The distribution of any latency of independent ``z_g ~ Cat(probs[g])``, by enumeration: exact to rounding.

    ``probs_GK`` as in ``latency_distribution``; ``latencies_ms_N`` of every network, float64, the last decision's
    choice changing fastest.
    """
    probs_N = torch.ones(1, dtype=torch.float64)
    for prob_K in probs_GK:
        probs_N = (probs_N[:, None] * prob_K).flatten()
    return LatencyDistribution(latencies_ms_N, probs_N, 0.0, 0.0)


class GridPlan:
    """Everything about a grid that does not depend on the probabilities, computed once per search."""

    def __init__(self, times_ms_GK: Sequence[Tensor], constant_ms: float, grid: int = GRID) -> None:
        lowest = [float(times.min()) for times in times_ms_GK]
        span = sum(float(times.max()) for times in times_ms_GK) - sum(lowest)
        decisions = len(times_ms_GK)
        # A split may reach one point beyond; rounding up leaves no room to wrap around.
        self.points = 1 << math.ceil(math.log2(grid))
        self.step_ms = max(span, 1e-12) / (self.points - 2 * decisions - 1)
        self.values_ms = constant_ms + sum(lowest) + self.step_ms * torch.arange(self.points, dtype=torch.float64)
        frequency = 2 * math.pi * torch.arange(self.points // 2 + 1, dtype=torch.float64) / self.points
        widest = max(len(times) for times in times_ms_GK)
        self.waves_GKF = torch.zeros(decisions, widest, len(frequency), dtype=torch.complex128)
        variance = 0.0
        for g, (times, low) in enumerate(zip(times_ms_GK, lowest, strict=True)):
            place = (times - low) / self.step_ms
            below = place.floor()
            above_share = place - below
            variance += float((above_share * (1 - above_share)).max()) * self.step_ms**2
            near = torch.exp(-1j * below[:, None] * frequency)
            next_one = near * torch.exp(-1j * frequency)
            self.waves_GKF[g, : len(times)] = (1 - above_share)[:, None] * near + above_share[:, None] * next_one
        self.shift_ms = decisions * self.step_ms
        self.deviation_ms = math.sqrt(variance)  # splits are independent and keep the mean, so variances add

    def distribution(self, probs_GK: Sequence[Tensor]) -> LatencyDistribution:
        """The distribution for these probabilities, one ``(K,)`` tensor per decision."""
        padded = [
            torch.nn.functional.pad(probs, (0, self.waves_GKF.shape[1] - len(probs))).double() for probs in probs_GK
        ]
        factors_GF = torch.einsum("gk,gkf->gf", torch.stack(padded).to(torch.complex128), self.waves_GKF)
        product_F = factors_GF[0]
        for factor_F in factors_GF[1:]:  # torch.prod's gradient costs more than these few products
            product_F = product_F * factor_F
        probs = torch.fft.irfft(product_F, n=self.points)
        return LatencyDistribution(self.values_ms, probs, self.shift_ms, self.deviation_ms)
