"""The rows of a table as a frame of pandas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from latency_tables.rows import MEASURED, OP, Row, Value
from profilers.measurement import Measurement


def frame_of(
    measurements: Mapping[str, Measurement],
    rows: Mapping[str, Row],
    values: Mapping[str, Value],
    energy_mj: Mapping[str, float],
) -> pd.DataFrame:
    """See ``LatencyTable.frame``; all by key."""
    lines: list[dict[str, Any]] = []
    for key, found in measurements.items():
        row = rows[key]
        raw = np.percentile(found.samples_ms, [10, 90])
        lines.append(
            {
                "key": key,
                "role": row.role,
                "latency_ms": found.median_ms,
                "sd_ms": _known(found.half_width / 1.96 * found.median_ms),
                "origin": MEASURED,
                "source": "",
                "raw_ms": found.raw_ms,
                "p10_ms": float(raw[0]),
                "p90_ms": float(raw[1]),
                "min_ms": min(found.samples_ms),
                "spread": found.spread,
                "half_width": found.half_width,
                "samples": len(found.samples_ms),
                "calls": row.calls,
                "flags": ",".join(found.flags),
                "macs": row.macs,
                "params": row.params,
                "energy_mj": energy_mj.get(key, math.nan),
                "peak_memory_bytes": row.details.get("peak_memory_bytes", math.nan),
            }
        )
    for value in values.values():
        if value.key not in measurements:
            line = {"key": value.key, "role": OP, "latency_ms": value.ms, "sd_ms": value.sd_ms}
            line |= {"origin": value.origin, "source": value.source, "samples": 0, "flags": ""}
            lines.append({**line, "params": value.params})
    return pd.DataFrame(lines).set_index("key") if lines else pd.DataFrame({"key": []}).set_index("key")


def _known(number: float) -> float:
    """NaN for infinity: what nothing is known of."""
    return number if math.isfinite(number) else math.nan
