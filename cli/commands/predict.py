"""``unas-hw predict``."""

from __future__ import annotations

import click

from ..terminal import batch_option, emit, image_size_option, json_option, sheet, space_option, table_options


@click.command()
@click.option(
    "--architecture",
    required=True,
    metavar="FILE|STRING",
    help="A file that search wrote, or choices: k3e3,id,k5e6,...",
)
@space_option
@table_options
@click.option("--dataset", metavar="NAME", help="For the images of this data set.")
@image_size_option
@batch_option
@json_option
def command(
    architecture: str,
    space: str | None,
    device: str | None,
    runtime: str | None,
    threads: int | None,
    table: str | None,
    dataset: str | None,
    image_size: int | None,
    batch: int,
    as_json: bool,
) -> None:
    """Latency with its interval, parameters and MACs of one network."""
    from latency_tables.home import Target
    from profilers.units import format_ms
    from unas_hw.jobs.predict import predict_network

    result = predict_network(
        architecture,
        space=space,
        table=table,
        target=Target(device=device, runtime=runtime, threads=threads),
        dataset=dataset,
        image_size=image_size,
        batch=batch,
    )
    if result["predicted_ms"] is None:
        space = result["architecture"].partition(":")[0]
        latency = f"unknown: no table has these operations; unas-hw profile --space {space}"
    else:
        low, high = format_ms(result["low_ms"]), format_ms(result["high_ms"] or float("inf"))
        latency = f"{format_ms(result['predicted_ms'])}, 90% of such networks between {low} and {high}"
    lines = {
        "architecture": result["architecture"],
        "latency": latency,
        "covered": f"{result['coverage']:.0%} of the operations",
        "parameters": f"{result['params']:,}",
        "MACs": f"{result['macs']:,}",
        "table": result["table"],
    }
    emit(result, as_json, sheet(lines))
