"""What processes that search together send each step: bytes, and the share of the step that it takes.

    python -m benchmarks.search.communication [--processes 2] [--steps 5]

Each process has one thread, one architecture a step and its part of 16 images a process; messages go by gloo through
this machine's loopback, so a network between machines adds what its bandwidth and latency are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import keep
from profilers.registry import open_profiler
from profilers.timing import timing_rule
from unas_hw.data import Dataset, Split
from unas_hw.distributed import Ranks, join, leave
from unas_hw.jobs.profile import profile
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import TableMeter
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.methods.unas.search import UnasSearch
from unas_hw.progress import finish
from unas_hw.runs import Run
from unas_hw.spaces import find_space

SPACES = {"mbconv-small": (1, 28), "mbconv": (3, 64)}
"""Channels and pixels of the images."""
IMAGES = 16


@dataclass(frozen=True)
class Counted(Ranks):
    """Ranks that write down what ``sum_`` sends: bytes and seconds."""

    sent: list[tuple[int, float]] = field(default_factory=list)

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        torch.distributed.barrier()  # waiting for a slower process is no communication
        begin = time.perf_counter()
        super().sum_(tensors)
        # The message is of the widest type among the tensors.
        width = max(each.element_size() for each in tensors)
        self.sent.append((width * sum(each.numel() for each in tensors), time.perf_counter() - begin))


def work(name: str, steps: int, folder: Path) -> dict[str, Any]:
    """One of the processes: median bytes and seconds of a step."""
    torch.set_num_threads(1)
    alone = join()
    ranks = Counted(alone.rank, alone.world)
    channels, pixels = SPACES[name]
    space = find_space(name, image_shape=(channels, pixels, pixels), classes=10)
    path = folder / f"{name}-{ranks.rank}.jsonl"
    table = finish(profile(space, open_profiler("sim:phone"), path=path, rule=timing_rule(4), networks=0))
    model = LatencyModel(space, table)
    count = IMAGES * ranks.world
    split = Split(torch.randn(count, channels, pixels, pixels), torch.randint(10, (count,)))
    data = Dataset("noise", 10, split, split, split, torch.zeros(1), torch.ones(1))
    config = UnasConfig(
        warmup_epochs=0, epochs=steps, batch_size=count, architectures=ranks.world, diagnose_every=10**6
    )
    run = Run.begin(folder / f"run-{name}-{ranks.rank}", {})
    step = UnasSearch(space, model, TableMeter(model), data, model.median_ms, config, run, ranks=ranks).rehearse()
    rows = []
    for _ in range(steps):
        ranks.sent.clear()
        begin = time.perf_counter()
        step()
        seconds = time.perf_counter() - begin
        rows.append((sum(size for size, _ in ranks.sent), sum(took for _, took in ranks.sent), seconds))
    leave()
    sent, took, seconds = (median(column) for column in zip(*rows, strict=True))
    return {"space": name, "bytes": sent, "messages": len(ranks.sent), "sending_s": took, "step_s": seconds}


def main() -> None:
    """Starts the processes of each space, and keeps what the first one says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--work", nargs=2, metavar=("SPACE", "FOLDER"), help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.work:
        mine = work(words.work[0], words.steps, Path(words.work[1]))
        if os.environ["RANK"] == "0":
            print(json.dumps(mine))
        return
    rows = []
    for name in SPACES:
        with tempfile.TemporaryDirectory() as folder:
            start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(words.processes)]
            program = ["-m", "benchmarks.search.communication", "--steps", str(words.steps), "--work", name, folder]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            command = [sys.executable, *start, *program]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        rows.append(row)
        share = row["sending_s"] / row["step_s"]
        print(
            f"{name}: {row['bytes'] / 1e6:.2f} MB in {row['messages']} messages, {share:.1%} of {row['step_s']:.2f} s"
        )
    keep("search_communication", {"processes": words.processes, "images_a_process": IMAGES, "rows": rows})


if __name__ == "__main__":
    main()
