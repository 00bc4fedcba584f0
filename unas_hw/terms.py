"""Term: an additive part of what a network costs. TermCosts: a number for each, in whatever unit."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

Paths = NDArray[np.int_]
"""``(N, G)``: an index per decision for each of N networks."""
Mask = NDArray[np.bool_]
Costs = NDArray[np.float64]


@dataclass(frozen=True)
class Term:
    """One additive part of a network's latency, while its decisions are live.

    Attributes:
        decisions: Indices of the decisions it depends on; none for a fixed part.
        keys: Operations run per choice, as table keys: for the product of the decisions' choices, the last decision's
            choice changing fastest; a fixed part has one entry. Empty where nothing runs.
        count: How often it counts (a cell that is repeated).
    """

    decisions: tuple[int, ...]
    keys: tuple[tuple[str, ...], ...]
    count: int = 1


def tied(count: int, tables: Iterable[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """So many decisions in groups, ascending, of those that tables share, directly or through others."""
    groups = [{g} for g in range(count)]
    for decisions in tables:
        joined = [group for group in groups if not group.isdisjoint(decisions)]
        groups = [group for group in groups if group not in joined] + [set().union(*joined)]
    return tuple(sorted(tuple(sorted(group)) for group in groups))


class TermCosts:
    """What the terms of a space add to the cost of its networks.

    Decisions that share a term form a group, directly or through others: a cost is a sum over groups, each of which
    depends on the decisions of the group only.

    Args:
        terms: Of the space.
        counts: Choices of each decision.
        price: Of a key.
        constant: What every network costs on top of the terms.
        combine: ``np.add`` for a sum; ``np.maximum`` for the largest of the prices, which are not negative.

    Attributes:
        constant: What every network costs.
        tables: By decisions, ascending: the cost for each combination of their choices, one axis per decision.
        groups: Decisions of each group, ascending; every decision is in one of them, in order of their first.
    """

    def __init__(
        self,
        terms: Iterable[Term],
        counts: Sequence[int],
        price: Callable[[str], float],
        constant: float = 0.0,
        combine: np.ufunc = np.add,
    ) -> None:
        self.counts, self.combine = tuple(counts), combine
        self.tables: dict[tuple[int, ...], Costs] = {}
        fixed = np.array(float(constant))
        for term in terms:
            prices = [float(reduce(combine, map(price, keys), 0.0)) for keys in term.keys]
            if combine is np.add:
                prices = [term.count * each for each in prices]
            axes = tuple(int(axis) for axis in np.argsort(term.decisions))
            table = np.reshape(prices, [self.counts[g] for g in term.decisions]).transpose(axes)
            decisions = tuple(sorted(term.decisions))
            if decisions:
                self.tables[decisions] = combine(self.tables.get(decisions, 0.0), table)
            else:
                fixed = combine(fixed, table)
        self.constant = float(fixed)

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        return tied(len(self.counts), self.tables)

    def of_groups(self, least: float = -math.inf) -> list[Costs]:
        """Per group the cost for each combination of its choices, flat, the last decision's choice changing fastest.

        Without the constant. A part below ``least`` counts as that.
        """
        found = []
        for group in self.groups:
            total = np.zeros([self.counts[g] for g in group])
            for decisions, table in self.tables.items():
                if set(decisions) <= set(group):
                    shape = [self.counts[g] if g in decisions else 1 for g in group]
                    total = self.combine(total, np.maximum(table, least).reshape(shape))
            found.append(total.ravel())
        return found

    def total(self, paths_NG: Paths, live_NG: Mask | None = None) -> Costs:
        """``(N,)`` cost of networks; a part counts where all of its decisions are live, by default everywhere."""
        total = np.full(len(paths_NG), self.constant)
        for decisions, table in self.tables.items():
            part = table[tuple(paths_NG[:, g] for g in decisions)]
            live = True if live_NG is None else live_NG[:, decisions].all(1)
            total = self.combine(total, np.where(live, part, 0.0))
        return total

    def decode(self, choices_NM: NDArray[np.integer[Any]]) -> Paths:
        """``(N, G)``: the choices of the decisions, from a combination of choices for each of M groups."""
        paths_NG = np.zeros((len(choices_NM), len(self.counts)), np.int_)
        for m, group in enumerate(self.groups):
            indices = np.unravel_index(choices_NM[:, m], [self.counts[g] for g in group])
            paths_NG[:, group] = np.stack(indices, 1)
        return paths_NG

    def ascending(self, sign: int = 1) -> Iterator[tuple[int, ...]]:
        """All paths, the one whose total times ``sign`` is lowest first; of equal ones those that change it least."""
        costs = [sign * each for each in self.of_groups()]
        orders = [np.argsort(each, kind="stable") for each in costs]

        def entry(ranks: tuple[int, ...]) -> tuple[float, int, tuple[int, ...]]:
            chosen = [sign * each[order[rank]] for each, order, rank in zip(costs, orders, ranks, strict=True)]
            return sign * float(reduce(self.combine, chosen, self.constant)), sum(ranks), ranks

        heap = [entry((0,) * len(costs))]
        while heap:
            *_, ranks = heapq.heappop(heap)
            yield tuple(
                self.decode(np.array([[order[rank] for order, rank in zip(orders, ranks, strict=True)]]))[0].tolist()
            )
            last = max((m for m, rank in enumerate(ranks) if rank), default=0)
            for m in range(last, len(ranks)):  # no other path leads here, so nothing is met twice
                if ranks[m] + 1 < len(costs[m]):
                    heapq.heappush(heap, entry((*ranks[:m], ranks[m] + 1, *ranks[m + 1 :])))
