"""Energy of a table's rows: each keeps its device busy for whole windows of a meter, and idling is subtracted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from latency_tables import storage
from latency_tables.collect import Planned, Progress
from latency_tables.rows import EnergyRow
from latency_tables.table import LatencyTable
from profilers.power_base import PowerMeter
from profilers.profiler import Profiler
from profilers.timing import TimingRule

WINDOWS, WINDOW_S = 3, 1.0
"""Of each row. Meters refresh every 1 to 100 ms, so that shorter windows say little."""


def fill_energy(
    path: Path,
    plan: Sequence[Planned],
    profiler: Profiler,
    meter: PowerMeter,
    rule: TimingRule,
    *,
    windows: int = WINDOWS,
    window_s: float = WINDOW_S,
) -> Iterator[Progress]:
    """Measures the energy that the rows of the table at ``path`` lack, writing every window as it is measured.

    Rows take turns in random order, once a round; every round begins with the idle power that it subtracts. The value
    of a row is the median of its windows (``LatencyTable.energy_mj``). Killed, it goes on where it was.

    Raises:
        ForeignTableError: If the table is of another device, runtime or number of threads.
        PowerError: If the meter's readings cannot be used.
    """
    with storage.journal(path) as journal:
        table = LatencyTable.load(path)
        table.refuse_foreign(profiler.fingerprint(), profiler.runtime, profiler.threads)
        have = Counter(energy.key for energy in table.energies)
        due = [each.workload for each in plan if have[each.workload.key] < windows]
        for done, key in enumerate(profiler.load(due, rule)):
            yield Progress("convert", done + 1, len(due), key)
        total, done = sum(windows - have[workload.key] for workload in due), 0
        for number in range(windows):
            keys = [workload.key for workload in due if have[workload.key] <= number]
            random.Random(f"{table.header['subject']} energy {number}").shuffle(keys)
            idle_w = profiler.idle_power_w(meter, window_s) if keys else 0.0
            for key in keys:
                found = profiler.energy(key, meter, seconds=window_s, idle_w=idle_w)
                journal.append(EnergyRow(key=key, **asdict(found)).to_record())
                done += 1
                yield Progress("measure energy", done, total, key)
        if due:
            LatencyTable.load(path).save()
