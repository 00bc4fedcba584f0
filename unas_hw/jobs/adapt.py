"""Adapt: a table of a new device from tables of other devices and a few whole networks measured on it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from latency_tables.adapt import adapt
from latency_tables.calibration import Calibration
from latency_tables.collect import fill
from latency_tables.coverage import priced
from latency_tables.errors import DamagedTableError, TableError
from latency_tables.home import table_files
from latency_tables.published import published_files
from latency_tables.rows import ADAPTED, MEASURED, OP, Value
from latency_tables.table import LatencyTable
from profilers.opspec import OpSpec
from profilers.profiler import Profiler
from profilers.timing import TimingRule
from unas_hw.jobs.profile import whole_networks
from unas_hw.meter import ANCHORS
from unas_hw.progress import Job, Step
from unas_hw.space import SearchSpace

NETWORKS = 30
SHAPE_ATTRIBUTES = {"out", "stride", "classes"}
"""What of an operation its count does not tell apart; the other attributes say what kind it is."""
LEAST_SHARE = 1e-3
"""A row is at least this share of what the sources say of it: a correction must not make it negative."""


def adapt_table(
    space: SearchSpace,
    sources: Sequence[LatencyTable],
    profiler: Profiler,
    *,
    path: Path,
    networks: int = NETWORKS,
    rule: TimingRule | None = None,
) -> Job[LatencyTable]:
    """Measures whole networks only; every operation that the table has not measured gets a value from the sources.

    Args:
        space: Of the table.
        sources: Tables of other devices that have all operations of the space.
        profiler: Of the new device, not yet open.
        path: Of its table; made if there is none. What it has measured stays.
        networks: How many to measure, the anchors among them.
        rule: When a measurement is good enough.

    Raises:
        TableError: If a source lacks operations of the space, or there is none.
    """
    if not sources:
        raise TableError(
            f"no other table has the operations of {space.title}, so there is nothing to adapt",
            mend="measure every row: "
            f"unas-hw profile --space {shlex.quote(space.origin)} --device {shlex.quote(profiler.device)}",
        )
    for source in sources:
        if lacking := _lacking(space, source):
            raise TableError(
                f"{source.path.name} lacks {len(lacking)} operations of {space.title}, such as {lacking[0]}",
                mend="choose another --from; unas-hw tables list names the tables there are",
            )
    planned = whole_networks(space, max(networks - ANCHORS, 0))
    with profiler:
        for progress in fill(path, space.title, planned, profiler, rule or TimingRule()):
            yield Step(f"{progress.stage} networks ({profiler.device})", progress.done, progress.total)
    table = LatencyTable.load(path)
    known = {key for key in table.keys(OP) if table.origin(key) == MEASURED}
    if all(workload.key in known for workload in space.workloads()):
        yield Step("adapt", 1, 1, f"{path.name} has measured every operation already")
        return table
    adapted = _adapted(space, table, sources, [each.workload.key for each in planned])
    adapted.save()
    return adapted


def quick_profile(
    space: SearchSpace, profiler: Profiler, *, path: Path, rule: TimingRule | None = None
) -> Job[LatencyTable]:
    """``adapt_table`` from every other table that has the space's operations, those that ship included."""
    sources = []
    for file in (*table_files(), *published_files()):
        try:
            table = LatencyTable.load(file)
        except DamagedTableError as error:  # the others may do
            yield Step("adapt", 0, 1, error.what)
            continue
        if file.resolve() != path.resolve() and not _lacking(space, table):
            sources.append(table)
    names = ", ".join(source.path.stem for source in sources)
    yield Step("adapt", 0, 1, f"from {names}" if names else "")
    return (yield from adapt_table(space, sources, profiler, path=path, rule=rule))


def _lacking(space: SearchSpace, table: LatencyTable) -> list[str]:
    known = set(table.keys(OP))
    return [key for key in priced(table, [workload.key for workload in space.workloads()]) if key not in known]


def _adapted(
    space: SearchSpace, table: LatencyTable, sources: Sequence[LatencyTable], networks: Sequence[str]
) -> LatencyTable:
    """The table with a value for each operation, such that networks are sums of them as the adaptation says."""
    parts = [table.rows[key].parts for key in networks]
    kinds = list(dict.fromkeys(_kind(workload.key) for workload in space.workloads()))
    found = adapt(
        np.array([[source.sum_ms(priced(source, keys)) for source in sources] for keys in parts]),
        np.array([[Counter(map(_kind, keys))[kind] for kind in kinds] for keys in parts], float),
        np.array([table.measurements[key].median_ms for key in networks]),
        table.noise_floor,
    )
    corrections = dict(zip(kinds, found.coefficients_ms, strict=True))
    values = []
    for workload in space.workloads():
        key = workload.key
        weighted = zip(found.weights, sources, strict=True)
        from_sources = sum(weight * source.price_ms(key) for weight, source in weighted if priced(source, [key]))
        ms = max(from_sources + corrections[_kind(key)], LEAST_SHARE * abs(from_sources), 1e-9)
        values.append(Value(key=key, ms=ms, sd_ms=np.nan, origin=ADAPTED, params=workload.cost.params))
    intercepts = (
        weight * source.calibration.intercept_ms for weight, source in zip(found.weights, sources, strict=True)
    )
    calibration = Calibration(
        model=f"adapted from {len(sources)} tables",
        intercept_ms=found.constant_ms + sum(intercepts),
        errors=found.errors,
        residuals=found.residuals,
    )
    return table.with_values(values, calibration)


def _kind(key: str) -> str:
    op = OpSpec.from_key(key)
    return (
        f"{op.kind}[{','.join(f'{name}={value}' for name, value in op.attrs.items() if name not in SHAPE_ATTRIBUTES)}]"
    )
