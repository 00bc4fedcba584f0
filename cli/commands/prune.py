"""``unas-hw prune``."""

from __future__ import annotations

from typing import Any

import click

import unas_hw
from unas_hw.methods.pruning.config import METHOD, PruneConfig, PruneSettings
from unas_hw.settings import RUN, TABLE, TRAINING

from ..configuring import configurable, told_sections
from ..exporting import end, export_option
from ..options import GroupedCommand, options_from, said
from ..terminal import json_option, rounds_option, sheet
from .search import measured

GROUPS = {"rounds": TABLE, "config": RUN, "set": RUN}


@click.command(cls=GroupedCommand, groups=GROUPS, example="unas-hw prune my_net.py --latency-budget 50% --export")
@click.argument("network", metavar="NETWORK")
@options_from((PruneSettings, None), (PruneConfig, TRAINING))
@export_option
@rounds_option
@json_option
@configurable(lambda: {METHOD: PruneConfig})
@click.pass_context
def command(
    context: click.Context,
    /,
    network: str,
    export_format: str | None,
    rounds: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the channels and blocks of your own network to keep within a budget: NETWORK gets smaller.

    NETWORK is package.module:factory, my_net.py (its function build) or my_net.py:factory. Which channels belong
    together is found by tracing it. Percentages are shares of the whole network: of its MACs, of its weights, of its
    measured latency. Interrupted or killed, the same command goes on where it was. Exit code 3 if nothing keeps the
    budgets.
    """
    told: dict[str, Any] = told_sections(context) | said(context, options)
    found = unas_hw.prune(network, rounds=rounds, progress=True, **told)
    end(dict(found.content), export_format, rounds, as_json, _lines)


def _lines(result: dict[str, Any]) -> str:
    from profilers.units import format_ms
    from profilers.workload import lacking
    from unas_hw.budget import format_limit

    if result["run"] is None:
        return f"no sub-network meets the {result['unmet']}"
    whole, pruned = result["whole"], result["pruned"]
    limits: dict[str, str] = {}
    for name in ("macs", "params"):
        limits[name] = f"{format_limit(name, pruned[name])} of {format_limit(name, whole[name])}"
        if name == "macs" and (without := lacking(result.get("macs_without", ()))):
            limits[name] += f", {without}"
        if name in result["limits"]:
            limits[name] += f", budget {format_limit(name, result['limits'][name]['limit'])}"
    latency = {"predicted": format_ms(result["predicted_ms"])} if result["budget"] else {}
    latency["measured"] = f"{measured(result)}; the whole network {format_ms(whole['ms'])}"
    if result["budget"]:
        latency["budget"] = format_ms(result["budget_ms"])
    dropped = [name for name, kept in result["blocks"].items() if not kept]
    units = [sum(each) for each in zip(*result["units"].values(), strict=True)]
    accuracy = result["valid_accuracy"]
    lines = {
        "kept": f"{units[0]} of {units[1]} units in {len(result['units'])} groups, "
        f"{len(result['blocks']) - len(dropped)} of {len(result['blocks'])} blocks",
        **({"dropped": ", ".join(dropped)} if dropped else {}),
        **limits,
        **latency,
        **({} if result["feasible"] else {"verdict": "NOT MET; this is the nearest that was found"}),
        "accuracy": "not trained yet: unas-hw train"
        if accuracy is None
        else f"{accuracy:.2%} on validation images; unas-hw train retrains it from scratch",
        "table": result["table"],
        "run": result["run"],
    }
    return sheet(lines)
