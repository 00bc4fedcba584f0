"""The report of a verification, as JSON and for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profilers.files import as_plain, write_atomic
from profilers.precision import PRECISIONS
from profilers.units import format_bytes, format_ms

REPORT = "report.json"


def write_reports(folder: Path, report: Mapping[str, Any]) -> None:
    """``report.json`` and ``report.md``."""
    write_atomic(folder / REPORT, json.dumps(as_plain(report), indent=2) + "\n")
    write_atomic(folder / "report.md", as_markdown(report))


def as_markdown(report: Mapping[str, Any]) -> str:
    """The same for people, in Markdown."""
    rows = [
        f"| {'pass' if check['passed'] else '**FAIL**'} | {check['name']} | {check['seen']:.4g} "
        f"| {check['allowed']:.4g} | {check['words'].replace('|', '/')} |"
        for check in report["checks"]
    ]
    lines = [
        f"# {Path(report['path']).name}: {verdict(report)}",
        "",
        *(f"- {name}: {value}" for name, value in summary(report).items()),
        "",
        "| | check | seen | allowed | |",
        "|---|---|---|---|---|",
        *rows,
        "",
        *(f"- not checked: {each}" for each in report["not_checked"]),
        *([""] if report["not_checked"] else []),
        "| file | SHA-256 |",
        "|---|---|",
        *(f"| {name} | {digest} |" for name, digest in report["manifest"]["files"].items()),
    ]
    return "\n".join(lines) + "\n"


def verdict(report: Mapping[str, Any]) -> str:
    """In two words."""
    return "passed" if report["passed"] else "BUDGET MISSED" if report["budget_missed"] else "FAILED"


def _worth(report: Mapping[str, Any]) -> dict[str, str]:
    """Accuracy, or the return of a policy."""
    if report["test_accuracy"] is not None:
        return {"accuracy": f"{report['test_accuracy']:.2%} on test images"}
    earned = report["test_return"]
    return {"return": "not trained yet: unas-hw train" if earned is None else f"{earned:.2f} when it was trained"}


def summary(report: Mapping[str, Any]) -> dict[str, str]:
    """What a person wants to know first, by name."""
    precision, bytes_ = PRECISIONS[report["precision"]][0], format_bytes(report["bytes"])
    from_table = report["latency_from"] == "table"
    lines = {
        "architecture": report["architecture"],
        "file": f"{report['path']} ({report['format']}, {precision}, batch {report['batches']}, {bytes_})",
        "predicted": format_ms(report["predicted_ms"]),
        "measured": "not measured" + (f" (published table of {report['device']})" if from_table else ""),
        "budget": format_ms(report["budget_ms"]),
        **_worth(report),
    }
    if report["measured_ms"] is not None:
        spread = f"p50 {format_ms(report['p50_ms'])}, p90 {format_ms(report['p90_ms'])}"
        lines["measured"] = f"{format_ms(report['measured_ms'])} ({spread}; {report['runtime']} on {report['device']})"
        if report["measured_ms"] != report["raw_ms"]:
            lines["measured"] += f", scaled by {report['anchor_scale']:.3f}: the anchors moved"
    if report["float32_ms"]:
        ratio = report["raw_ms"] / report["float32_ms"]
        word = "SLOWER" if ratio > 1 else "faster"
        factor = f"{max(ratio, 1 / ratio):.2f} times as {'slow' if ratio > 1 else 'fast'}"
        lines[f"{precision} is"] = f"{word} than fp32 here: {factor} ({format_ms(report['float32_ms'])})"
    if report["peak_memory_bytes"]:
        lines["memory"] = f"{format_bytes(report['peak_memory_bytes'])} at most while it runs"
    if report["layers"]:
        kinds = (
            f"{kind} {', '.join(f'{n} in {t}' for t, n in types.items())}" for kind, types in report["layers"].items()
        )
        lines["layers"] = "; ".join(kinds)
    return lines
