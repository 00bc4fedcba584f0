"""One UNAS step, weights and architecture, against the plain implementation in ``plain.py``: time and peak memory.

    python -m benchmarks.search.step [--batch 16] [--size 64] [--threads 2] [--rounds 5]
    python -m benchmarks.search.step --device cuda --batch 192 --size 224 --bf16 --compile

Each variant is a process of its own, so that its peak memory is its own; the processes stay and take turns, so that
what else the machine does meets all of them. The search is that of ``unas-hw search`` as published for ImageNet:
estimator rebar, generalization gap by the means, one architecture a minibatch, weights from the relaxation.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from typing import Any

from profilers.environment import spin_briefly

spin_briefly()  # before torch is imported, here and in the processes below

import torch  # noqa: E402

from benchmarks.report import keep  # noqa: E402
from benchmarks.search.plain import PlainUnas  # noqa: E402
from unas_hw.data import Batch  # noqa: E402
from unas_hw.distribution import ArchitectureDistribution  # noqa: E402
from unas_hw.estimators import find_estimator  # noqa: E402
from unas_hw.memory import StepPeak  # noqa: E402
from unas_hw.objectives import TaskLoss  # noqa: E402
from unas_hw.spaces import find_space  # noqa: E402
from unas_hw.spaces.chain import ChainSpace  # noqa: E402

CLASSES = 1000
VARIANTS = ("plain", "ours", "ours, recompute")
WARM_UP = 2
"""Steps before what is measured; ``--compile`` compiles in them whatever paths they meet."""


def batch(words: argparse.Namespace, seed: int) -> Batch:
    """Noise: neither time nor memory depends on what is learnt."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(words.batch, 3, words.size, words.size, generator=generator)
    return Batch(x.to(words.device), torch.randint(CLASSES, (words.batch,), generator=generator).to(words.device))


def plain_step(space: ChainSpace, words: argparse.Namespace) -> Callable[[], object]:
    """As in ``plain.py``."""
    search, train, valid = PlainUnas(space, words.device), batch(words, 1), batch(words, 2)
    return lambda: search.step((train.x, train.y), (valid.x, valid.y))


def own_step(space: ChainSpace, words: argparse.Namespace, *, recompute: bool) -> Callable[[], object]:
    """As ``UnasSearch`` does it, without the latency, which is computed from the table in no time."""
    torch.manual_seed(0)
    supernet = space.supernet().to(words.device)
    supernet.set_memory(recompute=recompute)
    supernet.bf16 = words.bf16
    if words.compile:
        supernet.compile_parts()
    distribution = ArchitectureDistribution([len(decision.choices) for decision in space.decisions], softening=0.08)
    w_optimizer = torch.optim.Adam(supernet.parameters(), 3e-4, weight_decay=3e-4, fused=True)
    alpha_optimizer = torch.optim.Adam(distribution.parameters(), 1e-3, weight_decay=1e-6)
    task = TaskLoss(supernet, gap_weight=0.5, gap="means")
    task.set_batches(batch(words, 1), batch(words, 2))
    estimator, generator = find_estimator("rebar", task), torch.Generator().manual_seed(0)

    def step() -> None:
        w_optimizer.zero_grad(set_to_none=True)
        alpha_optimizer.zero_grad(set_to_none=True)
        sample = estimator.draw(distribution, 1, generator)
        estimator.loss(sample, task, distribution).backward()
        alpha_optimizer.step()
        torch.nn.utils.clip_grad_norm_(supernet.parameters(), 5.0)
        w_optimizer.step()

    return step


def serve(words: argparse.Namespace) -> None:
    """A variant's process: a step for each line it is sent, then the peak memory of all of them."""
    torch.set_num_threads(words.threads)
    space = find_space(words.space, image_shape=(3, words.size, words.size), classes=CLASSES, batch=words.batch)
    assert isinstance(space, ChainSpace)
    with StepPeak(words.device) as memory:
        if words.variant == "plain":
            step = plain_step(space, words)
        else:
            step = own_step(space, words, recompute=words.variant.endswith("recompute"))
        for _ in range(WARM_UP):
            step()
        print("ready", flush=True)
        for _ in sys.stdin:
            begin = time.perf_counter(), time.process_time()
            step()
            if words.device != "cpu":
                torch.cuda.synchronize()
            print(time.perf_counter() - begin[0], time.process_time() - begin[1], memory.bytes(), flush=True)


def ask(process: subprocess.Popen[str]) -> tuple[float, float, int]:
    """One step of a process: seconds by the clock, seconds of its threads, peak bytes so far."""
    assert process.stdin and process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    wall_s, cpu_s, peak_bytes = process.stdout.readline().split()
    return float(wall_s), float(cpu_s), int(peak_bytes)


def main() -> None:
    """All variants in turn, their medians, and ratios within each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="mbconv")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="ours in bfloat16")
    parser.add_argument("--compile", action="store_true", help="ours with torch.compile")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    words = parser.parse_args()
    if words.variant:
        serve(words)
        return
    with ExitStack() as stack:
        processes = {}
        for variant in VARIANTS:
            command = [sys.executable, "-m", "benchmarks.search.step", *sys.argv[1:], "--variant", variant]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            assert process.stdout and process.stdout.readline() == "ready\n", variant
            processes[variant] = process
        rounds = []
        for _ in range(words.rounds):
            rounds.append({variant: ask(process) for variant, process in processes.items()})
            print("  ".join(f"{variant} {each[0]:.2f} s" for variant, each in rounds[-1].items()), flush=True)
    rows = [summary(variant, rounds, words.batch) for variant in VARIANTS]
    for row in rows:
        print(
            f"{row['variant']:<16} {row['wall_s']:7.2f} s {row['cpu_s']:7.2f} s of threads "
            f"{row['images_per_s']:8.1f} images/s {row['peak_bytes'] / 1e6:7.0f} MB   "
            f"{row['times_faster']:.2f} times as fast ({row['times_faster_cpu']:.2f} by threads), "
            f"{row['share_of_memory']:.2f} of the memory"
        )
    if not words.dry:
        setting = {key: value for key, value in vars(words).items() if key not in {"variant", "dry"}}
        device = torch.cuda.get_device_name() if words.device != "cpu" else "cpu"
        name = "search_step" if words.device == "cpu" else f"search_step_{words.device}"
        keep(name, {"setting": setting, "torch_device": device, "load": os.getloadavg()[0], "rows": rows})


def summary(variant: str, rounds: list[dict[str, tuple[float, float, int]]], images: int) -> dict[str, Any]:
    """Medians over the rounds, also of the ratios to the plain implementation in the same round."""
    wall_s = median(each[variant][0] for each in rounds)
    peak_bytes = rounds[-1][variant][2]
    return {
        "variant": variant,
        "wall_s": wall_s,
        "cpu_s": median(each[variant][1] for each in rounds),
        "images_per_s": images / wall_s,
        "peak_bytes": peak_bytes,
        "times_faster": median(each["plain"][0] / each[variant][0] for each in rounds),
        "times_faster_cpu": median(each["plain"][1] / each[variant][1] for each in rounds),
        "share_of_memory": peak_bytes / rounds[-1]["plain"][2],
    }


if __name__ == "__main__":
    main()
