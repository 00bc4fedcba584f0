"""UNAS on real images against random networks, the largest, and cheaper searches at equal time.

    python -m benchmarks.search.fashion_mnist --data DIR [--images 12000] [--seeds 3] [--workers 2] [--folder DIR]

``DIR`` has the four idx files of Fashion-MNIST. The space is ``mbconv-small``, the device ``sim:phone`` (so that what
else the machine does cannot change a latency), the budget 40% of the way from the smallest to the largest network.
Every network is trained from scratch equally, with all images of the search, and looks at the 10,000 test images once:

- ``unas``, ``fbnet``, ``reinforce``: found by ``unas-hw search``, one for each seed. The cheaper two search for as many
  more whole epochs as UNAS's take, and warm up longer for what is left of that time;
- ``random``: drawn uniformly from the networks that take 80 to 100% of the budget;
- ``largest``: the one with the most multiply-accumulates within the budget.

Each command has one thread, and times are those of its processor, so that commands may run side by side. In
``--folder`` lies what is done; the same command goes on there.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from benchmarks.commands import unas_hw, working_folder
from benchmarks.report import keep
from latency_tables.table import LatencyTable
from unas_hw.data import Dataset, idx, in_order, load_dataset
from unas_hw.data.pixels import Memory
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import TableMeter
from unas_hw.methods.registry import find_method
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.methods.unas.entangled import supernet_of
from unas_hw.methods.unas.search import UnasSearch
from unas_hw.optimizer_state import under
from unas_hw.runs import Run
from unas_hw.search.run_folder import CHECKPOINT
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space

SPACE, SHARE = "mbconv-small", 0.4
LEAST = 0.8
"""Share of the budget that random networks use at least."""
RANDOM = 12
WARMUP, METHODS = "warm-up", ("unas", "fbnet", "reinforce")
PROBED = 9


@dataclass(frozen=True)
class Plan:
    """What all tasks share.

    Attributes:
        folder: Of tables, runs and results.
        images: The ``.npz``.
        epochs: Of warm-up and search, by method.
        trained: Epochs of the training from scratch.
    """

    folder: Path
    images: Path
    epochs: dict[str, tuple[int, int]]
    trained: int


@dataclass(frozen=True)
class Task:
    """One network: found by a method, or given."""

    group: str
    seed: int
    architecture: str | None = None
    name: str = ""


def subset(folder: Path, target: Path, count: int) -> None:
    """The first ``count`` training images and all test images as an ``.npz``."""
    source = idx.read(folder)
    assert isinstance(source.pixels, Memory)
    images, labels, train = source.pixels.tensor[:, 0].numpy(), source.y.numpy(), source.counts[0]
    parts = [images[:count], labels[:count], images[train:], labels[train:]]
    np.savez(target, images=parts[0], labels=parts[1], test_images=parts[2], test_labels=parts[3])


def seconds_a_step(
    method: str, space: SearchSpace, model: LatencyModel, data: Dataset, budget_ms: float, folder: Path
) -> float:
    """Median processor time of a few steps of the search proper, or of the warm-up, which is that of all methods."""
    found = UnasConfig(epochs=0) if method == WARMUP else find_method(method).config()
    assert isinstance(found, UnasConfig)
    config = found if method == WARMUP else replace(found, warmup_epochs=0)
    run = Run.begin(folder / "runs" / f"probe-{method}-{time.time_ns()}", {})
    steps = UnasSearch(space, model, TableMeter(model), data, budget_ms, config, run).steps()
    times = []
    for _ in range(PROBED):
        begin = time.process_time()
        next(steps)
        times.append(time.process_time() - begin)
    return median(times[2:])


def do(plan: Plan, task: Task) -> dict[str, Any]:
    """Searches, where the task does, and trains; both as a user would."""
    kept = plan.folder / f"{task.name}.json"
    if kept.exists():
        done: dict[str, Any] = json.loads(kept.read_text())
        return done
    words, spent = ["--run", task.name], {}
    if task.architecture is None:
        warmup, proper = map(str, plan.epochs[task.group])
        epochs = ["--warmup-epochs", warmup, "--epochs", proper]
        search = ["search", "--space", SPACE, "--device", "sim:phone", "--latency-budget", f"{SHARE:.0%}"]
        search += ["--dataset", str(plan.images), "--method", task.group, "--seed", str(task.seed), *words, *epochs]
        search += ["--finals", "none"]  # all are trained afterwards
        before = _children_s()
        found = unas_hw(plan.folder, *search, "--set", "unas.finetune_epochs=0")
        spent["search_s"] = _children_s() - before
        spent["measured_share"] = found["measured_ms"] / found["budget_ms"]
        spent["valid_accuracy"] = found["valid_accuracy"]
    else:
        words = ["--architecture", task.architecture, "--dataset", str(plan.images), "--name", task.name]
    before = _children_s()
    how = ["--epochs", str(plan.trained), "--seed", str(task.seed), "--channels-last"]
    trained = unas_hw(plan.folder, "train", *words, *how)
    spent["train_s"] = _children_s() - before
    row = {"group": task.group, "seed": task.seed, **spent}
    row |= {key: trained[key] for key in ("architecture", "test_accuracy", "params", "macs")}
    kept.write_text(json.dumps(row))
    return row


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def random_paths(model: LatencyModel, budget_ms: float, count: int) -> list[tuple[int, ...]]:
    """Uniform from the networks that use most of the budget."""
    rng, choices = np.random.default_rng(0), [len(decision.choices) for decision in model.space.decisions]
    paths_NG = np.stack([rng.integers(0, each, 20_000) for each in choices], 1)
    shares = model.values(paths_NG) / budget_ms
    fitting = paths_NG[(shares >= LEAST) & (shares <= 1) & model.space.usable(paths_NG)]
    return [tuple(path) for path in fitting[:count].tolist()]


def largest_path(model: LatencyModel, budget_ms: float) -> tuple[int, ...]:
    """The most multiply-accumulates within the budget: in a chain they add up over the decisions."""
    space, first = model.space, (1,) * len(model.space.decisions)

    def macs(place: int, choice: int) -> int:
        path = [*first[:place], choice, *first[place + 1 :]]
        return space.workload(space.architecture(tuple(path))).cost.macs

    pairs = [(place, len(decision.choices)) for place, decision in enumerate(space.decisions)]
    scores = [torch.tensor([macs(place, choice) / 1e6 for choice in range(count)]).double() for place, count in pairs]
    return model.most_probable(scores, 0.0, budget_ms, 1)[0]


@torch.no_grad()
def rank_correlation(plan: Plan, space: SearchSpace, seed: int, rows: list[dict[str, Any]]) -> float:
    """Spearman's, over the random networks, of the validation loss with the weights that a UNAS search shared and of
    the error that each network has after a training of its own; 1 if the shared weights rank as training does.
    """
    saved = Run.open(plan.folder / "runs" / f"unas-{seed}").load_tensors(CHECKPOINT)
    assert saved is not None
    supernet, _ = supernet_of(space, UnasConfig())
    supernet.load_state_dict(under(saved[0], "supernet"))
    supernet.eval()
    valid = load_dataset(str(plan.images), seed=seed).valid
    losses = []
    for row in rows:
        choices = zip(space.decisions, space.parse(row["architecture"]).choices, strict=True)
        path = tuple(decision.choices.index(choice) for decision, choice in choices)
        logits = torch.cat([supernet(part.x, path) for part in in_order(valid, 64)])
        losses.append(float(cross_entropy(logits, valid.y)))
    return rank_correlated(losses, [-row["test_accuracy"] for row in rows])


def rank_correlated(left: list[float], right: list[float]) -> float:
    """Spearman's correlation."""
    return float(pd.Series(left).rank().corr(pd.Series(right).rank()))


def summary(rows: list[dict[str, Any]], plan: Plan, facts: dict[str, Any]) -> dict[str, Any]:
    """Means by group; how far UNAS is above the random ones."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row["test_accuracy"])
    means: dict[str, dict[str, Any]] = {
        group: {
            "networks": len(values),
            "mean": fmean(values),
            "standard_error": stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None,
            "search_s": _mean(rows, group, "search_s"),
            "train_s": _mean(rows, group, "train_s"),
        }
        for group, values in groups.items()
    }
    result = {**facts, "epochs": plan.epochs, "trained_epochs": plan.trained}
    if {"unas", "random"} <= groups.keys() and min(len(groups["unas"]), len(groups["random"])) > 1:
        unas, random = means["unas"], means["random"]
        error = math.hypot(unas["standard_error"], random["standard_error"])
        ranks = [fmean(value > other for other in groups["random"]) for value in groups["unas"]]
        result["unas_above_random"] = {
            "points": 100 * (unas["mean"] - random["mean"]),
            "standard_errors": (unas["mean"] - random["mean"]) / error,
            "percentiles": [100 * rank for rank in ranks],
        }
    return {**result, "groups": means, "rows": sorted(rows, key=lambda row: (row["group"], row["seed"]))}


def _mean(rows: list[dict[str, Any]], group: str, key: str) -> float | None:
    values = [row[key] for row in rows if row["group"] == group and key in row]
    return fmean(values) if values else None


def main() -> None:
    """All tasks; the result is kept after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--groups", nargs="*", default=[*METHODS, "random", "largest"])
    parser.add_argument("--warmup", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--trained", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--name", default="search_fashion_mnist", help="of the file under results/")
    words = parser.parse_args()
    torch.set_num_threads(1)
    with working_folder(words.folder) as folder:
        images = folder / "images.npz"
        if not images.exists():
            subset(words.data, images, words.images)
        data = load_dataset(str(images))
        space = find_space(SPACE, image_shape=data.image_shape, classes=data.classes)
        profiled = unas_hw(folder, "profile", "--space", SPACE, "--dataset", str(images), "--device", "sim:phone")
        model = LatencyModel(space, LatencyTable.load(Path(profiled["path"])))
        smallest_ms, largest_ms = model.latency_ms(model.smallest), model.latency_ms(model.largest)
        budget_ms = smallest_ms + SHARE * (largest_ms - smallest_ms)
        stages = (WARMUP, *METHODS)
        step_s = {stage: seconds_a_step(stage, space, model, data, budget_ms, folder) for stage in stages}
        epochs = {}
        for method in METHODS:
            proper, left_s = divmod(words.epochs * step_s["unas"], step_s[method])
            epochs[method] = (words.warmup + round(left_s / step_s[WARMUP]), int(proper))
        plan = Plan(folder, images, epochs, words.trained)
        facts = {"budget_ms": budget_ms, "images": words.images, "seconds_a_step": step_s}
        print(f"{facts}, epochs {epochs}", flush=True)
        tasks = [Task(method, seed, None, f"{method}-{seed}") for method in METHODS for seed in words.seeds]
        for number, path in enumerate(random_paths(model, budget_ms, RANDOM)):
            seed = words.seeds[number % len(words.seeds)]
            tasks.append(Task("random", seed, str(space.architecture(path)), f"random-{number}"))
        largest = str(space.architecture(largest_path(model, budget_ms)))
        tasks += [Task("largest", seed, largest, f"largest-{seed}") for seed in words.seeds]
        tasks = [task for group in words.groups for task in tasks if task.group == group]
        rows: list[dict[str, Any]] = []
        with ProcessPoolExecutor(words.workers, get_context("spawn")) as pool:
            for future in as_completed([pool.submit(do, plan, task) for task in tasks]):
                rows.append(row := future.result())
                keep(words.name, summary(rows, plan, facts))
                spent = f"searched {row.get('search_s', 0):.0f} s, trained {row['train_s']:.0f} s"
                print(
                    f"{row['group']} {row['seed']}: {row['test_accuracy']:.2%}, {row['macs'] / 1e6:.2f}M MACs, {spent}",
                    flush=True,
                )
        random = [row for row in rows if row["group"] == "random"]
        if random:
            seeds = [row["seed"] for row in rows if row["group"] == "unas"]
            facts["rank_correlation_of_shared_loss"] = [rank_correlation(plan, space, each, random) for each in seeds]
            accuracies = [row["test_accuracy"] for row in random]
            facts["rank_correlation_of_macs"] = rank_correlated([row["macs"] for row in random], accuracies)
            keep(words.name, summary(rows, plan, facts))
        total = summary(rows, plan, facts)
        for group, each in total["groups"].items():
            print(f"{group:10} {each['mean']:.2%}, standard error {each['standard_error'] or math.nan:.2%}")
        for name in ("unas_above_random", "rank_correlation_of_shared_loss", "rank_correlation_of_macs"):
            print(name, total.get(name))


if __name__ == "__main__":
    main()
