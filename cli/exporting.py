"""``--export`` of the commands that find a network, and how they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

import unas_hw

from .commands.export import exit_by, report_lines
from .terminal import BUDGET_NOT_MET, emit

DEFAULT = "default"
"""The format of what the runtime runs."""


def _format(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value not in (None, DEFAULT):
        from unas_hw.export import find_format

        find_format(value)  # before anything slow
    return value


export_option = click.option(
    "--export", "export_format", is_flag=False, flag_value=DEFAULT, metavar="[FORMAT]", callback=_format,
    help="Export what was found and verify it, as unas-hw export does.",
)  # fmt: skip


def end(
    result: dict[str, Any],
    export_format: str | None,
    rounds: int | None,
    as_json: bool,
    lines: Callable[[dict[str, Any]], str],
) -> None:
    """Exports what was found, if that is asked for, and says what there is; exits 3 if nothing keeps the budget."""
    if export_format is None or result["run"] is None:
        emit(result, as_json, lines(result))
        if not result["feasible"]:
            raise SystemExit(BUDGET_NOT_MET)
        return
    chosen = None if export_format == DEFAULT else export_format
    file = unas_hw.export(result["run"], format=chosen, rounds=rounds, progress=True)
    report = dict(file.content)
    emit({**file.found.content, "export": report}, as_json, report_lines(report))  # a repair has replaced the result
    exit_by(report)
