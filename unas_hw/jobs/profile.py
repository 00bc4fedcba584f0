"""Profile: the table of a device for a space."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from latency_tables.collect import EXTENSIONS, Planned, fill
from latency_tables.collect import refresh as refresh_table
from latency_tables.coverage import priced, profiler_of
from latency_tables.energy import fill_energy
from latency_tables.errors import ForeignTableError
from latency_tables.home import default_path, is_fetched, shown
from latency_tables.planning import Estimate, affordable, estimate
from latency_tables.regression import MIN_ROWS
from latency_tables.rows import ANCHOR, NETWORK, OP
from latency_tables.table import LatencyTable
from profilers.errors import MissingDependencyError, MissingDeviceError, UnknownNameError
from profilers.profiler import Profiler
from profilers.timing import TimingRule
from profilers.units import format_ms
from profilers.workload import Workload
from unas_hw.data import DIGITS, load_dataset
from unas_hw.errors import UnknownSpaceError
from unas_hw.extremes import evenly, spread
from unas_hw.jobs.tables import space_of
from unas_hw.meter import ANCHORS, anchor_architectures
from unas_hw.progress import Job, Step
from unas_hw.space import SearchSpace
from unas_hw.spaces import default_space, find_space


def space_for(
    name: str | None,
    *,
    dataset: str | None = None,
    image_size: int | None = None,
    batch: int = 1,
    precision: str = "float32",
) -> SearchSpace:
    """The space that is meant: for a data set's images, or for the images that the space is made for."""
    if name is None or dataset is not None:
        data = load_dataset(dataset or DIGITS, image_size=image_size)
        name = name or default_space(data.image_shape[1], data.origin)
        return find_space(name, image_shape=data.image_shape, classes=data.classes, batch=batch, precision=precision)
    space = find_space(name, batch=batch, precision=precision)
    if image_size is None:
        return space
    shape = (space.input_shape[1], image_size, image_size)
    return find_space(name, image_shape=shape, batch=batch, precision=precision)


NETWORKS = 25
"""Whole networks that calibrate a table; with the anchors they are 30."""
CALIBRATION_SEED = 1


def plan(space: SearchSpace, networks: int = NETWORKS) -> list[Planned]:
    """What a table of this space has: every operation, the anchors, and networks to calibrate with."""
    return [*(Planned(workload, OP) for workload in space.workloads()), *whole_networks(space, networks)]


def whole_networks(space: SearchSpace, networks: int) -> list[Planned]:
    """The anchors, and so many other networks of every size; fewer in a space that has fewer."""
    anchors = anchor_architectures(space)
    drawn = spread(space, networks + ANCHORS, random.Random(CALIBRATION_SEED))
    others = [each for each in drawn if each not in anchors]
    return [
        *(Planned(space.workload(each), ANCHOR) for each in anchors),
        *(Planned(space.workload(each), NETWORK) for each in evenly(others, networks)),
    ]


def usefulness(space: SearchSpace) -> dict[str, float]:
    """What each operation is worth to a table: its share of the arithmetic of a random network.

    Kinds of which the table has too few rows to predict another come before all others: nothing stands in for them.
    """
    macs = {workload.key: float(workload.cost.macs) for workload in space.workloads()}
    worth = dict.fromkeys(macs, 0.0)
    for term in space.terms():
        for keys in term.keys:
            for key in keys:
                worth[key] += term.count * macs[key] / len(term.keys)
    kinds = Counter(workload.op.kind for workload in space.workloads())
    rare = {workload.key: math.inf for workload in space.workloads() if kinds[workload.op.kind] <= MIN_ROWS}
    return worth | rare


def estimated(
    space: SearchSpace, profiler: Profiler, *, path: Path | None = None, rule: TimingRule, networks: int = NETWORKS
) -> Estimate:
    """What ``profile`` would measure, the most useful first, and how long it would take."""
    path = path or _path(space, profiler)
    with profiler:
        return estimate(path, plan(space, networks), profiler, rule, usefulness(space))


def _path(space: SearchSpace, profiler: Profiler) -> Path:
    return default_path(space.title, profiler.device, profiler.runtime, profiler.threads)


SHORT = 8
"""Rounds that a row gets at least when the time is limited."""


def profile(
    space: SearchSpace,
    profiler: Profiler | Sequence[Profiler],
    *,
    path: Path | None = None,
    rule: TimingRule | None = None,
    networks: int = NETWORKS,
    more: bool = False,
    time_budget_ms: float | None = None,
    energy: bool = False,
    power_command: str | None = None,
) -> Job[LatencyTable]:
    """Measures what the table does not have yet, and calibrates it.

    Args:
        space: Whose operations.
        profiler: Of the device, not yet open; or several, of devices that are alike and share the rows.
        path: Of the table; by default the one for this space, device, runtime and number of threads.
        rule: When a row is good enough.
        networks: Whole networks to calibrate with.
        more: Measure what is there again, in addition.
        time_budget_ms: Measure the most useful rows only, those that this time is enough for.
        energy: Measure the energy of every row too.
        power_command: Command or file that prints watts or joules, instead of the device's own meter.
    """
    team = [profiler] if isinstance(profiler, Profiler) else list(profiler)
    path, rule, planned = path or _path(space, team[0]), rule or TimingRule(), plan(space, networks)
    with ExitStack() as opened:
        for each in team:
            opened.enter_context(each)
        meter = opened.enter_context(team[0].meter(power_command)) if energy else None
        if time_budget_ms is not None:
            rule = replace(rule, min_rounds=min(SHORT, rule.min_rounds))
            found = estimate(path, planned, team[0], rule, usefulness(space))
            chosen = affordable(found, time_budget_ms / 1e3)
            planned = [each for each in planned if each.workload.key in chosen]
            convert_s = found.convert_seconds * sum(row.key in chosen for row in found.due)
            rule = replace(rule, max_time_s=max(time_budget_ms / 1e3 - convert_s, rule.min_time_s))
            yield Step("plan", 1, 1, f"{len(chosen)} of {len(found.rows)} rows in {format_ms(time_budget_ms)}")
        extensions = EXTENSIONS if time_budget_ms is None else 0
        for progress in fill(path, space.title, planned, team, rule, more=more, extensions=extensions):
            stage = f"{progress.stage} ({shown(progress.device)}, {team[0].runtime})"
            yield Step(stage, progress.done, progress.total, progress.note)
        if meter:
            for progress in fill_energy(path, planned, team[0], meter, rule):
                yield Step(f"{progress.stage} ({meter.name})", progress.done, progress.total)
    return LatencyTable.load(path)


def refresh(table: LatencyTable, profiler: Profiler, rule: TimingRule | None = None) -> Job[LatencyTable]:
    """Measures the table's anchors again and rescales it to the machine as it is now; ``profiler`` is not yet open."""
    space = space_of(table)
    anchors = [Planned(space.workload(each), ANCHOR) for each in anchor_architectures(space)]
    with profiler:
        for progress in refresh_table(table.path, anchors, profiler, rule or TimingRule()):
            yield Step(f"{progress.stage} anchors ({shown(profiler.device)})", progress.done, progress.total)
    return LatencyTable.load(table.path)


def calibrate(
    table: LatencyTable, profiler: Profiler, *, networks: int, rule: TimingRule | None = None
) -> Job[LatencyTable]:
    """Measures so many whole networks beside the anchors and fits the table to them; ``profiler`` is not yet open."""
    space = space_of(table)
    planned = whole_networks(space, networks)
    with profiler:
        for progress in fill(table.path, table.header["subject"], planned, profiler, rule or TimingRule()):
            yield Step(f"{progress.stage} networks ({shown(profiler.device)})", progress.done, progress.total)
    return LatencyTable.load(table.path)


def measured_where_possible(
    table: LatencyTable, workloads: Iterable[Workload], rule: TimingRule | None = None
) -> Job[LatencyTable]:
    """The table with measured rows for these operations, if its device is at hand; else as it is.

    The anchors are measured beside them, so that the new rows fit the old ones.
    """
    known = set(table.keys(OP))
    wanted = [workload for workload in workloads if workload.key in priced(table, [workload.key])]
    missing = [workload for workload in dict.fromkeys(wanted) if workload.key not in known]
    if not missing or table.is_published or is_fetched(table.path) or not table.keys(ANCHOR):
        return table
    try:
        profiler, space = profiler_of(table), space_of(table)
        table.refuse_foreign(profiler.fingerprint(), profiler.runtime, profiler.threads)
    except (
        ForeignTableError,
        MissingDeviceError,
        MissingDependencyError,
        UnknownNameError,
        UnknownSpaceError,
    ) as error:
        yield Step("measure missing rows", 0, 1, f"{len(missing)} rows are missing and not measured: {error.what}")
        return table
    planned = [Planned(each, OP) for each in missing]
    planned += [Planned(space.workload(each), ANCHOR) for each in anchor_architectures(space)]
    yield Step("measure missing rows", 0, len(missing), f"{table.path.name} lacks {len(missing)} rows: measuring them")
    with profiler:
        for progress in fill(table.path, table.header["subject"], planned, profiler, rule or TimingRule()):
            yield Step(f"{progress.stage} missing rows ({shown(profiler.device)})", progress.done, progress.total)
    return LatencyTable.load(table.path)
