"""Every runtime of this CPU: how far its table is off on networks that it has never seen, and which is the fastest.

python -m benchmarks.runtimes [RUNTIME ...]
"""

from __future__ import annotations

import random
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands import unas_hw
from benchmarks.report import keep
from profilers.devices.local import LocalProfiler
from profilers.timing import TimingRule
from unas_hw.meter import anchor_architectures
from unas_hw.spaces import find_space

SPACE, PIXELS, NETWORKS, ROUNDS = "mbconv-small", 32, 20, 40
CALIBRATION = 55
"""Networks that a table is fitted to, beside its five anchors; 16 by default."""
RUNTIMES = ("onnxruntime", "openvino", "ncnn", "litert", "torch", "torch+channels_last", "torch+compile")


def accuracy(runtime: str) -> dict[str, Any]:
    """A table from nothing, and its errors on fresh networks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        space = ("--space", SPACE, "--image-size", str(PIXELS))
        unas_hw(folder, "profile", *space, "--runtime", runtime, "--networks", str(CALIBRATION))
        found: dict[str, Any] = unas_hw(folder, "tables", "validate", "--networks", str(NETWORKS))
        return found


def speeds(runtimes: list[str]) -> dict[str, tuple[float, float]]:
    """Of the anchor networks, the runtimes taking turns: mean in ms, and how many times the first runtime's it is."""
    space = find_space(SPACE, image_shape=(1, PIXELS, PIXELS))
    anchors = [space.workload(each) for each in anchor_architectures(space)]
    taken: dict[str, list[list[float]]] = {runtime: [] for runtime in runtimes}
    with ExitStack() as opened:
        profilers = {runtime: opened.enter_context(LocalProfiler(runtime, 1)) for runtime in runtimes}
        for profiler in profilers.values():
            for _ in profiler.load(anchors, TimingRule()):
                pass
        for number in range(ROUNDS):
            order = list(runtimes)
            random.Random(number).shuffle(order)
            for runtime in order:
                taken[runtime].append([profilers[runtime].sample_ms(anchor.key) for anchor in anchors])
    means = {runtime: np.array(times).mean(1) for runtime, times in taken.items()}
    first = means[runtimes[0]]
    return {runtime: (float(np.median(times)), float(np.median(times / first))) for runtime, times in means.items()}


def main(runtimes: list[str]) -> None:
    """Accuracy one after the other, speed interleaved."""
    rows: list[dict[str, Any]] = []
    for runtime in runtimes:
        found = accuracy(runtime)
        del found["table"]
        rows.append({"runtime": runtime, **found})
        print(
            f"{runtime}: MAPE {found['mape']:.2f}%, worst {found['max_error']:.2f}%, Spearman {found['spearman']:.4f}, "
            f"noise floor {found['noise_floor']:.2f}%, ratio {found['mape'] / found['noise_floor']:.2f}",
            flush=True,
        )
    for row, (ms, ratio) in zip(rows, speeds(runtimes).values(), strict=True):
        row |= {"anchors_ms": ms, "times_as_long": ratio}
    for row in sorted(rows, key=lambda row: row["times_as_long"]):
        print(f"{row['runtime']:<22} {row['anchors_ms']:.3f} ms, {row['times_as_long']:.2f} times {runtimes[0]}")
    fastest = min(rows, key=lambda row: row["times_as_long"])["runtime"]
    print(f"fastest: {fastest}")
    keep(
        "runtimes",
        {
            "space": SPACE,
            "pixels": PIXELS,
            "networks": NETWORKS,
            "calibration": CALIBRATION,
            "fastest": fastest,
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main(sys.argv[1:] or list(RUNTIMES))
