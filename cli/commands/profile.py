"""``unas-hw profile``."""

from __future__ import annotations

from pathlib import Path

import click

from ..terminal import (
    batch_option,
    emit,
    follow,
    image_size_option,
    json_option,
    rounds_option,
    runtime_option,
    sheet,
    space_option,
    table_lines,
)


@click.command()
@space_option
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu, gpu or sim:NAME.")
@runtime_option
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads an operation may use.")
@click.option("--table", metavar="PATH", help="Table to complete; by default the one for space, device and runtime.")
@batch_option
@click.option("--dataset", metavar="NAME", help="For the images of this data set: digits, or the path of an .npz.")
@image_size_option
@click.option("--networks", type=click.IntRange(0), default=16, show_default=True, help="Networks to calibrate with.")
@rounds_option
@click.option("--more", is_flag=True, help="Measure what the table has again, in addition.")
@json_option
def command(
    space: str | None,
    device: str,
    runtime: str | None,
    threads: int,
    table: str | None,
    batch: int,
    dataset: str | None,
    image_size: int | None,
    networks: int,
    rounds: int | None,
    more: bool,
    as_json: bool,
) -> None:
    """Measure the operations of a search space that the device's table does not have yet.

    Interrupted or killed, the same command goes on where it was.
    """
    from latency_tables.collect import describe
    from profilers.registry import open_profiler
    from profilers.timing import timing_rule
    from unas_hw.jobs.profile import profile, space_for

    profiler = open_profiler(device, runtime=runtime, threads=threads)
    found = space_for(space, dataset=dataset, image_size=image_size, batch=batch)
    path = Path(table) if table else None
    done = follow(profile(found, profiler, path=path, rule=timing_rule(rounds), networks=networks, more=more))
    described = describe(done)
    emit(described, as_json, sheet(table_lines(described)))
