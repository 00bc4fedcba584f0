"""What all runs that find a network say of how they were begun, and which folder that is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from latency_tables import storage
from latency_tables.errors import TableError
from latency_tables.table import LatencyTable
from unas_hw.budget import Budget
from unas_hw.runs import RUNS, Run
from unas_hw.search.published import Proxy, shapes
from unas_hw.search.settings import SearchSettings, as_told
from unas_hw.settings import AS_BEFORE
from unas_hw.tasks import is_task
from unas_hw.training import Hardware

TABLE = "table.jsonl"
"""The table as it was when the run began: another search may measure its anchors again meanwhile."""
RESULT = "result.json"
"""Of a run that is finished."""
ARCHITECTURE = "architecture.json"
CHECKPOINT = "checkpoint.safetensors"
"""Of a search that trains a supernet."""
MEMORY = "memory.json"
"""How steps are run so that they keep a memory budget."""
CANDIDATES = "candidates.jsonl"
"""What was measured at the end, one network a line; of those the search kept one."""
SUBSPACE = "subspace.json"
"""What is left of a space that was pruned before it was searched."""
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


def config_of(settings: SearchSettings, setting: Proxy, table: LatencyTable, budget: Budget) -> dict[str, Any]:
    """What lies in the folder of a search as ``config.json``: a run with another is another run.

    Settings of UNAS stand beside the others, as they did when there was no other method; those of any other under its
    name. Where work is done is not there: that changes nothing that is found.
    """
    config, supernet = settings.config, settings.supernet
    flat = asdict(supernet) if supernet is not None and supernet.section == "unas" else {}
    return {
        **config_of_all(settings, setting, table, budget),
        "memory_budget": settings.memory_budget,
        "sampled_paths": settings.sampled_paths,
        **flat,
        **({} if config is supernet and flat else {config.section: asdict(config)}),
        "method": settings.method,
        "seed": settings.seed,
        "finals": settings.ends,
    }


def as_begun(settings: SearchSettings, setting: Proxy, table: LatencyTable, budget: Budget) -> SearchSettings:
    """With the defaults of November 2026, where a run was begun so that goes on; in December without finals."""
    ending = settings.ending.before() if settings.ending else None
    december = replace(settings, finals=AS_BEFORE["finals"])
    for then, lacking in (
        (replace(december, config=settings.config.before(), ending=ending), AS_BEFORE.keys()),
        (december, {"finals"}),
    ):
        path, begun = run_path(then, config_of(then, setting, table, budget), table)
        if begun and not lacking & Run.open(path).config.keys():
            return replace(then, told=settings.told and as_told(then, *filter(None, (then.config, then.ending))))
    return settings


def run_path(settings: SearchSettings, config: dict[str, Any], table: LatencyTable) -> tuple[Path, bool]:
    """The folder of a search, and whether one was begun there."""
    if settings.run is not None:
        path = numbered(settings.run, config, fresh=True) if settings.fresh else RUNS / settings.run
        return path, (path / "config.json").exists()
    device = re.sub(r"[^\w.@-]+", "-", str(table.header["device"]).partition("?")[0])
    image = "x".join(map(str, config["input_shape"]))
    named = "" if settings.method == "unas" else f"-{settings.method}"
    named += "".join(f"-{name}{text}" for name, text in settings.limits.items())
    origin = config["space"]
    space = re.sub(r"[^\w.@-]+", "-", Path(origin).stem if Path(origin).is_file() else origin)
    budget = (settings.budget or "any").replace("%", "pct")
    stem = f"{space}@{image}-{_named(config['dataset'])}-{device}-{budget}{named}-s{settings.seed}"
    path = numbered(stem, config, fresh=settings.fresh)
    return path, (path / "config.json").exists()


def _named(dataset: str) -> str:
    return dataset.replace(":", "-").replace("/", "-").partition("?")[0] if is_task(dataset) else Path(dataset).stem


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

    A run that is not finished is that of its configuration whatever its table says by now. What only the run's
    configuration says is of an older version and does nothing. ``fresh`` takes none that there is.
    """
    for number in range(1, 1000):
        path = RUNS / (stem if number == 1 else f"{stem}-{number}")
        if not (path / "config.json").exists():
            return path
        if fresh:
            continue
        begun = Run.open(path)
        known = {name: begun.told(name) for name in config}
        if known == config or (_unfinished(path) and _without_table(known) == _without_table(config)):
            return path
    raise TableError(f"a thousand runs are called {stem}", mend=f"rm -r {RUNS / stem}*")


def _unfinished(path: Path) -> bool:
    return (path / TABLE).exists() and not (path / RESULT).exists()


def _without_table(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _OF_THE_TABLE}
