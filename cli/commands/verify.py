"""``unas-hw verify``."""

from __future__ import annotations

import click

from ..terminal import follow, json_option, rounds_option, run_option
from .export import finish


@click.command()
@run_option
@click.option(
    "--format", "format_name", metavar="NAME", help="onnx, torch, ncnn or litert; by default what was exported last."
)
@rounds_option
@json_option
def command(run: str | None, format_name: str | None, rounds: int | None, as_json: bool) -> None:
    """Verify what a run has exported: again, or on another day."""
    from profilers.timing import timing_rule
    from unas_hw.jobs.export import verify

    finish(follow(verify(run, format_name, timing_rule(rounds))), as_json)
