"""The searches of ``known_truth``, and how shared weights rank: each group's own way from a budget to a network."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import kendalltau, spearmanr

from benchmarks.commands import ROOT
from benchmarks.tables.nas_bench_201 import Cells
from latency_tables.table import LatencyTable
from profilers.timing import Floats
from unas_hw.data import load_dataset
from unas_hw.jobs.search import search
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import TableMeter
from unas_hw.methods.registry import find_method
from unas_hw.methods.settings import settings_of
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.methods.unas.search import UnasSearch
from unas_hw.resources import Macs, Params
from unas_hw.runs import Run
from unas_hw.search.evidence import WEIGHTS, Evidence
from unas_hw.search.run_folder import CHECKPOINT
from unas_hw.spaces import find_space

SPACES = {"macro": str(ROOT / "examples" / "nas_bench_macro.py"), "201": "nas_bench_201?cells=1"}
TRUTH = {"macro": "nasbench_macro_cifar10.parquet", "201": "nb201_accuracy.parquet"}
IMAGES, VALID, PIXELS, PROBED, PROBED_SEED = 10_000, 1_112, 16, 200, 3
SPENT = "spent.json"
SEARCHES = ("now", "before", "fbnet")
BAND, POPULATION, TOURNAMENT, TIMED = 0.96, 50, 10, 9
Path_ = tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What all tasks share.

    Attributes:
        folder: Of tables, runs and results.
        space: A key of ``SPACES``.
        truth: Folder of the accuracies.
        table: Path of the latencies.
        device: Whose they are.
        epochs: Of warm-up and search, by group.
        budgets: Percent of the way from the fastest to the slowest network.
        finals: Of ``now``, as ``--finals`` takes it.
    """

    folder: Path
    space: str
    truth: Path
    table: Path
    device: str
    epochs: Mapping[str, tuple[int, int]]
    budgets: tuple[int, ...]
    finals: str = "none"

    @property
    def images(self) -> Path:
        """The ``.npz`` of all groups."""
        return self.folder / "images.npz"

    @cached_property
    def model(self) -> LatencyModel:
        """The latencies."""
        space = find_space(SPACES[self.space], image_shape=(3, PIXELS, PIXELS), classes=10, batch=1)
        return LatencyModel(space, LatencyTable.load(self.table))

    @cached_property
    def accuracies(self) -> dict[Path_, float]:
        """Of every network that was trained, in percent."""
        rows = pd.read_parquet(self.truth / TRUTH[self.space])
        if self.space == "macro":
            trained = rows.filter(like="test_acc").mean(axis=1)
            return {tuple(map(int, arch)): value for arch, value in zip(rows["arch"], trained, strict=True)}
        ops = Cells.read(rows["arch"].tolist(), rows["rep_arch_idx"].to_numpy(np.int64)).op.tolist()
        return {tuple(op): value for op, value in zip(ops, rows["cifar10_test_200ep"], strict=True)}

    def budget_ms(self, percent: int) -> float:
        """In milliseconds."""
        low_ms, high_ms = self.model.range
        return low_ms + percent / 100 * (high_ms - low_ms)

    @cached_property
    def networks(self) -> pd.DataFrame:
        """All usable ones: ``path``, ``accuracy``, ``ms``, ``macs``, ``params``."""
        space = self.model.space
        paths_NG = np.array(list(self.accuracies))
        paths_NG = paths_NG[space.usable(paths_NG)]
        paths = [tuple(path) for path in paths_NG.tolist()]
        costs = {"ms": self.model, "macs": Macs(space), "params": Params(space)}
        columns = {name: cost.values(paths_NG) for name, cost in costs.items()}
        return pd.DataFrame({"path": paths, "accuracy": [self.accuracies[path] for path in paths], **columns})


@dataclass(frozen=True)
class Task:
    """All budgets of a group and a seed."""

    group: str
    seed: int


def config_of(group: str, epochs: tuple[int, int]) -> UnasConfig:
    """Hyper-parameters of a group."""
    config = find_method("fbnet").config() if group == "fbnet" else UnasConfig()
    assert isinstance(config, UnasConfig)
    config = config.before() if group == "before" else config
    return replace(config, warmup_epochs=epochs[0], epochs=epochs[1], finetune_epochs=0)


def step_s(plan: Plan, group: str) -> tuple[float, float]:
    """Median processor time of a step of the warm-up, and of the search."""
    found = []
    for epochs in ((1, 0), (0, 1)):
        config, data = config_of(group, epochs), load_dataset(str(plan.images))
        with tempfile.TemporaryDirectory() as folder:
            run = Run.begin(Path(folder) / "run", {})
            meter = TableMeter(plan.model)
            steps = UnasSearch(plan.model.space, plan.model, meter, data, plan.budget_ms(50), config, run).steps()
            times = []
            for _ in range(TIMED):
                begin = time.process_time()
                next(steps)
                times.append(time.process_time() - begin)
        found.append(median(times[2:]))
    return found[0], found[1]


def do(plan: Plan, task: Task) -> list[dict[str, Any]]:
    """All budgets of a group and a seed."""
    torch.set_num_threads(1)
    os.chdir(plan.folder)
    os.environ["UNAS_HW_HOME"] = str(plan.folder / "home")
    return evolved(plan, task) if task.group == "evolution" else searched(plan, task)


def searched(plan: Plan, task: Task) -> list[dict[str, Any]]:
    """By ``unas-hw search``; the warm-up once."""
    rows, epochs = [], plan.epochs[task.group]
    last = epochs[0] * (IMAGES // UnasConfig().batch_size)  # step of the warm-up
    config = config_of(task.group, epochs)
    told = {name: value for name, value in vars(config).items() if name not in ("seed", "method")}
    warm = plan.folder / f"warm-{task.group}-{task.seed}"
    for percent in plan.budgets:
        name = f"{task.group}-{task.seed}-{percent}"
        if (kept := plan.folder / f"{name}.json").exists():
            row = json.loads(kept.read_text())
            rows.append({**row, **_answer(plan, percent, tuple(row["path"]))})
            continue
        settings = settings_of(
            budget=f"{percent}%",
            space=SPACES[plan.space],
            device=plan.device,
            dataset=str(plan.images),
            table=str(plan.table),
            method="fbnet" if task.group == "fbnet" else "unas",
            seed=task.seed,
            run=name,
            unas=told,
            finals=plan.finals if task.group == "now" else "none",
            workers=1,
        )
        if (
            warm.exists() and not (plan.folder / "runs" / name).exists()
        ):  # the run is begun, and goes on with what is the same for all of them
            _until(search(settings), lambda step: step.stage == "warm-up")
            shutil.copytree(warm, plan.folder / "runs" / name, dirs_exist_ok=True)
        begin, alone = time.process_time(), not warm.exists()
        if alone:
            _until(search(settings), lambda step: step.stage == "warm-up" and bool(step.epoch) and step.done == last)
            warm.mkdir()
            for each in (CHECKPOINT, "metrics.jsonl"):
                shutil.copy(plan.folder / "runs" / name / each, warm)
            (warm / "warm_s.json").write_text(json.dumps(time.process_time() - begin))
        found = _until(search(settings), lambda step: False)
        warm_s = json.loads((warm / "warm_s.json").read_text())
        spent_s = time.process_time() - begin - (warm_s if alone else 0.0)
        path = plan.model.space.indices(plan.model.space.parse(found["architecture"]))
        row = {**vars(task), "budget": percent, "warm_s": warm_s, "search_s": spent_s, **_answer(plan, percent, path)}
        row |= {
            key: found.get(key) / found["budget_ms"]
            for key in ("expected_ms", "mode_ms", "target_ms", "measured_ms")
            if found.get(key)
        }
        row |= _learnt(plan, Run.open(plan.folder / "runs" / name))
        kept.write_text(json.dumps(row))
        rows.append(row)
    return rows


def _until(job: Any, stop: Callable[[Any], bool]) -> dict[str, Any]:
    """The result of a job, or nothing where it is left."""
    with closing(job):
        while True:
            try:
                if stop(next(job)):
                    return {}
            except StopIteration as end:
                result: dict[str, Any] = end.value
                return result


def _answer(plan: Plan, percent: int, path: Path_) -> dict[str, Any]:
    networks, budget_ms = plan.networks, plan.budget_ms(percent)
    able = networks[networks["ms"] <= budget_ms]
    best, best_of_band = able["accuracy"].max(), able["accuracy"][able["ms"] >= BAND * budget_ms].max()
    accuracy = plan.accuracies[path]
    used = plan.model.latency_ms(path) / budget_ms
    regrets = {"regret": best - accuracy, "band_regret": best_of_band - accuracy}
    return {"path": path, "accuracy": accuracy, **regrets, "used": used}


def _learnt(plan: Plan, run: Run) -> dict[str, Any]:
    """Correlation of alpha with what choices add to the true accuracy, and with what they add to the latency."""
    saved = run.load_tensors(CHECKPOINT)
    assert saved is not None
    alpha, networks = saved[0]["distribution.alpha"].numpy(), plan.networks
    paths_NG = np.array(networks["path"].tolist())
    found: dict[str, list[float]] = {"alpha": [], "accuracy": [], "ms": []}
    for place, decision in enumerate(plan.model.space.decisions):
        for values, name in (
            (alpha[place], "alpha"),
            *((networks[each].to_numpy(), each) for each in ("accuracy", "ms")),
        ):
            means = [
                values[choice] if name == "alpha" else values[paths_NG[:, place] == choice].mean()
                for choice in range(len(decision.choices))
            ]
            found[name] += [float(mean - np.mean(means)) for mean in means]
    return {f"alpha_and_{name}": float(np.corrcoef(found["alpha"], found[name])[0, 1]) for name in ("accuracy", "ms")}


class Losses:
    """Of networks with shared weights; each is computed once, and its time counted wherever it is asked for."""

    def __init__(self, unas: UnasSearch) -> None:
        self.unas = unas
        self.known: dict[Path_, tuple[float, float]] = {}

    def __call__(self, path: Path_) -> tuple[float, float]:
        """The loss, and the seconds that it takes."""
        if path not in self.known:
            begin = time.process_time()
            loss = float(self.unas.compared_losses(path).mean())
            self.known[path] = (loss, time.process_time() - begin)
        return self.known[path]


def evolved(plan: Plan, task: Task) -> list[dict[str, Any]]:
    """Uniform paths for the epochs of ``now``, then evolution for what is left of its time; and how the loss ranks."""
    kept = plan.folder / f"evolution-{task.seed}.json"
    if kept.exists():
        done: list[dict[str, Any]] = json.loads(kept.read_text())
        return done
    model, epochs = plan.model, plan.epochs["now"]
    run = Run.begin(plan.folder / "runs" / f"evolution-{task.seed}", {})
    config = replace(config_of("now", (sum(epochs), 0)), seed=task.seed)
    unas = UnasSearch(
        model.space, model, TableMeter(model), load_dataset(str(plan.images), seed=task.seed), plan.budget_ms(50),
        config, run,
    )  # fmt: skip
    unas.resume()
    warm_s = run.read_json(SPENT)["warm_s"] if (run.path / SPENT).exists() else 0.0
    begin = time.process_time()
    for progress in unas.steps():
        if progress.metrics:  # an epoch is done, from which a run goes on
            run.write_json(SPENT, {"warm_s": warm_s + time.process_time() - begin})
    warm_s = run.read_json(SPENT)["warm_s"]
    losses = Losses(unas)
    rows = [{"group": "rank", "seed": task.seed, "warm_s": warm_s, **rank(plan, losses)}]
    for percent in plan.budgets:
        now = json.loads((plan.folder / f"now-{task.seed}-{percent}.json").read_text())
        left_s = now["warm_s"] + now["search_s"] - warm_s
        path, looked_at = evolve(plan, percent, losses, left_s, random.Random(task.seed))
        row = {**vars(task), "budget": percent, "warm_s": warm_s, "search_s": left_s, "networks": looked_at}
        rows.append({**row, **_answer(plan, percent, path)})
    kept.write_text(json.dumps(rows))
    return rows


def rank(plan: Plan, losses: Losses) -> dict[str, Any]:
    """Correlations of scores with the true accuracies, over random networks: of what the search ranks by, and alone."""
    rows = plan.networks.sample(PROBED, random_state=PROBED_SEED)
    if plan.space == "macro":  # in the order of the published file, whose rows a seed then names
        order = pd.DataFrame({"path": list(plan.accuracies)}).sample(PROBED, random_state=PROBED_SEED)
        rows = plan.networks.set_index("path").loc[order["path"].tolist()].reset_index()
    accuracy = rows["accuracy"].to_numpy()
    scores = {
        "loss": np.array([-losses(path)[0] for path in rows["path"]]),
        "macs": rows["macs"].to_numpy(),
        "params": rows["params"].to_numpy(),
    }
    unas = losses.unas
    for score in WEIGHTS:
        evidence = Evidence(unas.space, lambda path: torch.tensor(losses(path)[0]), unas.data, unas.config.seed, score)
        place = {path: number for number, path in enumerate(evidence.order(rows["path"].tolist()))}
        scores[score] = np.array([-place[path] for path in rows["path"]])
    return {name: correlations(score, accuracy) for name, score in scores.items()}


def correlations(score: Floats, accuracy: Floats) -> dict[str, float]:
    """Over all, in the better half, in the top tenth."""
    found: dict[str, Any] = {"spearman": spearmanr(score, accuracy)[0], "tau": kendalltau(score, accuracy)[0]}
    for name, quantile in (("better half", 0.5), ("top tenth", 0.9)):
        those = accuracy >= np.quantile(accuracy, quantile)
        found[name] = spearmanr(score[those], accuracy[those])[0]
    return {name: float(value) for name, value in found.items()}


def evolve(plan: Plan, percent: int, losses: Losses, seconds: float, rng: random.Random) -> tuple[Path_, int]:
    """The network of the lowest shared loss that was looked at, and how many were."""
    model, limit_ms = plan.model, plan.budget_ms(percent)
    counts = [len(decision.choices) for decision in model.space.decisions]

    def fits(path: Path_) -> bool:
        return model.space.is_usable(path) and model.latency_ms(path) <= limit_ms

    def draw() -> Path_:
        while True:
            path = tuple(rng.randrange(count) for count in counts)
            if fits(path):
                return path

    def mutant(path: Path_) -> Path_:
        while True:
            place = rng.randrange(len(path))
            changed = (*path[:place], rng.randrange(counts[place]), *path[place + 1 :])
            if changed != path and fits(changed):
                return changed

    seen: dict[Path_, float] = {}
    alive: deque[Path_] = deque()
    asked = 0
    while seconds > 0 and asked < 20 * len(plan.accuracies):
        parent = min(rng.sample(alive, TOURNAMENT), key=seen.__getitem__) if len(alive) == POPULATION else None
        path = mutant(parent) if parent else draw()
        if path not in seen:
            seen[path], spent = losses(path)
            seconds -= spent
        asked += 1
        alive.append(path)
        if len(alive) > POPULATION:
            alive.popleft()
    return min(seen, key=seen.__getitem__), len(seen)
