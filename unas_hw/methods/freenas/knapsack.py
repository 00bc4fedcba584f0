"""The networks of the highest additive score within an additive budget: the multiple-choice knapsack, solved exactly.

Costs are real numbers, so nothing is put into bins: from the last group of decisions to the first the completions that
no other beats in both cost and score are kept, as far as the Lagrangian bound says that they can still be part of a
network worth having. They tell exactly what every beginning of a network can still become, hence a best-first search
over beginnings meets networks in the order of their scores.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from latency_tables.expectation import MAX_JOINT
from unas_hw.cost_model import CHUNK, AdditiveModel, CostModel
from unas_hw.errors import SpaceError
from unas_hw.space import Paths
from unas_hw.terms import Costs, tied

Path = tuple[int, ...]
Tables = Mapping[tuple[int, ...], Costs]
"""By decisions, ascending: what each combination of their choices adds to the score; minus infinity forbids it."""
COMBINATIONS = 2_000_000
"""Of the choices of one group of decisions, at most."""
STATES = 200_000
"""Completions that are kept at most; where there are more, what is found may not be the best."""
LOOKED_AT, AT_ONCE = 20_000, 512
"""Networks that are looked at for ones that are usable and keep other budgets, and how many together."""
WIDER = 4.0
"""By so much more below the bound is looked at where too few networks were found."""
ROUNDING = 1e-12


@final
class Knapsack:
    """All usable networks within a budget, the best first.

    Only what is live counts, in the score and in the cost. Up to ``MAX_JOINT`` networks with dead operations are gone
    through one by one; of more, every operation counts while networks are looked for, which are then within the budget
    all the same, but maybe not the best.

    Args:
        model: Of the costs, and of the space.
        tables: The scores.

    Attributes:
        exact: Whether what was yielded so far is proven to be the best there is.
    """

    def __init__(self, model: AdditiveModel, tables: Tables) -> None:
        self.model, self.tables = model, tables
        self._enumerates = model.space.has_dead_operations and model.space.size <= MAX_JOINT
        self.exact = self._enumerates or not model.space.has_dead_operations

    def ranked(self, most: float, others: Sequence[tuple[CostModel, float]] = ()) -> Iterator[Path]:
        """Networks that cost at most this, of those that run the same one, the highest score first.

        Args:
            most: In the model's unit.
            others: Further costs with their limits; networks are looked for without them and then passed over.
        """
        most += ROUNDING * abs(most)  # of the smallest network alone, say: one sum may end in another digit
        found = self._enumerated(most) if self._enumerates else self._searched(most)
        space, limits = self.model.space, ((self.model, most), *others)
        seen: set[Path] = set()
        looked_at = 0
        while looked_at < LOOKED_AT:
            paths = list(islice(found, min(looked_at + 8, AT_ONCE)))
            if not paths:
                return
            looked_at += len(paths)
            paths_NG = np.array(paths)
            fits = space.usable(paths_NG)
            for cost, limit in limits:
                fits = fits & (cost.values(paths_NG) <= limit)
            for path in (tuple(each) for each in paths_NG[fits].tolist()):
                running = space.running(path)
                if running not in seen:
                    seen.add(running)
                    yield path
        self.exact = False

    def _enumerated(self, most: float) -> Iterator[Path]:
        space, counts = self.model.space, self.model.costs.counts
        paths, scores = [], []
        for begin in range(0, space.size, CHUNK):
            paths_NG = np.stack(np.unravel_index(np.arange(begin, min(begin + CHUNK, space.size)), counts), 1)
            score, allowed = np.zeros(len(paths_NG)), np.ones(len(paths_NG), bool)
            live_NG = space.live(paths_NG)
            for decisions, table in self.tables.items():
                part = table[tuple(paths_NG[:, g] for g in decisions)]
                score += np.where(live_NG[:, decisions].all(1) & np.isfinite(part), part, 0.0)
                allowed &= np.isfinite(part)
            fits = allowed & (self.model.values(paths_NG) <= most) & space.usable(paths_NG)
            paths.append(paths_NG[fits])
            scores.append(score[fits])
        best = np.argsort(-np.concatenate(scores), kind="stable")
        return map(tuple, np.concatenate(paths)[best].tolist())

    def _searched(self, most: float) -> Iterator[Path]:
        counts, costs = self.model.costs.counts, self.model.costs.tables
        groups = [_group(each, counts, costs, self.tables) for each in tied(len(counts), (*costs, *self.tables))]
        if any(len(group.scores) == 0 for group in groups):
            return
        low, high = (sum(float(end(group.costs)) for group in groups) for end in (np.min, np.max))
        limit = self._largest_sum(most, low, high)
        if limit is None:
            return
        search = _Search(groups, limit + ROUNDING * max(abs(limit), high - low))
        for choices in search.best_first():
            self.exact &= search.exact
            path = [0] * len(counts)
            for group, choice in zip(groups, choices, strict=True):
                for g, index in zip(group.decisions, group.choices[choice].tolist(), strict=True):
                    path[g] = index
            yield tuple(path)
        self.exact &= search.exact

    def _largest_sum(self, most: float, low: float, high: float) -> float | None:
        """The largest sum of the groups' costs that bends to at most this; None where the smallest is more."""
        constant, bend = self.model.costs.constant, self.model.bend
        if bend(constant + low) > most:
            return None
        if bend(constant + high) <= most:
            return high
        while (middle := (low + high) / 2) not in (low, high):
            low, high = (middle, high) if bend(constant + middle) <= most else (low, middle)
        return high


@final
@dataclass(frozen=True, kw_only=True)
class _Group:
    """Decisions, ascending, that costs or scores tie together: ``(J, decisions)`` combinations of their choices that
    are allowed, with the cost and the score ``(J,)`` of each.
    """

    decisions: tuple[int, ...]
    choices: Paths
    costs: Costs
    scores: Costs


def _group(decisions: tuple[int, ...], counts: Sequence[int], costs: Tables, scores: Tables) -> _Group:
    shape = [counts[g] for g in decisions]
    if math.prod(shape) > COMBINATIONS:
        raise SpaceError(
            f"{len(decisions)} decisions hang together, with {math.prod(shape):.1g} combinations of their choices",
            mend="let fewer decisions share a term, or take another --method",
        )
    totals = []
    for tables in (costs, scores):
        total = np.zeros(shape)
        for own, table in tables.items():
            if set(own) <= set(decisions):
                total = total + table.reshape([counts[g] if g in own else 1 for g in decisions])
        totals.append(total.ravel())
    allowed = np.flatnonzero(np.isfinite(totals[1]))
    choices = np.stack(np.unravel_index(allowed, shape), 1)
    return _Group(decisions=decisions, choices=choices, costs=totals[0][allowed], scores=totals[1][allowed])


class _Frontier(NamedTuple):
    """Completions none of which is beaten in both cost and score; ascending in both."""

    costs: Costs
    scores: Costs

    def best(self, left: Costs) -> Costs:
        """The highest score for what is left to spend; minus infinity where that is too little."""
        places = np.searchsorted(self.costs, left, side="right") - 1
        return np.where(places >= 0, self.scores[places], -np.inf)


@final
class _Search:
    """One choice of each group, with the sum of the costs within a limit.

    Attributes:
        exact: Whether no completion was left out that may matter.
    """

    def __init__(self, groups: Sequence[_Group], limit: float) -> None:
        self.groups, self.limit, self.exact = groups, limit, True
        self._cheapest = [0.0, *accumulate(float(group.costs.min()) for group in groups)]
        self._price = self._best_price()
        ends = [float((group.scores - self._price * group.costs).max()) for group in groups]
        self._before = [self._price * limit + each for each in (0.0, *accumulate(ends))]
        self._bound = self._before[-1]

    def best_first(self) -> Iterator[tuple[int, ...]]:
        """Choices of all groups, the highest sum of scores first."""
        spread = sum(float(np.ptp(group.scores)) for group in self.groups)
        gap = max(self._bound - self._feasible, 1e-6 * spread, ROUNDING)
        lowest = sum(float(group.scores.min()) for group in self.groups)
        seen: set[tuple[int, ...]] = set()
        while True:
            floor = self._bound - gap - ROUNDING * max(abs(self._bound), spread)
            for choices in self._down_to(floor):
                if choices not in seen:
                    seen.add(choices)
                    yield choices
            if floor < lowest:
                return
            gap *= WIDER

    def _spent(self, price: float) -> tuple[float, float]:
        """Cost and score of what is best at a price of the cost; of equal choices the cheapest."""
        cost = score = 0.0
        for group in self.groups:
            worth = group.scores - price * group.costs
            best = np.lexsort((group.costs, -worth))[0]
            cost, score = cost + float(group.costs[best]), score + float(group.scores[best])
        return cost, score

    def _best_price(self) -> float:
        """At which the Lagrangian bound is lowest: the lowest one at which no more than the limit is spent."""
        low, high = 0.0, 1.0
        if self._spent(low)[0] > self.limit:
            while self._spent(high)[0] > self.limit and high < 1e300:
                low, high = high, 2 * high
            while high - low > ROUNDING * high:
                middle = (low + high) / 2
                low, high = (middle, high) if self._spent(middle)[0] > self.limit else (low, middle)
            low = high
        self._feasible = self._spent(low)[1] if self._spent(low)[0] <= self.limit else -math.inf
        return low

    def _frontiers(self, floor: float) -> list[_Frontier]:
        """Of what comes after so many groups, without what no network of at least this score has."""
        frontier = _Frontier(np.zeros(1), np.zeros(1))
        found = [frontier]
        for m in range(len(self.groups) - 1, -1, -1):
            own = _best_of(self.groups[m].costs, self.groups[m].scores)
            costs = np.add.outer(frontier.costs, own.costs).ravel()
            scores = np.add.outer(frontier.scores, own.scores).ravel()
            reach = scores - self._price * costs + self._before[m]
            keep = (reach >= floor) & (costs + self._cheapest[m] <= self.limit)
            frontier = _best_of(costs[keep], scores[keep])
            if len(frontier.costs) > STATES:
                self.exact = False
                reach = frontier.scores - self._price * frontier.costs
                places = np.sort(np.argpartition(-reach, STATES)[:STATES])
                frontier = _Frontier(frontier.costs[places], frontier.scores[places])
            found.append(frontier)
        return found[::-1]

    def _down_to(self, floor: float) -> Iterator[tuple[int, ...]]:
        """All choices of at least this score, the best first."""
        frontiers = self._frontiers(floor)
        if len(frontiers[0].costs) == 0:
            return
        heap: list[tuple[float, tuple[int, ...], float, float]] = [(-float(frontiers[0].scores[-1]), (), 0.0, 0.0)]
        while heap:
            _, choices, cost, score = heapq.heappop(heap)
            if len(choices) == len(self.groups):
                yield choices
                continue
            group = self.groups[len(choices)]
            costs, scores = cost + group.costs, score + group.scores
            reach = scores + frontiers[len(choices) + 1].best(self.limit - costs)
            places: NDArray[np.intp] = np.flatnonzero(reach >= floor)
            for choice in places.tolist():
                entry = (-float(reach[choice]), (*choices, choice), float(costs[choice]), float(scores[choice]))
                heapq.heappush(heap, entry)


def _best_of(costs: Costs, scores: Costs) -> _Frontier:
    """Of these, what none of the others beats in both."""
    order = np.lexsort((-scores, costs))
    costs, scores = costs[order], scores[order]
    before = np.concatenate([[-np.inf], np.maximum.accumulate(scores)[:-1]])[: len(scores)]
    return _Frontier(costs[scores > before], scores[scores > before])
