"""What a pruning is told, the budgets in it, and the run folder that this names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from latency_tables.home import ANY, Target
from latency_tables.table import LatencyTable
from unas_hw.budget import CONFIDENCE, Budget, parse_limit
from unas_hw.data import DIGITS
from unas_hw.errors import BudgetError
from unas_hw.methods.pruning.search import PruneConfig
from unas_hw.runs import RUNS
from unas_hw.search.published import Proxy
from unas_hw.search.run_folder import config_of_all, numbered
from unas_hw.training import Hardware

METHOD = "prune"
_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


@dataclass(frozen=True, kw_only=True)
class PruneSettings:
    """What a pruning is told; None means that it finds out.

    Attributes:
        network: ``package.module:factory``, ``my_net.py`` or ``my_net.py:factory``.
        budget: Of the latency: ``80ms``, ``80ms@p90``, or ``50%`` of what the whole network takes.
        limits: Of ``macs`` and ``params``: ``20M``, or ``50%`` of the whole network's.
        confidence: With which the network has to be within the latency budget.
        dataset, image_size, batch: As in ``SearchSettings``.
        table: Path or name; by default the one for this network, made where there is none.
        target: Device, runtime, threads and precision.
        run: Name of the run folder; by default made of the settings.
        carry: Whether the network keeps the weights that were trained beside the masks last, and is fine-tuned.
        config: Hyper-parameters.
        hardware: What is trained on.
        told: All of this as the command line had it; lies in the run folder as ``config.yaml``.
    """

    network: str
    budget: str | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    confidence: float = CONFIDENCE
    dataset: str = DIGITS
    image_size: int | None = None
    batch: int = 1
    table: str | None = None
    target: Target = ANY
    run: str | None = None
    carry: bool = True
    config: PruneConfig = field(default_factory=PruneConfig)
    hardware: Hardware = field(default_factory=Hardware)
    told: Mapping[str, Any] = field(default_factory=dict)


def read_budgets(settings: PruneSettings) -> Budget | None:
    """The latency budget; raises ``BudgetError`` where there is no budget at all, or one cannot be read."""
    if settings.budget is None and not settings.limits:
        raise BudgetError("there is no budget", mend="add --latency-budget, --macs-budget or --params-budget, as 50%")
    for name, text in settings.limits.items():
        limit_of(name, text, 1.0)
    return None if settings.budget is None else Budget.parse(settings.budget, settings.confidence)


def limit_of(name: str, text: str, whole: float) -> float:
    """``20M``, or ``50%`` of what the whole network has; raises ``BudgetError``."""
    if (share := _SHARE.fullmatch(text)) is None:
        return parse_limit(name, text)
    if not 0 < float(share[1]) <= 100:
        raise BudgetError(f"{text!r} is not between 0% and 100%", mend=f"write --{name}-budget 50%")
    return whole * float(share[1]) / 100


def config_of(settings: PruneSettings, setting: Proxy, table: LatencyTable, budget: Budget) -> dict[str, Any]:
    """What lies in the run folder as ``config.json``: a run with another is another run."""
    return {
        **config_of_all(settings, setting, table, budget),
        "method": METHOD,
        "carry_weights": settings.carry,
        "seed": settings.config.seed,
        METHOD: asdict(settings.config),
    }


def run_path(settings: PruneSettings, name: str, config: dict[str, Any], table: LatencyTable) -> Path:
    """The folder of a run that prunes the space of that name."""
    if settings.run is not None:
        return RUNS / settings.run
    budgets = [] if settings.budget is None else [settings.budget]
    budgets += [f"{name}{text}" for name, text in settings.limits.items()]
    device = str(table.header["device"]).partition("?")[0]
    image = "x".join(map(str, config["input_shape"]))
    named = f"{METHOD}-{name}@{image}-{Path(config['dataset']).stem}-{device}-{'-'.join(budgets)}-s{config['seed']}"
    return numbered(re.sub(r"[^\w.@=-]+", "-", named.replace("%", "pct")), config)
