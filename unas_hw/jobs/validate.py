"""Validate: a table against whole networks that it has never seen."""

from __future__ import annotations

import random
from dataclasses import asdict
from typing import Any

import numpy as np

from latency_tables.calibration import TERMS, errors
from latency_tables.table import LatencyTable
from profilers.profiler import Profiler, measurements
from profilers.timing import TimingRule
from unas_hw.extremes import evenly, spread
from unas_hw.jobs.profile import plan
from unas_hw.meter import Meter
from unas_hw.progress import Job, Step
from unas_hw.space import SearchSpace

SEED = 2


def validate(
    space: SearchSpace, table: LatencyTable, profiler: Profiler, *, networks: int = 30, rule: TimingRule | None = None
) -> Job[dict[str, Any]]:
    """Measures fresh networks, interleaved with the anchors, and compares them with predictions.

    Returns:
        Errors in percent (see ``latency_tables.calibration.Errors``), ``interval_90_covers``: the share of networks
        within their 90% interval, and the terms of the table's calibration.
    """
    rule = rule or TimingRule()
    known = {planned.workload.key for planned in plan(space)} | table.rows.keys()
    drawn = (space.workload(each) for each in spread(space, networks + len(known), random.Random(SEED)))
    fresh = {workload.key: workload for workload in drawn if workload.key not in known}
    chosen = evenly(list(fresh.values()), networks)  # which go from small to large
    with profiler:
        meter = Meter(space, table, profiler)
        workloads = {each.key: each for each in (*chosen, *meter.anchors)}
        keys = []
        for key in profiler.load(workloads.values(), rule):
            keys.append(key)
            yield Step("convert", len(keys), len(workloads))
        samples, total = [], len(keys) * rule.max_rounds
        for sample in profiler.sample(keys, rule, label="validate"):
            samples.append(sample)
            yield Step("measure", min(len(samples), total), total)
    measured = measurements(samples)
    pairs = [(each.key, [part.key for part in each.parts]) for each in chosen]
    observed = table.observed(pairs, measured, table.anchor_scale(measured))
    predicted = table.calibration.predict_ms(observed)
    found = errors(predicted, observed.measured_ms, observed.noise_floor)
    bounds = [table.calibration.interval(0.9, deviation) for deviation in observed.row_deviations]
    ratios = observed.measured_ms / predicted
    return {
        **asdict(found),
        "interval_90_covers": float(
            np.mean([low <= ratio <= high for ratio, (low, high) in zip(ratios, bounds, strict=True)])
        ),
        "model": table.calibration.model,
        "scale": table.calibration.scale,
        **{f"{term}_ms": getattr(table.calibration, f"{term}_ms") for term in TERMS[1:]},
        "anchor_scale": table.anchor_scale(measured),
        "table": str(table.path),
    }
