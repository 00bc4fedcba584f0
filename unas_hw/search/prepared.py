"""Prepared: what a search of any method begins with, and what all of them do at their end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from latency_tables.coverage import profiler_of
from latency_tables.table import LatencyTable
from profilers.files import write_atomic
from profilers.timing import TimingRule
from unas_hw.budget import Budget
from unas_hw.data import Dataset
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import Meter, NetworkMeter, TableMeter, enough_for
from unas_hw.methods.unas.found import described, limits_kept
from unas_hw.network import save_network
from unas_hw.progress import Job, Step
from unas_hw.runs import Run
from unas_hw.search.constraints import Constraint
from unas_hw.search.published import latency_of, shapes
from unas_hw.search.run_folder import RESULT
from unas_hw.search.selection import Path, Selection, select_first
from unas_hw.search.settings import SearchSettings
from unas_hw.space import SearchSpace

ARCHITECTURE = "architecture.json"
CANDIDATES = "candidates.jsonl"
"""What was measured at the end, one network a line; of those the search kept one."""


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

    def fits(self, path: Path) -> bool:
        """Whether the network keeps all budgets but the latency's."""
        return all(each.fits(path) for each in self.constraints)

    def headroom(self, meter: NetworkMeter) -> float:
        """Share of the budget that predictions leave."""
        return max(meter.headroom, 1 - self.aim_ms / self.budget.in_ms)


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


def finish(
    prepared: Prepared,
    selection: Selection,
    network: nn.Module,
    *,
    valid_accuracy: float | None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes the network, its weights and the result; the result last, since that says that the run is finished.

    Args:
        prepared: The search.
        selection: What was measured.
        network: The best of it, or the nearest.
        valid_accuracy: On the validation images; None of a network that nobody has trained.
        more: Further keys of the result.
    """
    run, space, model = prepared.run, prepared.space, prepared.model
    path = selection.best or selection.nearest
    save_network(run, "weights.safetensors", network)
    run.write_json(ARCHITECTURE, described(space, model, path))
    lines = (json.dumps(each) + "\n" for each in selection.candidates(model))
    write_atomic(run.path / CANDIDATES, "".join(lines))
    result = {
        "run": str(run.path),
        **prepared.common,
        "architecture": str(space.architecture(path)),
        "predicted_ms": model.latency_ms(path),
        **latency_of(prepared.table, selection.readings[path]),
        **shapes(space, model.space),
        "percentile": prepared.budget.percentile,
        "confidence": prepared.budget.confidence,
        "feasible": selection.best is not None,
        "limits": limits_kept(prepared.constraints, path),
        "valid_accuracy": valid_accuracy,
        "candidates": len(selection.readings),
        "peak_bytes": None,
        "seconds": time.monotonic() - prepared.begin,
        **(more or {}),
    }
    run.write_json(RESULT, result)
    return result
