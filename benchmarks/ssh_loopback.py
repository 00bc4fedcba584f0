"""The same operations timed here and over ssh on this machine, in turns: medians, and what the way there costs.

``python -m benchmarks.ssh_loopback`` starts a server of its own (openssh-server).
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.report import keep
from profilers.devices.local import LocalProfiler
from profilers.devices.ssh import SshProfiler
from profilers.timing import TimingRule
from tests.profilers import sshd
from unas_hw.spaces import find_space

ROUNDS = 40
WITHIN = 0.05


def main() -> None:
    """Prints and writes the figures."""
    workloads = find_space("mbconv-small", image_shape=(3, 32, 32)).workloads()
    rule = TimingRule()
    blocks: dict[tuple[str, str], list[float]] = {}
    overheads: list[float] = []
    keys = [workload.key for workload in workloads]
    with (
        tempfile.TemporaryDirectory() as folder,
        sshd.running(Path(folder)) as server,
        LocalProfiler("onnxruntime", 1) as here,
        SshProfiler(server.address(), "onnxruntime", 1) as there,
    ):
        both = {"local": here, "ssh": there}
        for profiler in both.values():
            for _ in profiler.load(workloads, rule):
                pass
        turns = [(key, name) for key in keys for name in both]
        for number in range(ROUNDS):
            random.Random(number).shuffle(turns)
            for key, name in turns:
                calls = here._loaded[key]
                begin = time.perf_counter()
                blocks.setdefault((key, name), []).append(both[name]._time_s(key, calls) / calls * 1e3)
                spent = time.perf_counter() - begin
                if name == "ssh":  # the same here: what is uncounted before a sample costs both the same
                    begin = time.perf_counter()
                    here._time_s(key, calls)
                    overheads.append(spent - (time.perf_counter() - begin))
    ratios = np.array([np.median(blocks[key, "ssh"]) / np.median(blocks[key, "local"]) for key in keys])
    result = {
        "rows": len(keys),
        "rounds": ROUNDS,
        "share_of_medians_within_5_percent": float((np.abs(ratios - 1) <= WITHIN).mean()),
        "median_ratio": float(np.median(ratios)),
        "worst_ratio": float(ratios[np.abs(ratios - 1).argmax()]),
        "overhead_per_sample_ms": float(np.median(overheads) * 1e3),
        "overhead_per_sample_p90_ms": float(np.percentile(overheads, 90) * 1e3),
    }
    for name, value in result.items():
        print(f"{name:<36} {value:.4g}")
    keep("ssh_loopback", result)


if __name__ == "__main__":
    main()
