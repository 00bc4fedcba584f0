"""``unas-hw predict``."""

from __future__ import annotations

import shlex
from math import isfinite
from typing import Any

import click

import unas_hw

from ..options import WithExample
from ..terminal import (
    arithmetic,
    batch_option,
    dataset_option,
    emit,
    image_size_option,
    json_option,
    sheet,
    space_option,
    table_options,
)


@click.command(cls=WithExample, example="unas-hw predict --architecture runs/NAME/architecture.json --device gpu")
@click.option(
    "--architecture",
    required=True,
    metavar="FILE|STRING",
    help="A file that search wrote, or choices: k3e3,id,k5e6,...",
)
@space_option
@table_options
@dataset_option("For images like these")
@image_size_option
@batch_option
@click.option("--no-measure", is_flag=True, help="Predict what the table lacks, even if its device is at hand.")
@json_option
def command(architecture: str, no_measure: bool, as_json: bool, **told: Any) -> None:
    """Latency with its interval, parameters and MACs of one network."""
    from profilers.units import format_ms

    result = dict(unas_hw.predict(architecture, measure=not no_measure, progress=True, **told).content)
    if result["predicted_ms"] is None:
        named = shlex.quote(result["space"])
        latency = f"unknown: no table has these operations; unas-hw profile --space {named}"
    else:
        low, high = result["low_ms"], result["high_ms"]
        between = f"90% of such networks between {format_ms(low)} and {format_ms(high)}"
        few = "too few" if result["networks_measured"] else "no"
        interval = between if isfinite(high) else f"no interval: {few} whole networks were measured"
        latency = f"{format_ms(result['predicted_ms'])}, {interval}"
    lines = {
        "architecture": result["architecture"],
        "latency": latency,
        "covered": f"{result['coverage']:.0%} of the operations",
        **({"predicted rows": ", ".join(result["regressed"])} if result["regressed"] else {}),
        **({"not covered": ", ".join(result["not_covered"])} if result["not_covered"] else {}),
        "parameters": f"{result['params']:,}",
        "MACs": arithmetic(result),
        "table": result["table"],
    }
    emit(result, as_json, sheet(lines))
