"""LatencyModel: a search space priced by a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
import torch
from torch import Tensor

from latency_tables.errors import MissingEntryError
from latency_tables.expectation import MAX_ATOMS, GridPlan, LatencyDistribution, latency_distribution
from latency_tables.table import OP, LatencyTable
from unas_hw.space import Architecture, SearchSpace

BINS = 1024
"""Of the dynamic programme for the most probable networks; found networks are priced exactly afterwards."""


@final
@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The latency of a network that was not measured.

    Attributes:
        predicted_ms: From the table.
        low_ms, high_ms: A new network lies between them with 90% confidence.
        coverage: Share of the network's operations that the table has, 0 to 1.
    """

    predicted_ms: float
    low_ms: float
    high_ms: float
    coverage: float


@final
class LatencyModel:
    """Latency of every network of a space, and of random ones, in calibrated milliseconds.

    Args:
        space: What is priced.
        table: Has a row for every operation; raises ``MissingEntryError`` otherwise.
        percentile: Of the latency of single calls, as in the budget.
    """

    def __init__(self, space: SearchSpace, table: LatencyTable, percentile: int = 50) -> None:
        self.space = space
        self.table = table
        calibration = table.calibration
        self._tail = table.tail_ratio(percentile)
        constant = calibration.latency_ms(0.0, 0)
        times = [np.zeros(len(decision.choices)) for decision in space.decisions]
        for term in space.terms():
            priced = [
                term.count
                * (calibration.latency_ms(sum(map(table.latency_ms, keys)), len(keys)) - calibration.intercept_ms)
                for keys in term.keys
            ]
            if term.decision is None:
                constant += priced[0]
            else:
                times[term.decision] += priced
        self.constant_ms = float(constant * self._tail)
        self.times_ms: list[Tensor] = [torch.tensor(time * self._tail, dtype=torch.float64) for time in times]

    def latency_ms(self, path: Sequence[int]) -> float:
        """Latency of the choices, by index."""
        return self.constant_ms + sum(float(times[index]) for times, index in zip(self.times_ms, path, strict=True))

    @cached_property
    def smallest(self) -> tuple[int, ...]:
        """The fastest network."""
        return tuple(int(times.argmin()) for times in self.times_ms)

    @cached_property
    def largest(self) -> tuple[int, ...]:
        """The slowest network."""
        return tuple(int(times.argmax()) for times in self.times_ms)

    @property
    def median_ms(self) -> float:
        """Half of all networks are faster."""
        uniform = [torch.full_like(times, 1 / len(times)) for times in self.times_ms]
        return self.distribution(uniform).quantile(0.5)

    @cached_property
    def _plan(self) -> GridPlan:
        return GridPlan(self.times_ms, self.constant_ms)

    def distribution(self, probs: Sequence[Tensor]) -> LatencyDistribution:
        """Exact distribution of the latency when decisions are drawn with these probabilities."""
        if self.space.size <= MAX_ATOMS:
            return latency_distribution(probs, self.times_ms, self.constant_ms)
        return self._plan.distribution(probs)

    def most_probable(
        self, log_probs: Sequence[Tensor], low_ms: float, high_ms: float, count: int
    ) -> list[tuple[int, ...]]:
        """The most probable networks with a latency in ``[low_ms, high_ms]``, best first.

        Dynamic programming over latency in bins, keeping the best few prefixes per bin; latencies are checked
        exactly at the end.
        """
        floor_ms = self.latency_ms(self.smallest)
        step = max((self.latency_ms(self.largest) - floor_ms) / BINS, 1e-12)
        keep = 2 * count
        scores = np.full((BINS + 1, 1), -np.inf)
        scores[0] = 0.0
        paths = np.zeros((BINS + 1, 1, 0), dtype=np.int16)
        for times, log_prob in zip(self.times_ms, log_probs, strict=True):
            shifts = np.rint((times - times.min()).numpy() / step).astype(int)
            pieces, trails = [], []
            for choice, shift in enumerate(shifts):
                moved = np.full_like(scores, -np.inf)
                moved[shift:] = scores[: len(scores) - shift] + float(log_prob[choice])
                trail = np.zeros_like(paths)
                trail[shift:] = paths[: len(paths) - shift]
                pieces.append(moved)
                trails.append(np.concatenate([trail, np.full((*scores.shape, 1), choice, np.int16)], axis=2))
            scores, paths = np.concatenate(pieces, axis=1), np.concatenate(trails, axis=1)
            best = np.argsort(-scores, axis=1)[:, :keep]
            scores = np.take_along_axis(scores, best, 1)
            paths = np.take_along_axis(paths, best[:, :, None], 1)
        ranked = np.argsort(-scores, axis=None, kind="stable")
        found: list[tuple[int, ...]] = []
        for place in ranked[np.isfinite(scores.flat[ranked])]:
            path = tuple(paths.reshape(-1, paths.shape[2])[place].tolist())
            if low_ms <= self.latency_ms(path) <= high_ms:
                found.append(path)
                if len(found) == count:
                    break
        return found


def predict(space: SearchSpace, table: LatencyTable, architecture: Architecture) -> Prediction:
    """Median latency of one network, with its interval; the table may lack rows of other networks.

    Raises:
        MissingEntryError: If it lacks a row that this network needs; never counted as zero.
    """
    parts = space.parts(architecture)
    rows = set(table.keys(OP))
    missing = [part.key for part in parts if part.key not in rows]
    if missing:
        raise MissingEntryError(
            f"{table.path.name} covers {len(parts) - len(missing)} of {len(parts)} operations, not {missing[0]}",
            mend=f"unas-hw profile --space {space.name} --device {table.header['device']}",
        )
    total = sum(table.latency_ms(part.key) for part in parts)
    predicted = float(table.calibration.latency_ms(total, len(parts)))
    low, high = table.calibration.interval()
    return Prediction(predicted_ms=predicted, low_ms=low * predicted, high_ms=high * predicted, coverage=1.0)
