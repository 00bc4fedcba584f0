"""What a child network is worth to MONAS: one number of its accuracy, its cost and the bounds that it breaks.

With A the accuracy, C the cost, 0 to 1 by its range in the space, and a the weight (arXiv 1806.10332):

    mixed                               R = a A - (1 - a) C
    constraint, on power or a budget    R = A        where the bounds are kept, else 0
    constraint, on accuracy             R = 1 - C    where the bounds are kept, else 0

A hard bound gives what breaks it the lowest reward that a network can have, which is the published 0 in the last two. A
graded one (ours, the default) takes off what it is broken by besides, as a share of how far the space goes beyond it:
every network that keeps all bounds beats every one that does not, and of these the one that is nearer is better.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import log
from typing import final

from unas_hw.methods.monas.config import Penalty, RewardKind


@dataclass(frozen=True, kw_only=True)
class Child:
    """One network and what is known of it.

    Attributes:
        path: Its choices, by index.
        accuracy: 0 to 1.
        latency_ms: Of one call.
        energy_mj: Of one call; None where nobody measured it, like the next two.
        power_w: Mean over a call.
        peak_power_w: The highest mean power of any of its operations.
        macs: Of one image.
        params: Learned numbers.
    """

    path: tuple[int, ...]
    accuracy: float
    latency_ms: float
    energy_mj: float | None = None
    power_w: float | None = None
    peak_power_w: float | None = None
    macs: float = 0.0
    params: float = 0.0


@dataclass(frozen=True)
class Bound:
    """Something of which a child may not have more than the limit; no network of the space exceeds ``highest``."""

    value: Callable[[Child], float]
    limit: float
    highest: float

    def excess(self, child: Child) -> float:
        """How far above the limit it is, 0 to 1 by the highest of the space; 0 within."""
        over = self.value(child) - self.limit
        return over / max(self.highest - self.limit, over) if over > 0 else 0.0


@final
class Reward:
    """See the module; the parts of a reward and their weights, since the weight may be another for every child.

    Args:
        kind: Of the reward.
        cost: What is called C, in its own unit.
        cost_range: Of the smallest and the largest network of the space.
        bounds: That may not be exceeded.
        min_accuracy: Below which accuracy a network breaks a bound, 0 to 1; with it C is what a constraint rewards.
        penalty: Of what breaks a bound.
        ranked: Whether A is ``-log(share of the known children that are at least as accurate) / log(known)`` instead:
            the last tenth of a percent then counts as much as all percents before it. Ours, for weights that are swept.
    """

    def __init__(
        self,
        kind: RewardKind,
        cost: Callable[[Child], float],
        cost_range: tuple[float, float],
        bounds: Sequence[Bound] = (),
        *,
        min_accuracy: float | None = None,
        penalty: Penalty = "graded",
        ranked: bool = False,
    ) -> None:
        self.kind, self.penalty, self.ranked = kind, penalty, ranked
        self._cost, self._range, self._bounds = cost, cost_range, tuple(bounds)
        if min_accuracy:
            # An accuracy that is too low is a shortfall that is too high.
            self._bounds += (Bound(lambda child: min_accuracy - child.accuracy, 0.0, min_accuracy),)
        self._on_accuracy = min_accuracy is not None
        self._sorted: list[float] = []

    def see(self, children: Iterable[Child]) -> None:
        """Learns of further children, which ranks are among."""
        for child in children:
            insort(self._sorted, child.accuracy)

    def cost(self, child: Child) -> float:
        """C: 0 of the smallest network of the space, 1 of the largest; a measured one may lie outside."""
        low, high = self._range
        return (self._cost(child) - low) / (high - low) if high > low else 0.0

    def excess(self, child: Child) -> float:
        """The sum of what the bounds are exceeded by."""
        return sum(bound.excess(child) for bound in self._bounds)

    def keeps(self, child: Child) -> bool:
        """Whether it keeps all bounds."""
        return self.excess(child) == 0

    def parts(self, child: Child) -> tuple[float, float, float]:
        """A, 1 - C and minus the penalty; of a child that breaks a bound the first two are 0."""
        excess = self.excess(child)
        if excess:
            return 0.0, 0.0, -excess if self.penalty == "graded" else 0.0
        return self._accuracy(child), 1 - self.cost(child), 0.0

    def _accuracy(self, child: Child) -> float:
        count = len(self._sorted)
        if not self.ranked or count < 2:
            return child.accuracy
        return -log((count - bisect_left(self._sorted, child.accuracy)) / count) / log(count)

    def weights(self, weight: float) -> tuple[float, float, float]:
        """Of the parts, by a."""
        if self.kind == "mixed":
            return weight, 1 - weight, 1.0
        return (0.0, 1.0, 1.0) if self._on_accuracy else (1.0, 0.0, 1.0)

    def value(self, child: Child, weight: float) -> float:
        """R."""
        total = sum(part * each for part, each in zip(self.parts(child), self.weights(weight), strict=True))
        return total - (1 - weight) if self.kind == "mixed" else total
