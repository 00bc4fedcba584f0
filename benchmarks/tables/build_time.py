"""A usable table against the published way, a regression on whole networks, by the time that the device is measured.

    python -m benchmarks.tables.build_time [PIXELS]

The table: every row of `mbconv`, 5 anchors and 25 networks, 20 rounds. The regression (UNAS: ridge on the choices of
measured networks): as many networks as it takes, 20 rounds too, until it is as good on the same 50 unseen networks.
Device time is that of sampling; converting and loading are printed beside it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import RidgeCV

from benchmarks.report import keep
from benchmarks.tables.accuracy import networks
from latency_tables.calibration import errors
from latency_tables.table import LatencyTable
from profilers.profiler import Profiler, measurements
from profilers.registry import open_profiler
from profilers.timing import Floats, TimingRule
from profilers.workload import Workload
from unas_hw.jobs.profile import plan, profile
from unas_hw.meter import Meter
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space

RULE = TimingRule(min_rounds=20, max_rounds=20)
COUNTS = (50, 100, 200, 300, 400, 500)
CHUNK = 50
"""Networks that are loaded at a time; the anchors bring chunks to one speed."""


def measured_ms(
    space: SearchSpace, table: LatencyTable, profiler: Profiler, chosen: list[Workload], label: str
) -> tuple[Floats, float, float]:
    """Latencies at the table's speed, seconds of device time, and the noise floor in percent."""
    latencies: list[float] = []
    spent_s, floors = 0.0, []
    for start in range(0, len(chosen), CHUNK):
        part = chosen[start : start + CHUNK]
        anchors = Meter(space, table, profiler).anchors
        keys = list(profiler.load([*part, *anchors], RULE))
        begin = time.monotonic()
        found = measurements(list(profiler.sample(keys, RULE, label=f"{label} {start}")))
        spent_s += (time.monotonic() - begin) * len(part) / len(keys)
        profiler.unload(each.key for each in part)
        observed = table.observed(
            [(each.key, [op.key for op in each.parts]) for each in part], found, table.anchor_scale(found)
        )
        latencies += observed.measured_ms.tolist()
        floors.append(observed.noise_floor)
    return np.array(latencies), spent_s, float(np.mean(floors))


def one_hot(space: SearchSpace, chosen: list[Workload]) -> Floats:
    """``(networks, choices of all decisions)`` of zeros and ones."""
    lines = []
    for workload in chosen:
        names = str(workload.op.attrs["choices"]).split("-")
        lines.append(
            [
                float(name == each)
                for name, decision in zip(names, space.decisions, strict=True)
                for each in decision.choices
            ]
        )
    return np.array(lines)


def main(pixels: int) -> None:
    """The table's line, then the regression's, network by network."""
    space = find_space("mbconv", image_shape=(3, pixels, pixels))
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        profiler = open_profiler("cpu", runtime="onnxruntime")
        job, sampling_s = profile(space, profiler, path=Path(folder) / "table.jsonl", rule=RULE), None
        while True:
            try:
                if next(job).stage.startswith("measure") and sampling_s is None:
                    sampling_s = time.monotonic()
            except StopIteration as end:
                table: LatencyTable = end.value
                break
        assert sampling_s is not None
        wall_s, device_s = time.monotonic() - begin, time.monotonic() - sampling_s
        seen = {each.workload.key for each in plan(space)}
        unseen, train = (networks([space], count, seed, seen) for count, seed in ((50, 2), (max(COUNTS), 3)))
        with profiler:
            true_ms, _, floor = measured_ms(space, table, profiler, unseen, "held out")
            begin = time.monotonic()
            train_ms, train_s, _ = measured_ms(space, table, profiler, train, "regression")
            train_wall_s = time.monotonic() - begin
    predicted = np.array([table.predict_ms([op.key for op in each.parts]) for each in unseen])
    by_table = errors(predicted, true_ms, floor)
    print(
        f"table: {len(table.measurements)} keys, {wall_s:.0f} s in all, {device_s:.0f} s of measuring: "
        f"MAPE {by_table.mape:.2f}%, Spearman {by_table.spearman:.4f} (noise floor {floor:.2f}%)"
    )
    rows: list[dict[str, Any]] = []
    order = np.random.default_rng(0).permutation(len(train))
    for count in COUNTS:
        chosen = [train[place] for place in order[:count]]
        y = train_ms[order[:count]]
        ridge = RidgeCV(np.logspace(-4, 4, 17)).fit(one_hot(space, chosen), y, sample_weight=1 / y**2)
        found = errors(ridge.predict(one_hot(space, unseen)), true_ms, floor)
        times = train_s * count / len(train) / device_s
        rows.append({"networks": count, "mape": found.mape, "spearman": found.spearman, "device_time_ratio": times})
        print(f"ridge on {count} networks: MAPE {found.mape:.2f}%, {times:.1f} times the device time of the table")
    keep(
        "tables_build_time",
        {
            "pixels": pixels,
            "keys": len(table.measurements),
            "wall_s": wall_s,
            "device_s": device_s,
            "table": {"mape": by_table.mape, "spearman": by_table.spearman, "model": table.calibration.model},
            "noise_floor": floor,
            "regression": rows,
            "regression_wall_s": train_wall_s,
        },
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 96)
