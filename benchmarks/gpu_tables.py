"""Tables of `mbconv` on the first GPU: how far they are off on networks that they have never seen, and how they repeat.

    python -m benchmarks.gpu_tables [BATCH ...]

PyTorch, at batch 1 and 32, in float32 and bfloat16, timed call by call (events) and as CUDA graphs.
"""

from __future__ import annotations

import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands import unas_hw
from benchmarks.report import keep
from latency_tables.rows import OP
from latency_tables.table import LatencyTable
from profilers.devices.gpu import GpuProfiler
from profilers.environment import timing_warnings
from profilers.errors import UnasError
from profilers.registry import open_profiler

SPACE, NETWORKS = "mbconv", 30
PRECISIONS, CLOCKS = ("fp32", "bf16"), ("events", "graph")


def repeatability(first: LatencyTable, second: LatencyTable) -> dict[str, float]:
    """Differences in percent of the rows of two tables, as they are and where the second is as fast as the first."""
    keys = [key for key in first.keys(OP) if key in second.measurements]
    ratios = np.array([second.measurements[key].median_ms / first.measurements[key].median_ms for key in keys])
    off, scaled = 100 * np.abs(ratios - 1), 100 * np.abs(ratios / np.median(ratios) - 1)
    return {
        "rows": len(keys),
        "median": float(np.median(off)),
        "p95": float(np.percentile(off, 95)),
        "scaled_median": float(np.median(scaled)),
        "scaled_p95": float(np.percentile(scaled, 95)),
    }


def measured(batch: str, precision: str, clock: str) -> dict[str, Any]:
    """Two tables from nothing; the first is validated."""
    where = ("--space", SPACE, "--device", "gpu", "--runtime", f"torch+{clock}")
    words = (*where, "--batch", batch, "--precision", precision)
    tables = []
    with tempfile.TemporaryDirectory() as name:
        for number in range(2):
            folder = Path(name) / str(number)
            folder.mkdir()
            profiled = unas_hw(folder, "profile", *words)
            tables.append(LatencyTable.load(Path(profiled["path"])))
        found: dict[str, Any] = unas_hw(Path(name) / "0", "tables", "validate", "--networks", str(NETWORKS))
    del found["table"]
    details = [row.details for row in tables[0].rows.values() if row.role == OP]
    return {
        "batch": int(batch),
        "precision": precision,
        "clock": clock,
        "launch_bound": float(np.mean([each["launch_bound"] for each in details])),
        "graphs_refused": sum("graph" in each for each in details),
        "repeat": repeatability(*tables),
        **found,
    }


def main(batches: list[str]) -> None:
    """All combinations, one after the other."""
    try:
        profiler = open_profiler("gpu", runtime="torch")
        assert isinstance(profiler, GpuProfiler)
        environment = profiler.environment()
    except UnasError as error:
        raise SystemExit(f"no GPU to measure: {error.what}") from error
    for warning in timing_warnings(environment):
        print(f"note: {warning}", flush=True)
    rows = []
    for batch, precision, clock in product(batches, PRECISIONS, CLOCKS):
        row = measured(batch, precision, clock)
        rows.append(row)
        print(
            f"batch {batch}, {precision}, {clock}: MAPE {row['mape']:.2f}%, worst {row['max_error']:.2f}%, "
            f"Spearman {row['spearman']:.4f}, noise floor {row['noise_floor']:.2f}%, {row['launch_bound']:.0%} of the "
            f"rows launch-bound, rows repeat within {row['repeat']['p95']:.1f}% (p95)",
            flush=True,
        )
    keep("gpu_tables", {"gpu": environment["gpu"], "space": SPACE, "networks": NETWORKS, "rows": rows})


if __name__ == "__main__":
    main(sys.argv[1:] or ["1", "32"])
