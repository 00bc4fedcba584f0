"""What a profile would measure, how long that takes, and what is worth measuring when time is short."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latency_tables.collect import Planned, counts
from latency_tables.rows import OP
from latency_tables.table import LatencyTable
from profilers.profiler import Profiler
from profilers.timing import TimingRule

PROBES = 3
"""Operations that are measured to know how long the others take: the lightest, the heaviest and one between."""
PROBE_ROUNDS = 2


@dataclass(frozen=True, kw_only=True)
class PlannedRow:
    """One line of a plan: an ``op``, ``anchor`` or ``network``, how many samples the table has of it, and the seconds
    that the missing ones take with the fewest rounds of the rule; 0 where none is missing.
    """

    key: str
    role: str
    samples: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a profile would do: everything the table is to have, the most useful first, the seconds to make one row
    ready, and in all, with the fewest and with the most rounds of the rule.
    """

    rows: tuple[PlannedRow, ...]
    convert_seconds: float
    seconds: float
    most_seconds: float

    @property
    def due(self) -> tuple[PlannedRow, ...]:
        """What has to be measured."""
        return tuple(row for row in self.rows if row.seconds > 0)


def estimate(
    path: Path, plan: Sequence[Planned], profiler: Profiler, rule: TimingRule, useful: Mapping[str, float] | None = None
) -> Estimate:
    """How long the plan takes, by measuring three of its operations for a moment.

    The table at ``path`` need not be there yet; ``useful`` says how much each key adds to what it is worth, by default
    in the order of the plan.
    """
    have = counts(LatencyTable.load(path)) if path.is_file() and path.stat().st_size else {}
    convert_s, sample_s = _probe(plan, profiler, rule)
    ordered = sorted(plan, key=lambda each: -(useful or {}).get(each.workload.key, 0.0))
    rows, most = [], 0.0
    for planned in ordered:
        key, samples = planned.workload.key, have.get(planned.workload.key, 0)
        each_s = sample_s(planned.workload.cost.macs)
        missing = rule.min_rounds - samples
        seconds = convert_s + missing * each_s if missing > 0 else 0.0
        rows.append(PlannedRow(key=key, role=planned.role, samples=samples, seconds=seconds))
        most += convert_s + (rule.max_rounds - samples) * each_s if missing > 0 else 0.0
    return Estimate(
        rows=tuple(rows), convert_seconds=convert_s, seconds=sum(row.seconds for row in rows), most_seconds=most
    )


def _probe(plan: Sequence[Planned], profiler: Profiler, rule: TimingRule) -> tuple[float, Callable[[float], float]]:
    """Seconds to convert one operation, and seconds of a sample as a line in its MACs; by the device's clock."""
    ops = sorted((each.workload for each in plan if each.role == OP), key=lambda workload: workload.cost.macs)
    chosen = list({ops[round(place)].key: ops[round(place)] for place in np.linspace(0, len(ops) - 1, PROBES)}.values())
    begin = time.monotonic()
    keys = list(profiler.load(chosen, rule))
    convert_s = (time.monotonic() - begin) / len(keys)
    taken = []
    for key in keys:
        before = profiler.clock_s()
        for _ in range(PROBE_ROUNDS):
            profiler.time_block(key)
        taken.append((profiler.clock_s() - before) / PROBE_ROUNDS)
    macs = [float(workload.cost.macs) for workload in chosen]
    slope = max(0.0, (taken[-1] - taken[0]) / max(macs[-1] - macs[0], 1.0))
    return convert_s, lambda asked: taken[0] + slope * (asked - macs[0])


def affordable(estimated: Estimate, budget_s: float) -> set[str]:
    """Keys of the most useful rows that the time is enough for, the anchors first; all of them if it is enough."""
    chosen, spent = set(), 0.0
    for row in sorted(estimated.rows, key=lambda row: row.role != "anchor"):
        spent += row.seconds
        if spent <= budget_s:
            chosen.add(row.key)
    return chosen
