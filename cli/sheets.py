"""Rows of latency tables, and what two tables differ by, as lines for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from profilers.text import one_line

if TYPE_CHECKING:
    from latency_tables.diff import Change, Diff, Ratio


def row_lines(rows: Sequence[Mapping[Any, Any]]) -> list[str]:
    """The operations of a table (rows of its ``frame``): value, its 95% interval, spread of the samples, origin."""
    shown = [{**row, "key": one_line(row["key"])} for row in rows if row["role"] == "op"]
    width = max((len(row["key"]) for row in shown), default=0)
    head = f"{'operation':<{width}}  {'latency':>12}  {'+-95%':>6}  {'IQR/med':>7}  {'samples':>7}  origin     flags"
    return [head, *(_row_line(row, width) for row in shown)] if shown else ["no operation has a value"]


def _row_line(row: Mapping[Any, Any], width: int) -> str:
    half = 1.96 * row["sd_ms"] / row["latency_ms"]
    return (
        f"{row['key']:<{width}}  {row['latency_ms']:9.4f} ms  {_percent(half):>6}  "
        f"{_percent(row.get('spread', math.nan)):>7}  {row['samples'] or '-':>7}  {row['origin']:<9}  {row['flags']}"
    ).rstrip()


def _percent(share: float) -> str:
    return f"{share:.1%}" if math.isfinite(share) else "-"


def diff_lines(found: Diff, left: str, right: str, *, every: bool) -> list[str]:
    """The common factor, the rows that moved (or every row), and how many there are of each kind."""
    if found.common is None:
        return [f"{left} and {right} have no row in common", *_only(found, left, right, every=every)]
    lines = [f"{right} is {_interval(found.common, ' to ')} times as slow as {left}"]
    if found.scatter > 0:
        lines.append(f"rows scatter by {found.scatter:.2%} between the two beyond what their samples tell")
    shown = [change for change in found.changes if every or change.moved]
    if shown:
        width = max(len(change.key) for change in shown)
        head = f"{'row':<{width}}  {'left':>12}  {'right':>12}  {'ratio':<22}  {'of that beyond the factor':<25}"
        lines += ["", head, *(_change_line(change, width) for change in sorted(shown, key=_size, reverse=True)), ""]
    lines.append(
        f"{found.count(True)} of {len(found.changes)} rows moved, {found.count(False)} did not beyond noise"
        " (95% for all rows at once)"
    )
    if found.count(None):
        lines.append(f"{found.count(None)} cannot be told: too few samples, or no deviation is known")
    return [*lines, *_only(found, left, right, every=every)]


def _only(found: Diff, left: str, right: str, *, every: bool) -> list[str]:
    lines = []
    for name, keys in ((left, found.only_left), (right, found.only_right)):
        if keys:
            lines += [f"{len(keys)} rows only in {name}", *(f"  {key}" for key in keys if every)]
    return lines


def _change_line(change: Change, width: int) -> str:
    verdict = {True: "moved", False: "", None: "cannot be told"}[change.moved]
    return (
        f"{change.key:<{width}}  {change.left_ms:9.4f} ms  {change.right_ms:9.4f} ms  "
        f"{_interval(change.ratio, '-'):<22}  {_interval(change.relative, '-'):<25}  {verdict}"
    ).rstrip()


def _interval(ratio: Ratio, to: str) -> str:
    between = f"{ratio.low:.3f}{to}{ratio.high:.3f}" if ratio.is_known else "interval unknown"
    return f"{ratio.value:.3f} ({between})"


def _size(change: Change) -> float:
    return abs(math.log(change.relative.value))
