"""``unas-hw prune``."""

from __future__ import annotations

from typing import Any

import click

import unas_hw

from ..configuring import configurable, section_of
from ..exporting import end, export_option
from ..options import WithExample
from ..terminal import (
    batch_option,
    dataset_option,
    image_size_option,
    json_option,
    rounds_option,
    sheet,
    table_options,
)
from .search import measured


def _sections() -> dict[str, type]:
    from unas_hw.methods.pruning.config import PruneConfig

    return {"prune": PruneConfig}


@click.command(cls=WithExample, example="unas-hw prune my_net.py --latency-budget 50% --export")
@click.argument("network", metavar="NETWORK")
@configurable(_sections)
@click.option("--latency-budget", metavar="BUDGET", help="80ms, 80ms@p90, or 50% of what the whole network takes.")
@click.option("--macs-budget", metavar="BUDGET", help="20M multiply-accumulates an image, or 50% of the whole's.")
@click.option("--params-budget", metavar="BUDGET", help="100k learned numbers, or 50% of the whole's.")
@click.option(
    "--confidence", type=float, default=0.95, show_default=True, help="With which the network is within the budget."
)
@dataset_option("Images to learn from", default="digits", show_default=True)
@image_size_option
@batch_option
@table_options
@click.option("--run", metavar="NAME", help="Run folder under runs/; by default named after the settings.")
@click.option("--seed", type=int, help="Of everything random.  [default: 0]")
@click.option("--epochs", type=click.IntRange(1), help="Of training masks and weights together.")
@click.option("--batch-size", type=click.IntRange(2), help="Images a step.")
@click.option(
    "--carry-weights/--no-carry-weights", default=True, show_default=True,
    help="Keep the weights that were trained beside the masks last, and fine-tune them.",
)  # fmt: skip
@click.option("--train-on", metavar="DEVICE", help="cpu, gpu or gpu:1; by default a GPU where there is one.")
@click.option("--bf16/--no-bf16", default=None, help="Train with products in bfloat16; by default on a GPU.")
@export_option
@rounds_option
@json_option
def command(
    network: str,
    latency_budget: str | None,
    export_format: str | None,
    rounds: int | None,
    as_json: bool,
    **told: Any,
) -> None:
    """Find the channels and blocks of your own network to keep within a budget: NETWORK gets smaller.

    NETWORK is package.module:factory, my_net.py (its function build) or my_net.py:factory. Which channels belong
    together is found by tracing it. Percentages are shares of the whole network: of its MACs, of its weights, of its
    measured latency. Interrupted or killed, the same command goes on where it was. Exit code 3 if nothing keeps the
    budgets.
    """
    from unas_hw.methods.pruning.config import PruneConfig

    settings = section_of(click.get_current_context(), "prune", PruneConfig)
    settings |= {name: value for name, value in told.items() if value is not None}
    found = unas_hw.prune(network, budget=latency_budget, rounds=rounds, progress=True, **settings)
    end(dict(found.content), export_format, rounds, as_json, _lines)


def _lines(result: dict[str, Any]) -> str:
    from profilers.units import format_ms
    from unas_hw.budget import format_limit

    if result["run"] is None:
        return f"no sub-network meets the {result['unmet']}"
    whole, pruned = result["whole"], result["pruned"]
    limits: dict[str, str] = {}
    for name in ("macs", "params"):
        limits[name] = f"{format_limit(name, pruned[name])} of {format_limit(name, whole[name])}"
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
