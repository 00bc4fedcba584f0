"""One UNAS step, weights and architecture, against the plain implementation in ``plain.py``: time and peak memory, and
against a step of the warm-up, in which only the weights of networks learn.

    python -m benchmarks.search.step [--batch 16] [--size 64] [--threads 2] [--rounds 5]
    python -m benchmarks.search.step --device cuda --batch 192 --size 224 --bf16 --compile

Each variant is a process of its own, so that its peak memory is its own; the processes stay and take turns, so that
what else the machine does meets all of them. All use the estimator rebar with one architecture a minibatch. Separate
weights are those of each candidate, with the generalization gap by the means, and learn from the relaxation, as
published for ImageNet. Entangled ones are those of candidates that nest, and learn by the sandwich rule; without the
gap, and with it, for what the plain implementation computes.
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
from typing import Any, NamedTuple

from profilers.environment import spin_briefly

spin_briefly()  # before torch is imported, here and in the processes below

import torch  # noqa: E402

from benchmarks.report import keep  # noqa: E402
from benchmarks.search.plain import PlainUnas  # noqa: E402
from unas_hw.data import Batch  # noqa: E402
from unas_hw.distribution import ArchitectureDistribution  # noqa: E402
from unas_hw.estimators import find_estimator  # noqa: E402
from unas_hw.memory import StepPeak  # noqa: E402
from unas_hw.methods.unas.entangled import ends_of  # noqa: E402
from unas_hw.objectives import TaskLoss  # noqa: E402
from unas_hw.spaces import find_space  # noqa: E402
from unas_hw.spaces.chain import ChainSpace  # noqa: E402

CLASSES = 1000
PLAIN = "plain"


class Variant(NamedTuple):
    """A way of running the search."""

    entangled: bool
    gap_weight: float
    recompute: bool = False


VARIANTS = {
    PLAIN: None,
    "separate": Variant(entangled=False, gap_weight=0.5),
    "separate, recompute": Variant(entangled=False, gap_weight=0.5, recompute=True),
    "entangled": Variant(entangled=True, gap_weight=0.0),
    "entangled, gap": Variant(entangled=True, gap_weight=0.5),
}
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


def own_steps(space: ChainSpace, words: argparse.Namespace, variant: Variant) -> tuple[Callable[[], object], ...]:
    """A step and one of the warm-up, as ``UnasSearch`` does them; the latency is computed from the table in no time."""
    torch.manual_seed(0)
    supernet = space.supernet()
    if variant.entangled:
        supernet.entangle()
    supernet.to(words.device).set_memory(recompute=variant.recompute)
    supernet.bf16 = words.bf16
    if words.compile:
        supernet.compile_parts()
    distribution = ArchitectureDistribution([len(decision.choices) for decision in space.decisions], softening=0.08)
    w_optimizer = torch.optim.Adam(supernet.parameters(), 3e-4, weight_decay=3e-4, fused=True)
    alpha_optimizer = torch.optim.Adam(distribution.parameters(), 1e-3, weight_decay=1e-6)
    ends = ends_of(space, supernet) if variant.entangled else None
    task = TaskLoss(supernet, gap_weight=variant.gap_weight, gap="means", ends=ends)
    task.set_batches(batch(words, 1), batch(words, 2))
    estimator, generator = find_estimator("rebar", task), torch.Generator().manual_seed(0)

    def step_weights() -> None:
        torch.nn.utils.clip_grad_norm_(supernet.parameters(), 5.0)
        w_optimizer.step()

    def step() -> None:
        w_optimizer.zero_grad(set_to_none=True)
        alpha_optimizer.zero_grad(set_to_none=True)
        sample = estimator.draw(distribution, 1, generator)
        if ends:
            task.train_weights(sample)
        estimator.loss(sample, task, distribution).backward()
        alpha_optimizer.step()
        step_weights()

    def warm_up() -> None:
        w_optimizer.zero_grad(set_to_none=True)
        task.train_weights(estimator.draw(distribution, 1, generator))
        step_weights()

    return step, warm_up


def serve(words: argparse.Namespace) -> None:
    """A variant's process: each step that it is asked for, and the peak memory of all of them."""
    torch.set_num_threads(words.threads)
    space = find_space(words.space, image_shape=(3, words.size, words.size), classes=CLASSES, batch=words.batch)
    assert isinstance(space, ChainSpace)
    variant = VARIANTS[words.variant]
    with StepPeak(words.device) as memory:
        steps = own_steps(space, words, variant) if variant else (plain_step(space, words),)
        for step in steps * WARM_UP:
            step()
        print("ready", len(steps), flush=True)
        for line in sys.stdin:
            begin = time.perf_counter(), time.process_time()
            steps[int(line)]()
            if words.device != "cpu":
                torch.cuda.synchronize()
            print(time.perf_counter() - begin[0], time.process_time() - begin[1], memory.bytes(), flush=True)


class Seen(NamedTuple):
    """Of a variant's step, and of its step of the warm-up where it has one; peak bytes are of all so far."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    warm_up_s: float | None


def ask(process: subprocess.Popen[str], has_warm_up: bool) -> Seen:
    """One step of each kind."""
    assert process.stdin and process.stdout
    lines = []
    for number in range(1 + has_warm_up):
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
        lines.append(process.stdout.readline().split())
    warm_up_s = float(lines[1][0]) if has_warm_up else None
    return Seen(float(lines[0][0]), float(lines[0][1]), int(lines[-1][2]), warm_up_s)


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
            assert process.stdout
            ready, kinds = process.stdout.readline().split()
            assert ready == "ready", variant
            processes[variant] = process, int(kinds) > 1
        rounds = []
        for _ in range(words.rounds):
            rounds.append({variant: ask(*process) for variant, process in processes.items()})
            print("  ".join(f"{variant} {each.wall_s:.2f} s" for variant, each in rounds[-1].items()), flush=True)
    rows = [summary(variant, rounds, words.batch) for variant in VARIANTS]
    for row in rows:
        print(
            f"{row['variant']:<20} {row['wall_s']:7.2f} s {row['cpu_s']:7.2f} s of threads "
            f"{row['images_per_s']:8.1f} images/s {row['peak_bytes'] / 1e6:7.0f} MB   "
            f"{row['times_faster']:.2f} times as fast ({row['times_faster_cpu']:.2f} by threads), "
            f"{row['share_of_memory']:.2f} of the memory"
        )
    for row in rows[1:]:
        print(f"{row['variant']}: a step of the search takes {row['times_warm_up']:.2f} times one of the warm-up")
    if not words.dry:
        setting = {key: value for key, value in vars(words).items() if key not in {"variant", "dry"}}
        device = torch.cuda.get_device_name() if words.device != "cpu" else "cpu"
        name = "search_step" if words.device == "cpu" else f"search_step_{words.device}"
        keep(name, {"setting": setting, "torch_device": device, "load": os.getloadavg()[0], "rows": rows})


def summary(variant: str, rounds: list[dict[str, Seen]], images: int) -> dict[str, Any]:
    """Medians over the rounds, also of the ratios to the plain implementation and the warm-up in the same round."""
    own, plain = [each[variant] for each in rounds], [each[PLAIN] for each in rounds]
    wall_s = median(each.wall_s for each in own)
    row = {
        "variant": variant,
        "wall_s": wall_s,
        "cpu_s": median(each.cpu_s for each in own),
        "images_per_s": images / wall_s,
        "peak_bytes": own[-1].peak_bytes,
        "times_faster": median(theirs.wall_s / ours.wall_s for theirs, ours in zip(plain, own, strict=True)),
        "times_faster_cpu": median(theirs.cpu_s / ours.cpu_s for theirs, ours in zip(plain, own, strict=True)),
        "share_of_memory": own[-1].peak_bytes / plain[-1].peak_bytes,
    }
    if warm_up_s := [each.warm_up_s for each in own if each.warm_up_s]:
        row["warm_up_s"] = median(warm_up_s)
        row["times_warm_up"] = median(each.wall_s / each.warm_up_s for each in own if each.warm_up_s)
    return row


if __name__ == "__main__":
    main()
