"""LatencyModel: a search space priced by a table."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latency_tables.coverage import not_covered, priced
from latency_tables.expectation import (
    MAX_ATOMS,
    MAX_JOINT,
    GridPlan,
    LatencyDistribution,
    joint_distribution,
    latency_distribution,
)
from latency_tables.regression import complete
from latency_tables.rows import REGRESSED
from latency_tables.table import LatencyTable
from profilers.workload import Workload
from unas_hw.space import Architecture, Mask, Paths, SearchSpace

BINS = 1024
"""Of the dynamic programme for the most probable networks; found networks are priced exactly afterwards."""
CHUNK = 100_000
"""Networks that are enumerated at a time."""


@final
@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The latency of a network that was not measured.

    Attributes:
        predicted_ms: From the table.
        low_ms, high_ms: A new network lies between them with 90% confidence.
        coverage: Share of the network's operations that the table has, 0 to 1.
        regressed: Keys of operations that were predicted from the table's other rows; the interval is wider for them.
        not_covered: Keys that nothing prices: of kinds that the table's publisher prices nowhere.
    """

    predicted_ms: float
    low_ms: float
    high_ms: float
    coverage: float
    regressed: tuple[str, ...] = ()
    not_covered: tuple[str, ...] = ()


@final
class LatencyModel:
    """Latency of every network of a space, and of random ones, in calibrated milliseconds.

    Only live operations count. Where a space has dead ones, up to ``MAX_JOINT`` networks are enumerated once, so all
    that is said here is exact. Of more networks ``distribution`` and ``median_ms`` are those of an upper bound, all
    operations counted; ``smallest`` and ``largest`` are networks that no change of one choice improves; and
    ``most_probable`` may miss some. The latency of a single network is exact always.

    Args:
        space: What is priced.
        table: Rows that it lacks are predicted from the others (see ``latency_tables.regression``); raises
            ``MissingEntryError`` where that cannot be done.
        percentile: Of the latency of single calls, as in the budget.
    """

    def __init__(self, space: SearchSpace, table: LatencyTable, percentile: int = 50) -> None:
        self.space = space
        self.table = table = _completed(table, space.workloads())
        self._tail = table.tail_ratio(percentile)
        constant = table.calibration.intercept_ms
        times = [np.zeros(len(decision.choices)) for decision in space.decisions]
        for term in space.terms():
            choices_ms = [term.count * sum(map(table.price_ms, priced(table, keys))) for keys in term.keys]
            if term.decision is None:
                constant += choices_ms[0]
            else:
                times[term.decision] += choices_ms
        # Latencies are sums of these, bent where the calibration has a knee.
        self._bend = table.calibration.rescaled(self._tail).bend
        self.constant_ms = float(constant * self._tail)
        self.times_ms: list[Tensor] = [torch.tensor(time * self._tail, dtype=torch.float64) for time in times]

    @cached_property
    def _joint(self) -> bool:
        """Whether networks are enumerated because of dead operations."""
        return self.space.has_dead_operations and self.space.size <= MAX_JOINT

    def _latencies_ms(self, paths_NG: Paths) -> NDArray[np.float64]:
        live_NG = self.space.live(paths_NG)
        total = np.full(len(paths_NG), self.constant_ms)
        for g, times in enumerate(self.times_ms):
            total += np.where(live_NG[:, g], times.numpy()[paths_NG[:, g]], 0.0)
        return np.asarray(self._bend(total), np.float64)

    def _paths(self, numbers: NDArray[np.int_]) -> Paths:
        """The networks of these numbers; the last decision's choice changes fastest."""
        return np.stack(np.unravel_index(numbers, [len(times) for times in self.times_ms]), 1)

    @cached_property
    def _everything(self) -> tuple[Tensor, Mask]:
        """``(N,)`` latency of every network, and whether it is usable."""
        latencies_ms, usable = np.empty(self.space.size), np.empty(self.space.size, bool)
        for begin in range(0, self.space.size, CHUNK):
            numbers = np.arange(begin, min(begin + CHUNK, self.space.size))
            paths_NG = self._paths(numbers)
            latencies_ms[numbers], usable[numbers] = self._latencies_ms(paths_NG), self.space.usable(paths_NG)
        return torch.from_numpy(latencies_ms), usable

    def _first(self, sign: int) -> tuple[int, ...]:
        """The usable network whose latency times ``sign`` is lowest."""
        if self._joint:
            latencies_ms, usable = self._everything
            number = np.where(usable, sign * latencies_ms.numpy(), np.inf).argmin()
            return tuple(self._paths(np.array([number]))[0].tolist())
        if not self.space.has_dead_operations:
            return tuple(int((sign * times).argmin()) for times in self.times_ms)
        start = self.space.indices(self.space.draw(random.Random(0)))
        return self.space.descend(start, lambda paths_NG: sign * self._latencies_ms(paths_NG))

    def upper(self, confidence: float) -> float:
        """The factor above a prediction that a network does not exceed with this confidence; infinite if unknown.

        One for all networks: of the fastest and the slowest, whose rows leave more open.
        """
        extremes = [self.space.architecture(path) for path in (self.smallest, self.largest)]
        parts = [priced(self.table, [part.key for part in self.space.parts(each)]) for each in extremes]
        return self.table.calibration.upper(confidence, max(map(self.table.row_deviation, parts)))

    def latency_ms(self, path: Sequence[int]) -> float:
        """Latency of the choices, by index."""
        if self.space.has_dead_operations:
            return float(self._latencies_ms(np.array([path]))[0])
        parts_ms = (float(times[index]) for times, index in zip(self.times_ms, path, strict=True))
        return float(self._bend(self.constant_ms + sum(parts_ms)))

    @cached_property
    def smallest(self) -> tuple[int, ...]:
        """The fastest network that is usable."""
        return self._first(1)

    @cached_property
    def largest(self) -> tuple[int, ...]:
        """The slowest network that is usable."""
        return self._first(-1)

    @property
    def median_ms(self) -> float:
        """Half of all usable networks are faster."""
        if self._joint:
            latencies_ms, usable = self._everything
            return float(np.quantile(latencies_ms.numpy()[usable], 0.5, method="inverted_cdf"))
        uniform = [torch.full_like(times, 1 / len(times)) for times in self.times_ms]
        return self.distribution(uniform).quantile(0.5)

    @cached_property
    def _plan(self) -> GridPlan:
        if self.space.has_dead_operations:  # calibration can make an operation's share negative
            return GridPlan([times.clamp_min(0) for times in self.times_ms], self.constant_ms)
        return GridPlan(self.times_ms, self.constant_ms)

    def distribution(self, probs: Sequence[Tensor]) -> LatencyDistribution:
        """Exact distribution of the latency when decisions are drawn with these probabilities.

        Of all networks, usable or not. More than ``MAX_JOINT`` networks with dead operations have the distribution of
        an upper bound, which says so; every operation counts there, or nothing where its calibrated time is negative.
        """
        if self._joint:
            return joint_distribution(probs, self._everything[0])
        if self.space.size <= MAX_ATOMS and not self.space.has_dead_operations:
            found = latency_distribution(probs, self.times_ms, self.constant_ms)
        else:
            found = replace(self._plan.distribution(probs), upper_bound=self.space.has_dead_operations)
        steepest = 1 + self.table.calibration.slope
        return replace(
            found,
            values_ms=self._bend(found.values_ms),
            shift_ms=found.shift_ms * steepest,
            deviation_ms=found.deviation_ms * steepest,
        )

    def most_probable(
        self, log_probs: Sequence[Tensor], low_ms: float, high_ms: float, count: int
    ) -> list[tuple[int, ...]]:
        """The most probable usable networks with a latency in ``[low_ms, high_ms]``, best first.

        Of paths that differ in dead operations only, which are the same network, the most probable stands for all.
        """
        ranked = self._ranked(log_probs, low_ms, high_ms) if self._joint else self._ranked_in_bins(log_probs, 2 * count)
        found: dict[tuple[int, ...], tuple[int, ...]] = {}
        for path in ranked:
            if low_ms <= self.latency_ms(path) <= high_ms and self.space.is_usable(path):
                found.setdefault(self.space.running(path), path)
                if len(found) == count:
                    break
        return list(found.values())

    def _ranked(self, log_probs: Sequence[Tensor], low_ms: float, high_ms: float) -> Iterable[tuple[int, ...]]:
        """All usable networks within the bounds, the most probable first."""
        latencies_ms, usable = self._everything[0].numpy(), self._everything[1]
        scores = np.zeros(1)
        for log_prob in log_probs:
            scores = np.add.outer(scores, log_prob.numpy()).ravel()
        inside = np.flatnonzero(usable & np.isfinite(scores) & (low_ms <= latencies_ms) & (latencies_ms <= high_ms))
        order = inside[np.argsort(-scores[inside], kind="stable")]
        return (tuple(self._paths(order[place : place + 1])[0].tolist()) for place in range(len(order)))

    def _ranked_in_bins(self, log_probs: Sequence[Tensor], keep: int) -> Iterable[tuple[int, ...]]:
        """The ``keep`` most probable networks of each bin of latency, the most probable first.

        Dynamic programming over latency in bins, keeping the best few prefixes per bin. What is found has only
        roughly the latency of its bin.
        """
        step = max(sum(float(times.max() - times.min()) for times in self.times_ms) / BINS, 1e-12)
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
        every = paths.reshape(-1, paths.shape[2])
        return (tuple(every[place].tolist()) for place in ranked[np.isfinite(scores.flat[ranked])])


def predict(space: SearchSpace, table: LatencyTable, architecture: Architecture) -> Prediction:
    """Median latency of one network, with its interval; the table may lack rows of other networks.

    Raises:
        MissingEntryError: If it lacks a row that this network needs; never counted as zero.
    """
    parts = space.parts(architecture)
    table = _completed(table, parts)
    keys, left = priced(table, [part.key for part in parts]), not_covered(table, [part.key for part in parts])
    predicted = table.predict_ms(keys)
    low, high = table.calibration.interval(row_deviation=table.row_deviation(keys))
    regressed = tuple(key for key in keys if table.origin(key) == REGRESSED)
    return Prediction(
        predicted_ms=predicted,
        low_ms=low * predicted,
        high_ms=high * predicted,
        coverage=(len(keys) - len(regressed)) / len(parts),
        regressed=regressed,
        not_covered=left,
    )


def _completed(table: LatencyTable, workloads: Iterable[Workload]) -> LatencyTable:
    """The table with a value for each of these operations that it has to price."""
    workloads = list(workloads)
    keys = set(priced(table, [workload.key for workload in workloads]))
    return complete(table, [workload for workload in workloads if workload.key in keys])
