"""``unas-hw export``."""

from __future__ import annotations

from typing import Any

import click

from ..terminal import BUDGET_NOT_MET, emit, follow, json_option, rounds_option, run_option, sheet


@click.command()
@run_option
@click.option(
    "--format",
    "format_name",
    metavar="NAME",
    help="onnx, torch, ncnn or litert; by default what the table's runtime runs.",
)
@rounds_option
@json_option
def command(run: str | None, format_name: str | None, rounds: int | None, as_json: bool) -> None:
    """Write a run's network as a file, compare it with the network, measure it against the budget."""
    from profilers.timing import timing_rule
    from unas_hw.jobs.export import export

    finish(follow(export(run, format_name, timing_rule(rounds))), as_json)


def finish(report: dict[str, Any], as_json: bool) -> None:
    """Prints a report of export or verify; exits 1 if a check failed, 3 if only the budget was missed."""
    from profilers.units import format_ms

    from .search import measured

    checks = "\n".join(
        f"{'pass' if each['passed'] else 'FAIL'}  {each['name']}: {each['seen']:.4g} (allowed {each['allowed']:.4g})"
        for each in report["checks"]
    )
    lines = {
        "architecture": report["architecture"],
        "predicted": format_ms(report["predicted_ms"]),
        "measured": measured(report),
        "budget": format_ms(report["budget_ms"]),
        "accuracy": f"{report['test_accuracy']:.2%} on test images",
        "run": report["run"],
        "file": report["path"],
        **({} if report["input_shape"] == report["priced_input_shape"] else {"for images of": shapes(report)}),
        "verdict": "passed" if report["passed"] else "FAILED",
    }
    emit(report, as_json, f"{checks}\n\n{sheet(lines)}")
    if not report["passed"]:
        raise SystemExit(BUDGET_NOT_MET if report["budget_missed"] else 1)


def shapes(report: dict[str, Any]) -> str:
    """Which images the file takes, and that the latency is for others."""
    taken, priced = ("x".join(map(str, report[name])) for name in ("input_shape", "priced_input_shape"))
    return f"{taken}; the latency is that of {priced}"
