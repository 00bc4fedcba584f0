"""What a search is told, and the run folder that this names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from latency_tables.home import ANY, Target
from latency_tables.table import LatencyTable
from unas_hw.budget import CONFIDENCE, Budget
from unas_hw.data import DIGITS
from unas_hw.methods.freenas.search import FreenasConfig
from unas_hw.methods.monas.search import MonasConfig
from unas_hw.methods.radars.search import RadarsConfig
from unas_hw.methods.registry import OTHERS
from unas_hw.methods.rl_darts.search import RlDartsConfig
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.runs import RUNS
from unas_hw.search.published import Proxy
from unas_hw.search.run_folder import config_of_all, numbered
from unas_hw.tasks import is_task
from unas_hw.training import Hardware

PLACES = ("workers", "ray")


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What a search is told; None means that it finds out.

    Attributes:
        budget: ``80ms``, ``80ms@p90`` or ``50%`` of the way from the smallest to the largest network; None is none.
        confidence: With which the network has to be within the budget.
        space: Name; by default what suits the images.
        dataset: ``digits``, the path of an ``.npz``, or a task such as ``minatar:breakout``.
        image_size: Pixels; as the images are by default.
        batch: Images at a time that latencies are for.
        table: Path or name of a table; by default the last profiled that has the operations ...
        target: ... and is of this device, runtime, number of threads and precision.
        limits: Other budgets by name, such as ``{"params": "4M"}``; names of ``unas_hw.budget.LIMITS``.
        run: Name of the run folder; by default made of the settings.
        fresh: Whether the folder is a new one, numbered where the name is taken.
        unas: Hyper-parameters; ``method`` and ``seed`` are those of every method.
        freenas, monas, radars, rl_darts: Of these methods, beside.
        hardware: What the supernet is trained on.
        memory_budget: Of a step of the search, such as ``2GB``; any by default.
        sampled_paths: Whether a step that keeps no such budget otherwise may run fewer candidates, which biases it.
        told: All of this as the command line had it; lies in the run folder as ``config.yaml``.
    """

    budget: str | None
    confidence: float = CONFIDENCE
    space: str | None = None
    dataset: str = DIGITS
    image_size: int | None = None
    batch: int = 1
    table: str | Path | None = None
    target: Target = ANY
    limits: Mapping[str, str] = field(default_factory=dict)
    run: str | None = None
    fresh: bool = False
    unas: UnasConfig = field(default_factory=UnasConfig)
    freenas: FreenasConfig = field(default_factory=FreenasConfig)
    monas: MonasConfig = field(default_factory=MonasConfig)
    radars: RadarsConfig = field(default_factory=RadarsConfig)
    rl_darts: RlDartsConfig = field(default_factory=RlDartsConfig)
    hardware: Hardware = field(default_factory=Hardware)
    memory_budget: str | None = None
    sampled_paths: bool = False
    told: Mapping[str, Any] = field(default_factory=dict)


def config_of(settings: SearchSettings, setting: Proxy, table: LatencyTable, budget: Budget) -> dict[str, Any]:
    """What lies in the run folder as ``config.json``: a run with another is another run."""
    return {
        **config_of_all(settings, setting, table, budget),
        "memory_budget": settings.memory_budget,
        "sampled_paths": settings.sampled_paths,
        **asdict(settings.unas),
        **_others(settings),
    }


def _others(settings: SearchSettings) -> dict[str, Any]:
    """Hyper-parameters of a method with its own, but for where its work is done: that changes nothing it finds."""
    method = settings.unas.method
    if method not in OTHERS:
        return {}
    told = asdict(getattr(settings, method))
    return {method: {name: value for name, value in told.items() if name not in PLACES}}


def _named(dataset: str) -> str:
    return dataset.replace(":", "-").replace("/", "-").partition("?")[0] if is_task(dataset) else Path(dataset).stem


def run_path(settings: SearchSettings, config: dict[str, Any], table: LatencyTable) -> tuple[Path, bool]:
    """The run's folder, and whether a search was begun there."""
    if settings.run is not None:
        path = numbered(settings.run, config, fresh=True) if settings.fresh else RUNS / settings.run
        return path, (path / "config.json").exists()
    device = re.sub(r"[^\w.@-]+", "-", str(table.header["device"]).partition("?")[0])
    image = "x".join(map(str, config["input_shape"]))
    named = "" if settings.unas.method == "unas" else f"-{settings.unas.method}"
    named += "".join(f"-{name}{text}" for name, text in settings.limits.items())
    origin = config["space"]
    space = re.sub(r"[^\w.@-]+", "-", Path(origin).stem if Path(origin).is_file() else origin)
    budget = (settings.budget or "any").replace("%", "pct")
    stem = f"{space}@{image}-{_named(config['dataset'])}-{device}-{budget}{named}-s{settings.unas.seed}"
    path = numbered(stem, config, fresh=settings.fresh)
    return path, (path / "config.json").exists()
