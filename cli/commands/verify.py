"""``unas-hw verify``."""

from __future__ import annotations

import click

from ..options import WithExample
from ..terminal import follow, json_option, rounds_option, run_option
from .export import finish


@click.command(cls=WithExample, example="unas-hw verify runs/NAME/export/model.onnx --device ssh://pi@raspberrypi")
@click.argument("artifact", required=False)
@run_option
@click.option("--format", "format_name", metavar="NAME", help="Of a run; by default what was exported last.")
@click.option(
    "--device",
    metavar="DEVICE",
    help="Where it is run and measured, such as ssh://pi@192.168.0.7; the device of the run's table by default.",
)
@rounds_option
@json_option
def command(
    artifact: str | None,
    run: str | None,
    format_name: str | None,
    device: str | None,
    rounds: int | None,
    as_json: bool,
) -> None:
    """Verify an exported file, or what a run, the last one by default, has exported last.

    ARTIFACT is one of its files, with the manifest that export wrote beside it.
    """
    from profilers.timing import timing_rule
    from unas_hw.jobs.verify import verify

    job = verify(artifact, run=run, format_name=format_name, device=device, rule=timing_rule(rounds))
    finish(follow(job), as_json)
