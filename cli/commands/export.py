"""``unas-hw export``."""

from __future__ import annotations

from typing import Any

import click

import unas_hw

from ..options import WithExample
from ..terminal import BUDGET_NOT_MET, emit, json_option, precision_option, rounds_option, run_option, sheet


@click.command(cls=WithExample, example="unas-hw export --format tensorrt --precision fp16")
@run_option
@click.option(
    "--format",
    "format_name",
    metavar="NAME",
    help="onnx, tensorrt, openvino, litert, ncnn, torch (a plain PyTorch file) or torch-export; "
    "by default what the table's runtime runs.",
)
@precision_option
@click.option("--batch", metavar="N", help="Images at a time that the file takes: 1, dynamic or dynamic:1-64.")
@click.option("--opset", type=click.IntRange(11, 25), metavar="N", help="Of ONNX.  [default: 20; of bf16: 22]")
@click.option("--preprocess", is_flag=True, help="The file takes pixels from 0 to 255 and normalises them itself.")
@click.option(
    "--capability",
    "capabilities",
    multiple=True,
    metavar="SM",
    help="GPU that TensorRT-RTX builds for, such as SM89; may be given several times.",
)
@click.option(
    "--repair/--no-repair",
    default=None,
    help="Where the file misses the budget, ship a neighbour that keeps it.  "
    "[default: in the table's runtime and precision, if the run was not trained]",
)
@click.option("--device", metavar="DEVICE", help="Where the file is verified and measured; the table's by default.")
@rounds_option
@json_option
def command(run: str | None, format_name: str | None, rounds: int | None, as_json: bool, **told: Any) -> None:
    """Write a run's network as a file, compare it with the network, measure it against the budget.

    Where the file misses the budget, the table's scale is corrected by what was measured, and the nearest networks that
    should keep the budget are exported and measured until one does. Exit code 3 if none does.
    """
    file = unas_hw.export(run, format=format_name, rounds=rounds, progress=True, **told)
    finish(dict(file.content), as_json)


def finish(report: dict[str, Any], as_json: bool) -> None:
    """Prints a report of export or verify; exits 1 if a check failed, 3 if only the budget was missed."""
    emit(report, as_json, report_lines(report))
    exit_by(report)


def exit_by(report: dict[str, Any]) -> None:
    """Exits 1 if a check failed, 3 if only the budget was missed."""
    if not report["passed"]:
        raise SystemExit(BUDGET_NOT_MET if report["budget_missed"] else 1)


def report_lines(report: dict[str, Any]) -> str:
    """Every check, then what a person wants to know."""
    from unas_hw.verify.report import summary, verdict

    words = [
        f"{'pass' if each['passed'] else 'FAIL'}  {each['name']}: {each['seen']:.4g} (allowed {each['allowed']:.4g})"
        + (f": {each['words']}" if each["words"] else "")
        for each in report["checks"]
    ]
    words += [f"not checked  {each}" for each in report["not_checked"]]
    lines: dict[str, object] = dict(summary(report))
    if report["input_shape"] != report["priced_input_shape"]:
        lines["for images of"] = shapes(report)
    lines |= _repair_lines(report["repair"])
    lines |= {"run": report["run"], "verdict": verdict(report)}
    mend = ""
    if report["budget_missed"] and report["repair"] is None:
        again = f"--run {report['run']} --format {report['format']} --precision {report['precision']} --repair"
        mend = f"\n  mend: unas-hw export {again}"
    return "\n".join(words) + f"\n\n{sheet(lines)}{mend}"


def _repair_lines(repair: dict[str, Any] | None) -> dict[str, object]:
    if repair is None:
        return {}
    rounds = len(repair["rounds"])
    found = repair["reason"] or f"another network in {rounds} round(s) instead of {repair['from']}"
    return {"repair": f"{found}; the table's scale is x{repair['scale']:.3f}"}


def shapes(report: dict[str, Any]) -> str:
    """Which images the file takes, and that the latency is for others."""
    taken, priced = ("x".join(map(str, report[name])) for name in ("input_shape", "priced_input_shape"))
    return f"{taken}; the latency is that of {priced}"
