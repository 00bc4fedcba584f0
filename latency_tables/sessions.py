"""Sessions: stretches of measuring without a break, each at a speed of the machine of its own, brought to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from latency_tables import storage
from latency_tables.rows import ANCHOR, Row
from profilers.measurement import MIN_SAMPLES, Measurement
from profilers.profiler import SENTINEL
from profilers.timing import Floats, Sample, corrected_ms


def reference_of(samples: Mapping[int, Sequence[Sample]], sessions: Sequence[storage.Record]) -> int:
    """The session whose speed is the table's: the last that refreshed it, or else the longest."""
    refreshed = [record["session"] for record in sessions if record.get("refresh")]
    longest = max(samples, key=lambda session: len(samples[session]))
    return next((session for session in reversed(refreshed) if session in samples), longest)


def merged(
    samples: Mapping[int, Sequence[Sample]], sessions: Sequence[storage.Record], rows: Mapping[str, Row]
) -> dict[str, Measurement]:
    """Measurements of all rows that have enough samples, at the speed of the reference."""
    corrected = {session: corrected_ms(taken) for session, taken in samples.items()}
    if not corrected:
        return {}
    reference = reference_of(samples, sessions)
    fixed = {SENTINEL.key, *(row.key for row in rows.values() if row.role == ANCHOR)}
    scaled: dict[str, list[float]] = {}
    raw: dict[str, list[float]] = {}
    for session, times in corrected.items():
        scale = session_scale(corrected[reference], times, fixed)
        for key, values in times.items():
            scaled.setdefault(key, []).extend((values * scale).tolist())
        for sample in samples[session]:
            raw.setdefault(sample.key, []).append(sample.ms)
    return {
        key: Measurement(key=key, samples_ms=tuple(raw[key]), corrected_ms=tuple(values), calls=rows[key].calls)
        for key, values in scaled.items()
        if key in rows and len(values) >= MIN_SAMPLES
    }


def moved(
    samples: Mapping[int, Sequence[Sample]], sessions: Sequence[storage.Record], rows: Mapping[str, Row]
) -> tuple[float, ...]:
    """Factors as of ``session_scale`` by the anchors, of every session but the reference that has any."""
    if len(samples) < 2:
        return ()
    corrected = {session: corrected_ms(taken) for session, taken in samples.items()}
    reference = corrected.pop(reference_of(samples, sessions))
    anchors = {row.key for row in rows.values() if row.role == ANCHOR} & reference.keys()
    return tuple(session_scale(reference, times, anchors) for times in corrected.values() if anchors & times.keys())


def session_scale(reference: dict[str, Floats], times: dict[str, Floats], fixed: set[str]) -> float:
    """Factor that brings times of a session to the speed of another, by those of fixed keys where both have them."""
    shared = [key for key in times if key in reference and len(times[key]) and len(reference[key])]
    anchors = [key for key in shared if key in fixed] or shared
    if reference is times or not anchors:
        return 1.0
    return float(np.median([np.median(reference[key]) / np.median(times[key]) for key in anchors]))
