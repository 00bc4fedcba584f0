"""Prepared: what a search of any method begins with, and how all of them measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from latency_tables.coverage import profiler_of
from latency_tables.table import LatencyTable
from profilers.timing import TimingRule
from unas_hw.budget import Budget
from unas_hw.data import Dataset
from unas_hw.distributed import ALONE, Ranks
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import ANCHOR_MOVE, Meter, NetworkMeter, TableMeter, enough_for
from unas_hw.progress import Job, Step
from unas_hw.runs import Run
from unas_hw.search.constraints import Constraint
from unas_hw.search.method import MethodConfig
from unas_hw.search.selection import Path, Selection, select_first
from unas_hw.search.settings import SearchSettings
from unas_hw.space import SearchSpace

Config = TypeVar("Config", bound=MethodConfig)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A search whose run has begun.

    Attributes:
        settings: What it was told.
        rule: How long to measure.
        whole: The space that was asked for.
        space: What is searched of it; all, unless a method has made it smaller.
        data: Images.
        table: Whose device is measured.
        model: Its latencies, of ``space`` in the shape that the table prices.
        budget: In milliseconds.
        aim_ms: What predictions have to be below, so that networks are within the budget with the asked confidence.
        constraints: Other budgets.
        common: What every result says.
        begin: ``time.monotonic`` when the search was called.
        run: Its folder.
        ranks: Processes that search together, of which this is one.
        more: Further keys of the result, of a method that ends with this search.
        around: The search of the whole space where this one is of a part of it: its random networks are what chance
            would have found.
    """

    settings: SearchSettings
    rule: TimingRule
    whole: SearchSpace
    space: SearchSpace
    data: Dataset
    table: LatencyTable
    model: LatencyModel
    budget: Budget
    aim_ms: float
    constraints: tuple[Constraint, ...]
    common: Mapping[str, Any]
    begin: float
    run: Run
    ranks: Ranks = ALONE
    more: Mapping[str, Any] = field(default_factory=dict)
    around: Prepared | None = None

    def config(self, kind: type[Config]) -> Config:
        """The method's own settings, which are of this kind."""
        found = self.settings.config
        assert isinstance(found, kind)
        return found

    def fits(self, path: Path) -> bool:
        """Whether the network keeps all budgets but the latency's."""
        return all(each.fits(path) for each in self.constraints)

    def headroom(self, meter: NetworkMeter) -> float:
        """Share of the budget that predictions leave: for their own error and for the drift of the device.

        These do not depend on each other, so their quantiles add as squares: the larger alone would keep fewer budgets
        than the confidence asks for. No more than either of them at its most.
        """
        error = max(1 - self.aim_ms / self.budget.in_ms, 0.0)
        return min(math.hypot(meter.headroom, error), max(ANCHOR_MOVE, error))


@contextmanager
def meter_of(prepared: Prepared) -> Iterator[NetworkMeter]:
    """Of the table's device; of the table itself where that is all there is."""
    budget, table = prepared.budget, prepared.table
    if table.is_published:
        yield TableMeter(prepared.model)
    else:
        with profiler_of(table) as profiler:
            yield Meter(
                prepared.whole, table, profiler, percentile=budget.percentile, confidence=budget.confidence,
                run=prepared.run,
            )  # fmt: skip


def measured_best(prepared: Prepared, meter: NetworkMeter, ranked: Callable[[float], Sequence[Path]]) -> Job[Selection]:
    """Measures the first networks of a ranking until one keeps the budget, see ``select_first``."""
    rule, budget_ms = enough_for(prepared.rule, prepared.budget), prepared.budget.in_ms
    found = select_first(ranked, prepared.model, meter, budget_ms, rule, prepared.headroom(meter))
    return (yield from reported(found, prepared.model))


def reported(rounds: Iterator[Selection], model: LatencyModel) -> Job[Selection]:
    """The last selection; each round is a step that tells of the networks that it measured."""
    selection, known = Selection(), 0
    for selection in rounds:
        new = tuple(selection.candidates(model))[known:]
        known += len(new)
        yield Step("measure candidates", known, known, measured=new)
    return selection
