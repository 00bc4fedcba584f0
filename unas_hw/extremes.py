"""Networks of any space: those that cost least and most, one that no change improves, and some in between."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import singledispatch
from itertools import islice
from typing import TypeVar

import numpy as np

from unas_hw.space import Architecture, Paths, SearchSpace
from unas_hw.terms import Costs, TermCosts

T = TypeVar("T")
NEAREST = 2000
"""Networks that are looked at for an extreme one that is usable, the best first."""


@singledispatch
def spread(space: SearchSpace, count: int, rng: random.Random) -> tuple[Architecture, ...]:
    """Smallest, largest and random networks between them, stratified by MACs; all usable, none of them twice.

    Stratified, because uniform draws of 21 layers all have about the same size (a sum of independent parts) and
    would test a table on a sliver of the space only.
    """
    macs = {workload.key: max(workload.cost.macs, 1) for workload in space.workloads()}
    costs = space.costs(macs.__getitem__)

    def size(paths_NG: Paths) -> Costs:
        return costs.total(paths_NG, space.live(paths_NG)) - costs.constant

    lightest, heaviest = extreme(space, costs, 1), extreme(space, costs, -1)
    low, high = size(np.array([lightest, heaviest]))
    found = {space.running(path): path for path in (lightest, heaviest)}
    for _ in range(1000):  # a space may have fewer networks than are asked for
        if len(found) >= min(count, space.size):
            break
        share = (len(found) - 1) / max(count - 1, 1)
        draws = 16 if space.has_unusable else 1  # there a single choice can leave little of a network, or nothing
        drawn = [_draw_near(space, share, lightest, heaviest, rng) for _ in range(draws)]
        new = [path for path in drawn if space.is_usable(path) and space.running(path) not in found]
        if new:
            nearest = new[np.abs(size(np.array(new)) - low - share * (high - low)).argmin()]
            found[space.running(nearest)] = nearest
    return tuple(map(space.architecture, found.values()))[:count]


def evenly(items: Sequence[T], count: int) -> list[T]:
    """So many of them at equal distances, from the first to the last; all where there are no more.

    What is drawn by size would lose its largest if only the first were taken.
    """
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places.tolist()]


def _draw_near(
    space: SearchSpace, share: float, lightest: Sequence[int], heaviest: Sequence[int], rng: random.Random
) -> tuple[int, ...]:
    """Choices that are the heaviest, the lightest or any, so that ``share`` moves the network's size."""
    lean, end = abs(2 * share - 1), heaviest if share > 0.5 else lightest
    counts = [len(decision.choices) for decision in space.decisions]
    return tuple(to if rng.random() < lean else rng.randrange(k) for to, k in zip(end, counts, strict=True))


def extreme(space: SearchSpace, costs: TermCosts, sign: int) -> tuple[int, ...]:
    """The usable network whose cost times ``sign`` is lowest.

    Where choices make operations dead, and where none of the ``NEAREST`` best is usable, it is one that no change
    of one choice improves.
    """

    def size(paths_NG: Paths) -> Costs:
        return sign * costs.total(paths_NG, space.live(paths_NG))

    best, start = next(costs.ascending(sign)), next(costs.ascending(-1))
    if not space.has_dead_operations and space.is_usable(best):
        return best
    if not space.is_usable(start):
        start = space.indices(space.draw(random.Random(0)))
    found = descend(space, start, size)
    if not space.has_dead_operations and size(np.array([found])) > size(np.array([best])):
        return next(filter(space.is_usable, islice(costs.ascending(sign), NEAREST)), found)
    return found


def descend(space: SearchSpace, start: Sequence[int], size: Callable[[Paths], Costs]) -> tuple[int, ...]:
    """A usable network from which no change of one choice leads to a usable one of a smaller ``size``.

    Every step makes the change that helps most, of equal ones the one whose choices come first; so dead decisions
    end at their first choice. ``start`` has to be usable.
    """
    counts, path = [len(decision.choices) for decision in space.decisions], tuple(start)
    while True:
        near = [(*path[:g], index, *path[g + 1 :]) for g, count in enumerate(counts) for index in range(count)]
        sizes = np.where(space.usable(np.array(near)), size(np.array(near)), np.inf)
        _, best = min(zip(sizes.tolist(), near, strict=True))
        if best == path:
            return path
        path = best
