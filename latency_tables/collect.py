"""Fill a table: plan, interleave, journal, resume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from latency_tables import storage
from latency_tables.calibration import fit
from latency_tables.errors import TableError
from latency_tables.parallel import in_parallel
from latency_tables.rows import ADAPTED, ANCHOR, NETWORK, OP, Row
from latency_tables.table import MAX_NOISE_FLOOR, LatencyTable
from profilers.errors import DeviceLostError, MissingDeviceError
from profilers.measurement import MIN_SAMPLES
from profilers.profiler import SENTINEL, Profiler
from profilers.timing import TimingRule
from profilers.workload import Workload

EXTENSIONS = 2
"""How often a table that is still too noisy is given as many rounds again."""


@dataclass(frozen=True)
class Planned:
    """Something to measure and what it is for: ``op``, ``anchor`` or ``network``."""

    workload: Workload
    role: str


@dataclass(frozen=True)
class Progress:
    """Where a profile is: ``stage`` is ``convert`` or ``measure``; of several devices each has its own."""

    stage: str
    done: int
    total: int
    key: str
    device: str = ""
    note: str = ""


def fill(
    path: Path,
    subject: str,
    plan: Sequence[Planned],
    profiler: Profiler | Sequence[Profiler],
    rule: TimingRule,
    *,
    more: bool = False,
    extensions: int = EXTENSIONS,
) -> Iterator[Progress]:
    """Measures what the table at ``path`` does not have yet, writing every sample as it is taken.

    Anchors are measured again in every session, so that sessions can be compared. Killed, it goes on where it
    was. At the end rows that are unstable are measured again, the table is calibrated and written whole.

    Several devices that are alike share the rows; each measures the anchors, which bring them to one speed. What one
    that is lost has not measured, the others do.

    Args:
        path: The table; made if there is none.
        subject: What the table is for, in words.
        plan: What it should have.
        profiler: Open; or several, of devices with the same fingerprint. The table is named after the first.
        rule: When a row is good enough.
        more: Measure everything again, in addition.
        extensions: How often what is still too noisy is given as many rounds again.

    Raises:
        ForeignTableError: If the table is of another device, runtime or number of threads.
        DeviceLostError: If the last device was lost; what was measured is kept.
    """
    team = [profiler] if isinstance(profiler, Profiler) else list(profiler)
    with storage.journal(path) as journal, _no_empty_table(path):
        if path.stat().st_size == 0:
            journal.append(_header(subject, plan, team[0]))
        table = LatencyTable.load(path)
        for each in team:
            table.refuse_foreign(each.fingerprint(), each.runtime, each.threads)
        for number in range(extensions + 1):
            if number == 0 and not more:
                due, have = _due(table, plan, rule)
            elif number == 0 or table.noise_floor > MAX_NOISE_FLOOR:
                due, have = list(plan), {}
            elif unstable := [p for p in plan if p.workload.key in _unstable(table)]:
                due, have = unstable, {}
            else:
                break
            while due:
                lost = yield from _sessions(journal, table, plan, due, have, team, rule)
                table = LatencyTable.load(path)
                due, have = _due(table, due, rule) if lost else ([], {})
        calibrate(table)
        table.save()


@contextmanager
def _no_empty_table(path: Path) -> Iterator[None]:
    """Where nothing could be measured, such as a precision that the runtime lacks, there is no table either."""
    begun = path.stat().st_size
    try:
        yield
    except Exception:
        if not begun and len(path.read_bytes().splitlines()) == 1:
            path.unlink()
        raise


def calibrate(table: LatencyTable) -> None:
    """Fits the calibration to the whole networks whose operations the table has; leaves it as it is without any."""
    known = set(table.keys(OP))
    keys = [key for key in (*table.keys(ANCHOR), *table.keys(NETWORK)) if known.issuperset(table.rows[key].parts)]
    if not keys:
        return
    before = table.calibration
    table.calibration = fit(table.observed([(key, table.rows[key].parts) for key in keys], table.measurements))
    if any(table.origin(part) == ADAPTED for key in keys for part in table.rows[key].parts):
        # Adapted rows were fitted to these very networks: only the errors of the adaptation are of unseen ones.
        table.calibration = replace(
            table.calibration, errors=before.errors, residuals=before.residuals, row_deviations=before.row_deviations
        )


def refresh(path: Path, anchors: Sequence[Planned], profiler: Profiler, rule: TimingRule) -> Iterator[Progress]:
    """Measures the anchors again and rescales the whole table to the machine as it is now.

    Raises:
        TableError: If the table has none of these anchors: nothing could be compared.
    """
    with storage.journal(path) as journal:
        table = LatencyTable.load(path)
        table.refuse_foreign(profiler.fingerprint(), profiler.runtime, profiler.threads)
        known = [planned for planned in anchors if planned.workload.key in table.keys(ANCHOR)]
        if not known:
            raise TableError(
                f"{path.name} holds none of the anchor networks, so nothing of it can be measured again",
                mend=f"unas-hw profile --table {path} adds them",
            )
        wanted = {planned.workload.key: planned for planned in known}
        yield from _load(wanted, profiler, rule)
        yield from _measure(journal, table, wanted, {}, profiler, rule, refreshing=True)
        now = LatencyTable.load(path)
        old_ms, new_ms = (
            np.array([each.measurements[key].median_ms for key in table.measurements]) for each in (table, now)
        )
        now.rescale(float(np.median(new_ms / old_ms)))  # as its rows were: an anchor alone may move with noise
        now.save()


def _unstable(table: LatencyTable) -> set[str]:
    return {key for key, found in table.measurements.items() if found.flags}


def counts(table: LatencyTable) -> Counter[str]:
    """How many samples each key has, those left out that are taken again."""
    return Counter(sample.key for samples in table.samples.values() for sample in samples if not sample.drifted)


def _due(table: LatencyTable, plan: Sequence[Planned], rule: TimingRule) -> tuple[list[Planned], dict[str, int]]:
    """What lacks samples, and how many each of these has."""
    have = counts(table)
    missing = [planned for planned in plan if have[planned.workload.key] < rule.min_rounds]
    return missing, {planned.workload.key: have[planned.workload.key] for planned in missing}


def _sessions(
    journal: storage.Journal,
    table: LatencyTable,
    plan: Sequence[Planned],
    due: Sequence[Planned],
    have: dict[str, int],
    team: list[Profiler],
    rule: TimingRule,
) -> Generator[Progress, None, bool]:
    """A session of each device of the team with its share; says whether one was lost, which then is out of the team."""
    shares: dict[Profiler, dict[str, Planned]] = {}
    for profiler, share in zip(list(team), _shares(due, len(team)), strict=True):
        anchors = [planned for planned in plan if planned.role == ANCHOR and planned not in share]
        shares[profiler] = {planned.workload.key: planned for planned in (*share, *anchors)}
        # One after the other, and before anything is timed: what is converted here disturbs what is timed here.
        yield from _until_lost(_load(shares[profiler], profiler, rule), profiler, team)
    sessions = {
        profiler: _measure(journal, table, shares[profiler], have, profiler, rule, number)
        for number, profiler in enumerate(team)
    }
    before = len(shares)
    if len(sessions) == 1:
        (session,) = sessions.values()
        yield from _until_lost(session, team[0], team) if before > 1 else session
    else:
        for profiler, progress in in_parallel(sessions):
            yield from _until_lost(_raised(progress), profiler, team)
    return len(team) < before


def _shares(due: Sequence[Planned], count: int) -> list[list[Planned]]:
    """As much arithmetic for each; anchors are for all."""
    others = sorted((each for each in due if each.role != ANCHOR), key=lambda each: -each.workload.cost.macs)
    given = {planned: number % count for number, planned in enumerate(others)}
    return [[each for each in due if given.get(each, number) == number] for number in range(count)]


def _raised(progress: Progress | Exception) -> Iterator[Progress]:
    if isinstance(progress, Exception):
        raise progress
    yield progress


def _until_lost(steps: Iterator[Progress], profiler: Profiler, team: list[Profiler]) -> Iterator[Progress]:
    """The steps; where they end because the device is lost, the others go on without it. The last one's error is
    raised.
    """
    try:
        yield from steps
    except (DeviceLostError, MissingDeviceError) as error:
        if team == [profiler]:
            raise
        team.remove(profiler)
        yield Progress("measure", 0, 1, "", profiler.device, f"{error.what}; the other devices go on")


def _load(wanted: Mapping[str, Planned], profiler: Profiler, rule: TimingRule) -> Iterator[Progress]:
    for done, key in enumerate(profiler.load([planned.workload for planned in wanted.values()], rule)):
        yield Progress("convert", done + 1, len(wanted), key, profiler.device)


def _measure(
    journal: storage.Journal,
    table: LatencyTable,
    wanted: Mapping[str, Planned],
    have: Mapping[str, int],
    profiler: Profiler,
    rule: TimingRule,
    number: int = 0,
    *,
    refreshing: bool = False,
) -> Iterator[Progress]:
    number += 1 + max((record["session"] for record in table.sessions), default=-1)
    label = f"{table.header['subject']} session {number}"
    journal.append(
        {
            "record": "session",
            "session": number,
            "label": label,
            "created": _now(),
            "device": profiler.device,
            "environment": profiler.environment(),
            "refresh": refreshing,
        }
    )
    known = set(table.rows)
    total, done = len(wanted) * rule.max_rounds - sum(have.get(key, 0) for key in wanted), 0
    for sample in profiler.sample(wanted, rule, label=label, have={key: have.get(key, 0) for key in wanted}):
        if sample.key not in known:
            planned = wanted.get(sample.key, Planned(SENTINEL, "sentinel"))
            journal.append(_row(planned, sample.calls, profiler.details(sample.key)).to_record())
            known.add(sample.key)
        journal.append(
            {
                "record": "sample",
                "session": number,
                "key": sample.key,
                "ms": sample.ms,
                "tick": sample.tick,
                "drifted": sample.drifted,
            }
        )
        if sample.key in wanted and not sample.drifted:
            done += 1
            yield Progress("measure", done, total, sample.key, profiler.device)


def _row(planned: Planned, calls: int, details: Mapping[str, Any]) -> Row:
    workload = planned.workload
    parts = tuple(part.key for part in workload.parts)
    return Row(workload.key, planned.role, calls, workload.cost.macs, workload.cost.params, parts, details)


def _header(subject: str, plan: Sequence[Planned], profiler: Profiler) -> storage.Record:
    return {
        "record": "header",
        "schema": storage.SCHEMA,
        "subject": subject,
        "device": profiler.device,
        "fingerprint": profiler.fingerprint(),
        "runtime": profiler.runtime,
        "threads": profiler.threads,
        "precision": plan[0].workload.op.dtype,
        "units": {"time": "ms"},
        "created": _now(),
        "environment": profiler.environment(),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def quick(rule: TimingRule) -> TimingRule:
    """A rule for measuring a few networks between other work: the same blocks, a third of the rounds."""
    least = max(MIN_SAMPLES, rule.min_rounds // 2)
    return replace(rule, min_rounds=least, max_rounds=max(least, rule.max_rounds // 3), warmup_s=0.05)


def describe(table: LatencyTable) -> dict[str, Any]:
    """The header's fields and what the table is worth, for people and for programs."""
    calibration = table.calibration
    return {
        **{name: value for name, value in table.header.items() if name != "record"},
        "path": str(table.path),
        "hash": table.hash,
        "sessions": len(table.sessions),
        "rows_measured": len(table.measurements),
        "rows_not_measured": len(table.values),
        "energies": len(table.energy_mj),
        "meter": table.energies[-1].meter if table.energies else None,
        "unstable": sum(bool(found.flags) for found in table.measurements.values()),
        "noise_floor": table.noise_floor,
        "calibration": {
            name: value for name, value in calibration.to_record().items() if name not in ("record", "residuals")
        },
    }
