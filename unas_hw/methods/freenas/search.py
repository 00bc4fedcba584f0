"""FreeNAS: a network from the shares of the flow through an untrained supernet, the best one within a budget.

One-shot scores every candidate once. In rounds the worst candidate of each decision is dropped and what remains is
scored again, until so few remain that the best network of the rest is looked for. Either way it is the network whose
shares sum to the most among those within the budget, and not the best candidate of each decision by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from unas_hw.cost_model import AdditiveModel, CostModel
from unas_hw.methods.freenas.config import FreenasConfig
from unas_hw.methods.freenas.knapsack import Knapsack, Path
from unas_hw.search.constraints import Constraint
from unas_hw.space import SearchSpace
from unas_hw.zero_cost.flow import Flow, free_flow, fresh_supernet

CANDIDATES = 6
"""Networks that are measured at a time."""


class Ranked(NamedTuple):
    """The networks of the highest scores, best first, and whether they are proven to be."""

    paths: list[Path]
    exact: bool


def rounds(
    space: SearchSpace, model: AdditiveModel, most: float, config: FreenasConfig, seed: int, before: Sequence[Flow] = ()
) -> Iterator[Flow]:
    """Scores, round by round; those of the last one count.

    A network that costs at most ``most``, in the model's unit, always remains. ``before`` is what an earlier call gave
    until it was stopped.
    """
    flow = before[-1] if before else None
    if flow is not None and (not config.iterative or (flow := _dropped(flow, model, most, config.keep)) == before[-1]):
        return
    supernet = fresh_supernet(space, seed)
    while True:
        scored = free_flow(space, supernet, flow)
        yield scored
        if not config.iterative or (flow := _dropped(scored, model, most, config.keep)) == scored:
            return


def count_rounds(space: SearchSpace, config: FreenasConfig) -> int:
    """How many there are at most."""
    most = max(len(decision.choices) for decision in space.decisions)
    return 1 + (max(most - config.keep, 0) if config.iterative else 0)


def best_networks(
    flow: Flow,
    model: AdditiveModel,
    most: float,
    constraints: Sequence[Constraint] = (),
    count: int = CANDIDATES,
) -> Ranked:
    """Networks of the highest score that cost at most this and keep all other budgets; none where there are none.

    Candidates that were dropped, and then those that give nothing, are taken only where no network does without them.
    Where another budget forbids all that are looked at, the best within that one are.
    """
    limits: list[tuple[CostModel, float]] = [(each.resource, each.limit) for each in constraints]
    for tables in (flow.tables(), flow.tables(dropped=True), flow.tables(dropped=True, nothing=True)):
        for cost, limit in ((model, most), *limits):
            if isinstance(cost, AdditiveModel):
                knapsack = Knapsack(cost, tables)
                if paths := list(islice(knapsack.ranked(limit, [(model, most), *limits]), count)):
                    return Ranked(paths, knapsack.exact)
    return Ranked([], True)


def _dropped(flow: Flow, model: AdditiveModel, most: float, keep: int) -> Flow:
    """The flow with the worst candidate of each edge dropped, that can be, where more than ``keep`` are left."""
    for place, edge in enumerate(flow.edges):
        if len(edge.left) <= keep:
            continue
        for candidate in sorted(edge.left, key=edge.shares.__getitem__):
            gone = tuple(each or j == candidate for j, each in enumerate(edge.dropped))
            rest = (*flow.edges[:place], replace(edge, dropped=gone), *flow.edges[place + 1 :])
            less = replace(flow, edges=rest)
            if next(Knapsack(model, less.tables()).ranked(most), None) is not None:
                flow = less
                break
    return flow
