"""Budgets beside the latency's, from what a user wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from latency_tables.table import LatencyTable
from unas_hw.budget import format_limit, parse_limit
from unas_hw.cost_model import CostModel
from unas_hw.resources import Energy, Macs, Params, PeakMemory
from unas_hw.search.constraints import Constraint
from unas_hw.space import SearchSpace


def constraints_of(limits: Mapping[str, str], space: SearchSpace, table: LatencyTable) -> tuple[Constraint, ...]:
    """Of texts by name, see ``unas_hw.budget.LIMITS``.

    Raises:
        BudgetError: If a text cannot be read.
        MissingEntryError: If energy is limited and the table has none.
    """
    makers: dict[str, Callable[[], CostModel]] = {
        "energy": lambda: Energy(space, table),
        "macs": lambda: Macs(space),
        "params": lambda: Params(space),
        "peak-memory": lambda: PeakMemory(space),
    }
    return tuple(Constraint(makers[name](), parse_limit(name, text)) for name, text in limits.items())


def said(unmet: Constraint) -> str:
    """A budget that no network can keep, and what networks have."""
    name = unmet.resource.name.replace(" ", "-")
    limit, least, most = (format_limit(name, value) for value in (unmet.limit, *unmet.resource.range))
    return f"{name} budget of {limit}: networks have {least} to {most}"
