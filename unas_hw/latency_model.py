"""LatencyModel: a search space priced by a table, in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

from latency_tables.coverage import not_covered, priced
from latency_tables.regression import complete
from latency_tables.rows import REGRESSED
from latency_tables.table import LatencyTable
from profilers.workload import Workload
from unas_hw.cost_model import AdditiveModel
from unas_hw.space import Architecture, SearchSpace


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
class LatencyModel(AdditiveModel):
    """Latency of every network of a space, and of random ones, in calibrated milliseconds.

    Args:
        space: What is priced.
        table: Rows that it lacks are predicted from the others (see ``latency_tables.regression``); raises
            ``MissingEntryError`` where that cannot be done.
        percentile: Of the latency of single calls, as in the budget.
    """

    def __init__(self, space: SearchSpace, table: LatencyTable, percentile: int = 50) -> None:
        self.table = table = _completed(table, space.workloads())
        tail = table.tail_ratio(percentile)
        calibration = table.calibration.rescaled(tail)
        left = set(not_covered(table, (workload.key for workload in space.workloads())))
        super().__init__(
            space,
            lambda key: 0.0 if key in left else tail * table.price_ms(key),
            name="latency",
            unit="ms",
            constant=calibration.intercept_ms,
            bend=calibration.bend,
            steepest=1 + calibration.slope,
        )

    def upper(self, confidence: float) -> float:
        """The factor above a prediction that a network does not exceed with this confidence; infinite if unknown.

        One for all networks: of the fastest and the slowest, whose rows leave more open.
        """
        extremes = [self.space.architecture(path) for path in (self.smallest, self.largest)]
        parts = [priced(self.table, [part.key for part in self.space.parts(each)]) for each in extremes]
        return self.table.calibration.upper(confidence, max(map(self.table.row_deviation, parts)))

    def latency_ms(self, path: Sequence[int]) -> float:
        """Latency of the choices, by index."""
        return self.value(path)

    @property
    def median_ms(self) -> float:
        """Half of all usable networks are faster; of all networks where there are too many to go through."""
        return self.median


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
