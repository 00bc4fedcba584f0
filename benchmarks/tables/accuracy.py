"""How far tables are off on 50 networks that they have never seen; onnxruntime, one thread, this CPU.

    python -m benchmarks.tables.accuracy [mbconv-96 mbconv-128 wide]

Beside it: MACs alone and parameters alone, each fitted (scale and intercept) to the networks that calibrate the table.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import keep
from benchmarks.tables.wide import WIDTHS, wide
from latency_tables.calibration import errors
from latency_tables.collect import Planned, fill
from latency_tables.rows import ANCHOR, NETWORK, OP
from latency_tables.table import LatencyTable
from profilers.profiler import Profiler, measurements
from profilers.registry import open_profiler
from profilers.timing import Floats, TimingRule
from profilers.workload import Workload
from unas_hw.extremes import evenly, spread
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space

CALIBRATION, HELD_OUT, ANCHORS = 30, 50, 5
RULE = TimingRule()
SEEDS = {"anchor": 20191207, "calibration": 1, "held out": 2}


def networks(spaces: Sequence[SearchSpace], count: int, seed: int, seen: set[str]) -> list[Workload]:
    """Networks of all sizes, as many of each space, none of them seen before; ``seen`` grows."""
    chosen: list[Workload] = []
    for number, space in enumerate(spaces):
        wanted = count // len(spaces) + (number < count % len(spaces))
        drawn = (space.workload(each) for each in spread(space, wanted + len(seen), random.Random(seed)))
        fresh = [workload for workload in drawn if workload.key not in seen]
        chosen += evenly(fresh, wanted)
    seen.update(workload.key for workload in chosen)
    return chosen


def measured(
    spaces: Sequence[SearchSpace], profiler: Profiler, path: Path
) -> tuple[LatencyTable, list[Workload], list[Workload], dict[str, Any]]:
    """The table, its calibration networks, the held-out networks, and what they took beside the anchors."""
    seen: set[str] = set()
    groups = [
        networks(spaces, count, seed, seen)
        for count, seed in zip((ANCHORS, CALIBRATION, HELD_OUT), SEEDS.values(), strict=True)
    ]
    ops = {each.key: each for space in spaces for each in space.workloads()}.values()
    plan = [
        *(Planned(each, OP) for each in ops),
        *(Planned(each, ANCHOR) for each in groups[0]),
        *(Planned(each, NETWORK) for each in groups[1]),
    ]
    for _ in fill(path, "accuracy", plan, profiler, RULE):
        pass
    table = LatencyTable.load(path)
    keys = list(profiler.load([*groups[2], *groups[0]], RULE))
    return table, [*groups[0], *groups[1]], groups[2], measurements(list(profiler.sample(keys, RULE, label="held out")))


def line(design: Floats, latency_ms: Floats, new: Floats) -> Floats:
    """Scale and intercept fitted to relative errors, applied to others."""
    x = np.stack([design, np.ones_like(design)], 1)
    terms, *_ = np.linalg.lstsq(x / latency_ms[:, None], np.ones(len(x)), rcond=None)
    return np.asarray(np.stack([new, np.ones_like(new)], 1) @ terms, np.float64)


def run(name: str) -> dict[str, Any]:
    """One space, from nothing."""
    spaces: list[SearchSpace] = (
        [wide(size) for size in WIDTHS]
        if name == "wide"
        else [find_space("mbconv", image_shape=(3, int(name.partition("-")[2]), int(name.partition("-")[2])))]
    )
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, open_profiler("cpu", runtime="onnxruntime") as profiler:
        table, known, unseen, found = measured(spaces, profiler, Path(folder) / "table.jsonl")
    observed = table.observed(
        [(each.key, [part.key for part in each.parts]) for each in unseen], found, table.anchor_scale(found)
    )
    predicted = table.calibration.predict_ms(observed)
    bounds = [table.calibration.interval(0.9, deviation) for deviation in observed.row_deviations]
    ratio = observed.measured_ms / predicted
    known_ms = np.array([table.measurements[each.key].median_ms for each in known])
    baselines = {}
    for what in ("macs", "params"):
        sizes = [np.array([float(getattr(each.cost, what)) for each in group]) for group in (known, unseen)]
        baselines[what] = asdict(errors(line(sizes[0], known_ms, sizes[1]), observed.measured_ms, observed.noise_floor))
    return {
        "space": name,
        "rows": len(table.keys(OP)),
        **asdict(errors(predicted, observed.measured_ms, observed.noise_floor)),
        "model": table.calibration.model,
        "interval_90_covers": float(
            np.mean([low <= each <= high for each, (low, high) in zip(ratio, bounds, strict=True)])
        ),
        "interval_90_width": float(np.mean([high - low for low, high in bounds])),
        "table_noise_floor": table.noise_floor,
        "leave_one_out": table.calibration.errors and table.calibration.errors.mape,
        "baselines": baselines,
        "measured_ms": [round(ms, 5) for ms in observed.measured_ms.tolist()],
        "predicted_ms": [round(ms, 5) for ms in predicted.tolist()],
        "seconds": time.monotonic() - begin,
    }


def main(names: list[str]) -> None:
    """A line for each space."""
    rows = []
    for name in names:
        rows.append(row := run(name))
        print(
            f"{name}: MAPE {row['mape']:.2f}% (noise floor {row['noise_floor']:.2f}%), worst {row['max_error']:.2f}%, "
            f"Spearman {row['spearman']:.4f}, 90% interval covers {row['interval_90_covers']:.0%}; "
            + ", ".join(f"{what} alone {each['mape']:.1f}%" for what, each in row["baselines"].items())
            + f"; {row['model']}, {row['seconds']:.0f} s",
            flush=True,
        )
    keep("tables_accuracy", {"rows": rows})


if __name__ == "__main__":
    main(sys.argv[1:] or ["mbconv-96", "mbconv-128", "wide"])
