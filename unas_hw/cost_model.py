"""What the networks of a space cost, in any unit: of one, of a random one, of the extremes and of the most probable.

Costs are made of the space's terms: a sum of them (``AdditiveModel``), or the largest (``unas_hw.resources``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from latency_tables.expectation import (
    MAX_ATOMS,
    MAX_JOINT,
    GridPlan,
    LatencyDistribution,
    joint_distribution,
    latency_distribution,
)
from unas_hw.extremes import extreme
from unas_hw.space import Mask, Paths, SearchSpace
from unas_hw.terms import Costs, TermCosts

BINS = 1024
"""Of the dynamic programme for the most probable networks; found networks are priced exactly afterwards."""
NEAREST = 8
"""Networks of which those two changes away are looked at."""
CHUNK = 100_000
"""Networks that are enumerated at a time."""


class CostModel(ABC):
    """Something that networks need, on which there can be a budget: latency, energy, arithmetic, weights, memory.

    Only live operations count. Where a space has dead ones or excludes networks, up to ``MAX_JOINT`` networks are
    enumerated once, so all that is said is exact. Of more networks with dead operations ``distribution`` and ``median``
    are those of an upper bound, and ``smallest`` and ``largest`` are networks that no change of one choice improves.
    The cost of a single network is exact always.

    Attributes:
        name: For messages, such as ``latency`` or ``peak memory``.
        unit: Of all numbers: ``ms``, ``mJ``, ``bytes``; empty for numbers of things.
        space: Whose networks.
        costs: Of the terms.
    """

    def __init__(self, space: SearchSpace, costs: TermCosts, *, name: str, unit: str) -> None:
        self.space, self.costs, self.name, self.unit = space, costs, name, unit

    @abstractmethod
    def distribution(self, probs: Sequence[Tensor]) -> LatencyDistribution:
        """Exact distribution of the cost when decisions are drawn with these probabilities, one ``(K,)`` tensor each.

        Of all networks, usable or not; differentiable in the probabilities. Its numbers are in the unit of the cost.
        """

    def values(self, paths_NG: Paths) -> Costs:
        """``(N,)``: what networks cost."""
        return self.costs.total(paths_NG, self.space.live(paths_NG) if self.space.has_dead_operations else None)

    @final
    def value(self, path: Sequence[int]) -> float:
        """What the network of these choices, by index, costs."""
        return float(self.values(np.array([path]))[0])

    @cached_property
    def _joint(self) -> bool:
        """Whether networks are enumerated."""
        return (self.space.has_dead_operations or self.space.has_unusable) and self.space.size <= MAX_JOINT

    @final
    def _paths(self, numbers: Paths) -> Paths:
        """The networks of these numbers; the last decision's choice changes fastest."""
        return np.stack(np.unravel_index(numbers, self.costs.counts), 1)

    @cached_property
    def _everything(self) -> tuple[Tensor, Mask]:
        """``(N,)`` cost of every network, and whether it is usable."""
        costs, usable = np.empty(self.space.size), np.empty(self.space.size, bool)
        for begin in range(0, self.space.size, CHUNK):
            numbers = np.arange(begin, min(begin + CHUNK, self.space.size))
            paths_NG = self._paths(numbers)
            costs[numbers], usable[numbers] = self.values(paths_NG), self.space.usable(paths_NG)
        return torch.from_numpy(costs), usable

    @final
    def _group_probs(self, probs: Sequence[Tensor]) -> list[Tensor]:
        """Per group, the probability of each combination of its choices."""
        return [_outer([probs[g] for g in group], torch.ones(1, dtype=torch.float64)) for group in self.costs.groups]

    def _first(self, sign: int) -> tuple[int, ...]:
        """The usable network whose cost times ``sign`` is lowest."""
        if self._joint:
            costs, usable = self._everything
            number = np.where(usable, sign * costs.numpy(), np.inf).argmin()
            return tuple(self._paths(np.array([number]))[0].tolist())
        return extreme(self.space, self.costs, sign)

    @cached_property
    def _ends(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self._first(1), self._first(-1)

    @property
    def smallest(self) -> tuple[int, ...]:
        """The usable network that costs least."""
        return self._ends[0]

    @property
    def largest(self) -> tuple[int, ...]:
        """The usable network that costs most."""
        return self._ends[1]

    @property
    def range(self) -> tuple[float, float]:
        """Of the smallest and of the largest."""
        return self.value(self.smallest), self.value(self.largest)

    @property
    def median(self) -> float:
        """Half of all usable networks cost less; of all networks where there are too many to go through."""
        if self._joint:
            costs, usable = self._everything
            return float(np.quantile(costs.numpy()[usable], 0.5, method="inverted_cdf"))
        uniform = [torch.full((count,), 1 / count, dtype=torch.float64) for count in self.costs.counts]
        return self.distribution(uniform).quantile(0.5)


class AdditiveModel(CostModel):
    """Costs that are sums: ``bend`` of the prices of all live operations and a constant.

    Args:
        space: Whose terms.
        price: Of an operation, by its key.
        name, unit: As in ``CostModel``.
        constant: What every network costs on top.
        bend: Makes a cost of the sum, a number, an array or a tensor; grows with it.
        steepest: Its largest slope.
    """

    def __init__(
        self,
        space: SearchSpace,
        price: Callable[[str], float],
        *,
        name: str,
        unit: str,
        constant: float = 0.0,
        bend: Callable[[Any], Any] = lambda x: x,
        steepest: float = 1.0,
    ) -> None:
        super().__init__(space, space.costs(price, constant), name=name, unit=unit)
        self.bend, self._steepest = bend, steepest

    def values(self, paths_NG: Paths) -> Costs:
        return np.asarray(self.bend(super().values(paths_NG)), np.float64)

    @cached_property
    def _parts(self) -> list[Tensor]:
        """Per group; where operations can be dead, a price below nothing counts as nothing: the sum is a bound then."""
        return list(map(torch.from_numpy, self.costs.of_groups(0.0 if self.space.has_dead_operations else -np.inf)))

    @cached_property
    def _plan(self) -> GridPlan:
        return GridPlan(self._parts, self.costs.constant)

    def distribution(self, probs: Sequence[Tensor]) -> LatencyDistribution:
        """Exact distribution of the cost when decisions are drawn with these probabilities, one ``(K,)`` tensor each.

        Of all networks, usable or not. More than ``MAX_JOINT`` networks with dead operations have the distribution of
        an upper bound, which says so; every operation counts there, or nothing where its price is negative.
        """
        if self._joint:
            return joint_distribution(probs, self._everything[0])
        if self.space.size <= MAX_ATOMS and not self.space.has_dead_operations:
            found = latency_distribution(self._group_probs(probs), self._parts, self.costs.constant)
        else:
            found = self._plan.distribution(self._group_probs(probs))
        return replace(
            found,
            values_ms=self.bend(found.values_ms),
            shift_ms=found.shift_ms * self._steepest,
            deviation_ms=found.deviation_ms * self._steepest,
            upper_bound=self.space.has_dead_operations,
        )

    def most_probable(self, log_probs: Sequence[Tensor], low: float, high: float, count: int) -> list[tuple[int, ...]]:
        """The most probable usable networks with a cost in ``[low, high]``, best first.

        Of paths that differ in dead operations only, which are the same network, the most probable stands for all.
        Some may be missed where there are too many networks to go through and not all of them are usable.
        """
        if self._joint:
            return self._distinct(self._ranked(log_probs, low, high), low, high, count)
        ranked = self._ranked_in_bins(log_probs, 2 * count)
        found = self._distinct([ranked], low, high, count)
        if len(found) < count and self.space.has_unusable:
            # The most probable networks of a bin may all be unusable; what mends one is one change, or two.
            inside = ranked[self._within(ranked, low, high)]
            for around in (inside[:BINS], self._near(inside[:NEAREST], log_probs)):
                if len(found) < count:
                    found = self._distinct([self._near(around, log_probs)], low, high, count)
        return found

    def _distinct(
        self, blocks: Iterator[Paths] | Sequence[Paths], low: float, high: float, count: int
    ) -> list[tuple[int, ...]]:
        """The first networks that are usable and within the bounds, each once."""
        found: dict[tuple[int, ...], tuple[int, ...]] = {}
        for paths_NG in blocks:
            for path in paths_NG[self._within(paths_NG, low, high) & self.space.usable(paths_NG)].tolist():
                found.setdefault(self.space.running(path), tuple(path))
                if len(found) == count:
                    return list(found.values())
        return list(found.values())

    def _within(self, paths_NG: Paths, low: float, high: float) -> Mask:
        costs = self.values(paths_NG)
        return (low <= costs) & (costs <= high)

    def _ranked(self, log_probs: Sequence[Tensor], low: float, high: float) -> Iterator[Paths]:
        """All usable networks within the bounds, the most probable first."""
        costs, usable = self._everything[0].numpy(), self._everything[1]
        scores = _outer_sum([log_prob.numpy() for log_prob in log_probs])
        inside = np.flatnonzero(usable & np.isfinite(scores) & (low <= costs) & (costs <= high))
        order = inside[np.argsort(-scores[inside], kind="stable")]
        return (self._paths(order[begin : begin + BINS]) for begin in range(0, len(order), BINS))

    def _ranked_in_bins(self, log_probs: Sequence[Tensor], keep: int) -> Paths:
        """The ``keep`` most probable networks of each bin of cost, the most probable first.

        Dynamic programming over cost in bins, keeping the best few prefixes per bin. What is found has only roughly the
        cost of its bin.
        """
        costs = self.costs.of_groups()
        step = max(sum(float(np.ptp(each)) for each in costs) / BINS, 1e-12)
        scores = np.full((BINS + 1 + len(costs), 1), -np.inf)  # of each group rounding can add half a bin
        scores[0] = 0.0
        trails = np.zeros((*scores.shape, 0), dtype=np.int16)
        for group, cost in zip(self.costs.groups, costs, strict=True):
            gains = _outer_sum([log_probs[g].numpy() for g in group])
            pieces, longer = [], []
            for choice, shift in enumerate(np.rint((cost - cost.min()) / step).astype(int)):
                moved = np.full_like(scores, -np.inf)
                moved[shift:] = scores[: len(scores) - shift] + gains[choice]
                trail = np.zeros_like(trails)
                trail[shift:] = trails[: len(trails) - shift]
                pieces.append(moved)
                longer.append(np.concatenate([trail, np.full((*scores.shape, 1), choice, np.int16)], axis=2))
            scores, trails = np.concatenate(pieces, axis=1), np.concatenate(longer, axis=1)
            best = np.argsort(-scores, axis=1)[:, :keep]
            scores = np.take_along_axis(scores, best, 1)
            trails = np.take_along_axis(trails, best[:, :, None], 1)
        ranked = np.argsort(-scores, axis=None, kind="stable")
        return self.costs.decode(trails.reshape(-1, trails.shape[2])[ranked[np.isfinite(scores.flat[ranked])]])

    def _near(self, paths_NG: Paths, log_probs: Sequence[Tensor]) -> Paths:
        """These networks and those one change away, the most probable first; some more than once."""
        every = [paths_NG]
        for g, count in enumerate(self.costs.counts):
            for choice in range(count):
                every.append(paths_NG.copy())
                every[-1][:, g] = choice
        near = np.concatenate(every)
        scores = sum((log_prob.numpy()[near[:, g]] for g, log_prob in enumerate(log_probs)), np.zeros(len(near)))
        order = np.argsort(-scores, kind="stable")
        return near[order[np.isfinite(scores[order])]]


def _outer(factors: Sequence[Tensor], start: Tensor) -> Tensor:
    """The product for each combination of an entry of every factor, flat, the last one's changing fastest."""
    for factor in factors:
        start = (start[:, None] * factor).flatten()
    return start


def _outer_sum(parts: Sequence[Costs]) -> Costs:
    """The same for sums."""
    total = np.zeros(1)
    for part in parts:
        total = np.add.outer(total, part).ravel()
    return total
