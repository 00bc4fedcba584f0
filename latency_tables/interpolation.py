"""Between rows: the latency of an operation over the widths of its input and its output, from a grid of measured ones.

Rows are measured at a few widths; between them the latency is bilinear, beyond them it goes on as it did. So it is
differentiable in widths that are no whole numbers. Runtimes compute in blocks of channels: a width of 17 may take twice
what 16 takes, so a grid, and the networks that are priced with it, keep to multiples of such a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from latency_tables.calibration import Calibration, Observed, fit
from latency_tables.table import LatencyTable
from profilers.timing import Floats, odd_even_ms

SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)
"""Of the full width: where rows are measured."""


def grid(most: int, multiple: int = 1) -> tuple[int, ...]:
    """Widths at which rows are measured, ascending: multiples of ``multiple``, and the full width at last."""
    near = {max(multiple, round(share * most / multiple) * multiple) for share in SHARES}
    return (*sorted(width for width in near if width < most), most)


@final
class Surface:
    """The latency of an operation by the widths of its input and its output.

    Args:
        inputs, outputs: Ascending widths.
        ms: ``(inputs, outputs)``, measured there. An axis of one width says that the latency does not depend on it.
    """

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int], ms: Floats) -> None:
        self.inputs, self.outputs = (torch.tensor(each, dtype=torch.float64) for each in (inputs, outputs))
        self.ms = torch.from_numpy(np.asarray(ms, np.float64)).reshape(len(inputs), len(outputs))
        self._least = float(self.ms.min()) / 2

    def __call__(self, n_in: Tensor | float, n_out: Tensor | float) -> Tensor:
        """Milliseconds, a scalar that is differentiable in both; never below half of the fastest measured row."""
        low, share = _place(self.inputs, n_in)
        rows = self.ms[low] if share is None else self.ms[low] + share * (self.ms[low + 1] - self.ms[low])
        low, share = _place(self.outputs, n_out)
        found = rows[low] if share is None else rows[low] + share * (rows[low + 1] - rows[low])
        return found.clamp_min(self._least)


def _place(widths: Tensor, width: Tensor | float) -> tuple[int, Tensor | None]:
    """The measured width below, and how far it is to the next one as a share; None on an axis of one width."""
    if len(widths) == 1:
        return 0, None
    at = torch.as_tensor(width, dtype=torch.float64)
    low = int(torch.searchsorted(widths, at.detach(), right=True).clamp(1, len(widths) - 1)) - 1
    return low, (at - widths[low]) / (widths[low + 1] - widths[low])


@dataclass(frozen=True)
class Part:
    """An operation of a network that was measured as a whole: its row, interpolated, and millions of elements in its
    input and of its learned numbers.
    """

    ms: float
    inputs: float
    weights: float


def calibrate_parts(table: LatencyTable, networks: Sequence[tuple[str, Sequence[Part]]]) -> Calibration:
    """The calibration of interpolated rows against whole networks, as for measured ones; single rows get no factors.

    Networks of the table, by key, each with its parts. ``errors`` are on networks that were held out: of interpolation
    and summation together.
    """
    parts = [part for _, each in networks for part in each]
    counts = np.zeros((len(networks), len(parts)))
    begin = 0
    for number, (_, each) in enumerate(networks):  # no two networks share a part, so factors could not help
        counts[number, begin : begin + len(each)] = 1.0
        begin += len(each)
    halves = [odd_even_ms(table.measurements[key].corrected_ms) for key, _ in networks]
    return fit(
        Observed(
            keys=tuple(str(number) for number in range(len(parts))),
            rows_ms=np.array([part.ms for part in parts]),
            inputs=np.array([part.inputs for part in parts]),
            weights=np.array([part.weights for part in parts]),
            deviations=np.zeros(len(parts)),
            counts=counts,
            measured_ms=np.array([table.measurements[key].median_ms for key, _ in networks]),
            odd_ms=np.array([odd for odd, _ in halves]),
            even_ms=np.array([even for _, even in halves]),
        )
    )
