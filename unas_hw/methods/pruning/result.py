"""The run of a pruning: how it is told and named, and what is written in its folder at the end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from latency_tables.table import LatencyTable
from unas_hw.budget import Budget
from unas_hw.methods.pruning.config import METHOD, PruneSettings
from unas_hw.methods.pruning.limits import LATENCY, Whole
from unas_hw.methods.pruning.search import METRICS
from unas_hw.methods.pruning.selection import Found
from unas_hw.runs import RUNS, Run
from unas_hw.search.published import Proxy, latency_of, shapes
from unas_hw.search.run_folder import ARCHITECTURE, RESULT, config_of_all, numbered


def config_of(settings: PruneSettings, setting: Proxy, table: LatencyTable, budget: Budget) -> dict[str, Any]:
    """What lies in the run folder as ``config.json``: a run with another is another run."""
    return {
        **config_of_all(settings, setting, table, budget),
        "method": METHOD,
        "carry_weights": settings.carry_weights,
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


def common(settings: PruneSettings, whole: Whole) -> dict[str, Any]:
    """What every result begins with."""
    return {
        "space": whole.space.name,
        "table": str(whole.table.path),
        "device": whole.table.header["device"],
        "budget": settings.budget,
        "budget_ms": whole.budget.in_ms,
        "network": whole.space.told,
        "whole": {**whole.needs, "ms": whole.ms},
        "macs_without": list(whole.space.workload(whole.architecture).cost.not_counted),
        "not_pruned": {each.layer: each.reason for each in whole.prunable.kept},
    }


def infeasible(settings: PruneSettings, whole: Whole, unmet: str, seconds: float) -> dict[str, Any]:
    """The result where nothing keeps a budget."""
    nothing = dict.fromkeys(("run", "architecture", "predicted_ms", "measured_ms", "valid_accuracy"))
    return {**common(settings, whole), **nothing, "feasible": False, "unmet": unmet, "seconds": seconds}


def write_architecture(run: Run, whole: Whole, found: Found) -> None:
    """``architecture.json``."""
    content = {
        "space": whole.space.name,
        "version": 1,
        "choices": list(found.architecture.choices),
        **shapes(whole.space, whole.space),
        "table": whole.table.hash,
    }
    run.write_json(ARCHITECTURE, content)


def write_result(
    run: Run,
    settings: PruneSettings,
    whole: Whole,
    found: Found,
    *,
    data_notes: Sequence[str],
    valid_accuracy: float | None,
    candidates: int,
    seconds: float,
) -> dict[str, Any]:
    """``result.json``, the last file of a run since it says that it is finished; see ``prune`` for what is in it."""
    errors = whole.latency.calibration.errors if whole.latency else None
    limits, last = whole.limit_by_name, run.lines(METRICS)[-1]
    result = {
        "run": str(run.path),
        **common(settings, whole),
        "architecture": str(found.architecture),
        "predicted_ms": found.predicted.get(LATENCY, found.reading.judged_ms),
        **latency_of(whole.table, found.reading),
        **shapes(whole.space, whole.space),
        "percentile": whole.budget.percentile,
        "confidence": whole.budget.confidence,
        "feasible": found.excess(limits) <= 1,
        "limits": {
            name: {"limit": limit, "value": found.needs[name]} for name, limit in limits.items() if name != LATENCY
        },
        "data_notes": list(data_notes),
        "valid_accuracy": valid_accuracy,
        "candidates": candidates,
        "peak_bytes": None,
        "pruned": {"macs": found.needs["macs"], "params": found.needs["params"], "ms": found.reading.judged_ms},
        "units": {group.name: [int(found.masks[group.name].sum()), group.size] for group in whole.prunable.groups},
        "blocks": {block.name: bool(found.masks[block.name]) for block in whole.prunable.blocks},
        "binary_gap": last["binary_gap"],
        "multipliers": {name: last[name]["multiplier"] for name in limits},
        "interpolation": None if errors is None else errors.__dict__,
        "seconds": seconds,
    }
    run.write_json(RESULT, result)
    return result
