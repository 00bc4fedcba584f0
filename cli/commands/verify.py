"""``unas-hw verify``."""

from __future__ import annotations

import click

import unas_hw

from ..options import WithExample
from ..terminal import json_option, rounds_option, run_option
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
    file = unas_hw.verify(artifact, run=run, format=format_name, device=device, rounds=rounds, progress=True)
    finish(dict(file.content), as_json)
