"""What all runs that find a network say of how they were begun, and which folder that is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from latency_tables import storage
from latency_tables.errors import TableError
from latency_tables.table import LatencyTable
from unas_hw.budget import Budget
from unas_hw.runs import RUNS, Run
from unas_hw.search.published import Proxy, shapes
from unas_hw.training import Hardware

TABLE = "table.jsonl"
"""The table as it was when the run began: another search may measure its anchors again meanwhile."""
RESULT = "result.json"
"""Of a run that is finished."""
_OF_THE_TABLE = ("table_hash", "budget_ms")
"""What of ``config.json`` changes with the content of the table."""


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


def keep_table(run: Run, table: LatencyTable) -> None:
    """Puts a table beside what is found with it, once."""
    if not (run.path / TABLE).exists():
        storage.write(run.path / TABLE, table.header, table.records())


def begun_with(path: Path, table: LatencyTable) -> LatencyTable:
    """The table as it was when the run in this folder began, if it is not finished; otherwise as it is."""
    if not _unfinished(path) or Run.open(path).config.get("table") != str(table.path.resolve()):
        return table
    kept = LatencyTable.load(path / TABLE)
    kept.path = table.path
    return kept


def numbered(stem: str, config: Mapping[str, Any], *, fresh: bool = False) -> Path:
    """The folder of that name for a run with this configuration: the first that is not another run's.

    A run that is not finished is that of its configuration whatever its table says by now. ``fresh`` takes none that
    there is.
    """
    for number in range(1, 1000):
        path = RUNS / (stem if number == 1 else f"{stem}-{number}")
        if not (path / "config.json").exists():
            return path
        begun = Run.open(path).config
        if fresh:
            continue
        if begun == config or (_unfinished(path) and _without_table(begun) == _without_table(config)):
            return path
    raise TableError(f"a thousand runs are called {stem}", mend=f"rm -r {RUNS / stem}*")


def _unfinished(path: Path) -> bool:
    return (path / TABLE).exists() and not (path / RESULT).exists()


def _without_table(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _OF_THE_TABLE}
