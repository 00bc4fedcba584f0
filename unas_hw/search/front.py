"""The networks that no other one beats in everything: how much they dominate, as a table and as a drawing."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

COLUMNS = ("accuracy", "latency_ms", "energy_mj", "power_w", "peak_power_w", "macs", "params")
WIDTH, HEIGHT, MARGIN = 560, 360, 56
TICKS = 5
Points = NDArray[np.float64]
"""``(N, M)``: M objectives of N networks, of which more is better; give costs with a minus."""


def front(points: Points) -> list[int]:
    """The numbers of the points that none dominates, in their order; of equal points the first.

    A point dominates another if it is nowhere worse and somewhere better.
    """
    found = list[int]()
    for number in np.lexsort((np.arange(len(points)), *(-points.T[::-1]))).tolist():
        # None that comes later dominates an earlier one, and equal ones come later.
        if not (points[found] >= points[number]).all(1).any():
            found.append(number)
    return sorted(found)


def hypervolume(points: Points, reference: tuple[float, float]) -> float:
    """The area that two objectives dominate above a reference point, exactly.

    Args:
        points: ``(N, 2)``; those that are not above the reference in both add nothing.
        reference: The worst that counts, such as the accuracy of guessing and the highest cost of the space.
    """
    above = points[(points > reference).all(1)]
    ordered = above[np.argsort(-above[:, 0], kind="stable")]
    heights = np.maximum.accumulate([reference[1], *ordered[:, 1]])
    return float(((ordered[:, 0] - reference[0]) * np.diff(heights)).sum())


def csv_of(networks: Mapping[str, Mapping[str, float | None]]) -> str:
    """A table of what is known of networks, by their architectures; what nobody measured is left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("architecture", *COLUMNS))
    writer.writerows((name, *map(values.get, COLUMNS)) for name, values in networks.items())
    return text.getvalue()


def svg_of(every: Sequence[tuple[float, float]], best: Sequence[tuple[float, float]], x_title: str) -> str:
    """A drawing of ``(cost, accuracy)``: all as dots, and the front as the steps below which everything is dominated.

    Args:
        every: Of all networks; one at least.
        best: Of the front, the least costly first.
        x_title: What the costs are, and their unit.
    """
    (x_low, x_high), (y_low, y_high) = (_wide(min(values), max(values)) for values in zip(*every, strict=True))

    def x(cost: float) -> float:
        return round(MARGIN + (cost - x_low) / (x_high - x_low) * (WIDTH - 1.5 * MARGIN), 1)

    def y(accuracy: float) -> float:
        return round(HEIGHT - MARGIN - (accuracy - y_low) / (y_high - y_low) * (HEIGHT - 1.5 * MARGIN), 1)

    bottom, right = HEIGHT - MARGIN, WIDTH - MARGIN / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        ' font-size="11" fill="#333">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<path d="M{MARGIN} {MARGIN / 2}V{bottom}H{right}" fill="none" stroke="#333"/>',
    ]
    for tick in range(TICKS):
        cost, accuracy = (low + tick / (TICKS - 1) * (high - low) for low, high in ((x_low, x_high), (y_low, y_high)))
        parts += [
            f'<text x="{x(cost)}" y="{bottom + 16}" text-anchor="middle">{cost:.3g}</text>',
            f'<text x="{MARGIN - 6}" y="{y(accuracy) + 4}" text-anchor="end">{accuracy:.1%}</text>',
        ]
    parts += [
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 14}" text-anchor="middle">{escape(x_title)}</text>',
        f'<text x="14" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 14 {HEIGHT / 2})">accuracy</text>',
    ]
    parts += [f'<circle cx="{x(cost)}" cy="{y(accuracy)}" r="2.5" fill="#9ab"/>' for cost, accuracy in every]
    steps = "".join(f"H{x(cost)}V{y(accuracy)}" for cost, accuracy in best[1:])
    start, end = best[0], f"H{right}"
    parts.append(f'<path d="M{x(start[0])} {y(start[1])}{steps}{end}" fill="none" stroke="#c33" stroke-width="1.5"/>')
    parts += [f'<circle cx="{x(cost)}" cy="{y(accuracy)}" r="3" fill="#c33"/>' for cost, accuracy in best]
    return "\n".join([*parts, "</svg>\n"])


def _wide(low: float, high: float) -> tuple[float, float]:
    """A range that is not empty."""
    return (low, high) if high > low else (low - 0.5, high + 0.5)
