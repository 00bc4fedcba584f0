"""The figures of ``benchmarks.methods.radars``: means with intervals, and a picture."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

ARMS = ("radars", "random", "rl", "dnas")
T_95 = {1: 12.7, 2: 4.30, 3: 3.18, 4: 2.78}
"""Student's, by degrees of freedom."""


def picture(facts: dict[str, Any], rows: list[dict[str, Any]], target: Path) -> None:
    """Memory over the prunings of each seed beside the accuracies of the arms."""
    runs = [row for row in rows if row["arm"] == "radars"]
    if not runs:
        return
    mb, top = 1e-6, 1.05e-6 * max(run["predicted_whole_bytes"] for run in runs)
    low = 0.9e-6 * facts["libraries_bytes"]

    def y_of(value: float, least: float, most: float) -> float:
        return 260 - 220 * (value - least) / (most - least)

    lines = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 300" font-family="sans-serif" font-size="12">']
    lines.append('<rect width="760" height="300" fill="white"/>')
    lines.append('<text x="20" y="20">Predicted memory of a step (MB) over the prunings</text>')
    for name, value, colour in (
        ("bound", facts["bound_bytes"], "#c00"),
        ("plain DNAS, measured", facts["plain_bytes"], "#555"),
        ("process alone", facts["libraries_bytes"], "#999"),
    ):
        y = y_of(value * mb, low, top)
        lines.append(f'<line x1="60" x2="370" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-dasharray="4 3"/>')
        lines.append(f'<text x="370" y="{y - 4:.1f}" fill="{colour}" text-anchor="end">{name}: {value * mb:.0f}</text>')
    for run in runs:
        values = [run["predicted_whole_bytes"], *(each["bytes"] for each in run["prunings"]), run["step_bytes"]]
        step = 300 / (len(values) - 1)
        points = [(65 + step * i, y_of(value * mb, low, top)) for i, value in enumerate(values)]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        lines.append(f'<polyline points="{drawn}" fill="none" stroke="#06c"/>')
        lines.append(f'<circle cx="{points[-1][0]:.1f}" cy="{points[-1][1]:.1f}" r="4" fill="#06c"/>')
    lines.append('<text x="60" y="285">whole space ... each pruning ... measured (dot)</text>')
    accuracies = [_accuracy(row) for row in rows]
    least, most = min(accuracies) - 0.01, max(accuracies) + 0.01
    lines.append('<text x="430" y="20">Test accuracy after training from scratch</text>')
    for place, arm in enumerate(ARMS):
        x = 480 + 70 * place
        values = [_accuracy(row) for row in rows if row["arm"] == arm]
        lines += [f'<circle cx="{x}" cy="{y_of(v, least, most):.1f}" r="4" fill="#06c"/>' for v in values]
        if values:
            y = y_of(fmean(values), least, most)
            lines.append(f'<line x1="{x - 16}" x2="{x + 16}" y1="{y:.1f}" y2="{y:.1f}" stroke="#000"/>')
            lines.append(f'<text x="{x + 18}" y="{y + 4:.1f}" font-size="10">{fmean(values):.1%}</text>')
        lines.append(f'<text x="{x}" y="285" text-anchor="middle">{arm}</text>')
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join([*lines, "</svg>", ""]), encoding="utf-8")


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means by arm with their 95% intervals over searches, and RADARS less the others, seed by seed."""
    arms = {arm: [row for row in rows if row["arm"] == arm] for arm in ARMS}
    result: dict[str, Any] = {}
    for arm, own in arms.items():
        if own:
            values = [_accuracy(row) for row in own]
            result[arm] = {"mean": fmean(values), "interval": interval(values), "values": values}
            result[arm] |= {"peak_bytes": max(row["peak_bytes"] for row in own)}
            result[arm] |= {name: fmean(row[name] for row in own) for name in ("search_s", "macs", "latency_share")}
    ours = {row["seed"]: _accuracy(row) for row in arms["radars"]}
    for arm in ARMS[1:]:
        apart = [ours[row["seed"]] - _accuracy(row) for row in arms[arm] if row["seed"] in ours]
        if apart:
            result[f"radars_above_{arm}"] = {"mean": fmean(apart), "interval": interval(apart)}
    if arms["radars"]:
        result["bound_kept"] = all(row["keeps_bound"] for row in arms["radars"])
    return result


def _accuracy(row: dict[str, Any]) -> float:
    return fmean(row["accuracies"])


def interval(values: list[float]) -> float | None:
    """Half of the 95% interval of the mean; None of a single value."""
    if len(values) < 2:
        return None
    return T_95.get(len(values) - 1, 2.0) * stdev(values) / math.sqrt(len(values))
