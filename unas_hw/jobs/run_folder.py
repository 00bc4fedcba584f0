"""What all runs that find a network say of how they were begun, and which folder that is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from latency_tables.errors import TableError
from latency_tables.table import LatencyTable
from unas_hw.budget import Budget
from unas_hw.jobs.proxy import Proxy, shapes
from unas_hw.runs import RUNS, Run
from unas_hw.training import Hardware


class Told(Protocol):
    """What a search or a pruning is told, as far as both are told it."""

    @property
    def budget(self) -> str | None: ...
    @property
    def confidence(self) -> float: ...
    @property
    def limits(self) -> Mapping[str, str]: ...
    @property
    def hardware(self) -> Hardware: ...


def config_of_all(told: Told, setting: Proxy, table: LatencyTable, budget: Budget) -> dict[str, Any]:
    """The part of ``config.json`` that they share."""
    return {
        "space": setting.trained.origin,
        **shapes(setting.trained, setting.priced),
        "dataset": setting.data.origin,
        "data": setting.data.describe(),
        "image_size": setting.image_size,
        "table": str(table.path.resolve()),
        "table_hash": table.hash,
        "budget": told.budget,
        "budget_ms": budget.in_ms,
        "percentile": budget.percentile,
        "confidence": told.confidence,
        "limits": dict(told.limits),
        "bf16": told.hardware.bf16,
    }


def numbered(stem: str, config: Mapping[str, Any]) -> Path:
    """The folder of that name for a run with this configuration: the first that is not another run's."""
    for number in range(1, 1000):
        path = RUNS / (stem if number == 1 else f"{stem}-{number}")
        if not (path / "config.json").exists() or Run.open(path).config == config:
            return path
    raise TableError(f"a thousand runs are called {stem}", mend=f"rm -r {RUNS / stem}*")
