"""RL-DARTS and PPO on a game: the supernet plays and learns, its cell is trained from scratch beside others.

    python -m benchmarks.rl minatar:breakout [--folder DIR] [--only ARM]
    python -m benchmarks.rl procgen:starpilot [--folder DIR] [--only ARM]

Arms, each with every seed, and all but the first two at equal steps: ``curve``, PPO with the residual blocks of IMPALA
for its learning curve; ``search``, the supernet; ``baseline``, IMPALA's blocks; ``cell``, the likeliest cell of the
same seed's search; ``half``, its likeliest cell of half the latency of that, where there is one, or as little as there
is; ``random``, a cell that is drawn. Latencies are predicted from a table of this machine (onnxruntime, one thread),
which is profiled first. What is finished in ``--folder`` is not done again; arms can be run side by side. Returns are
those of 100 episodes with drawn actions, in all levels there are; intervals are Student's over seeds.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

from benchmarks.report import RESULTS, keep
from latency_tables.table import LatencyTable
from profilers.registry import open_profiler
from unas_hw.jobs.profile import profile
from unas_hw.jobs.search import search
from unas_hw.latency_model import LatencyModel
from unas_hw.methods.rl_darts.config import PpoConfig, RlDartsConfig, ppo_for
from unas_hw.methods.rl_darts.policy import judged, trained
from unas_hw.methods.rl_darts.search import choice_log_probs
from unas_hw.ops.impala import Policy
from unas_hw.progress import Job
from unas_hw.runs import Run
from unas_hw.search.settings import SearchSettings
from unas_hw.space import Architecture
from unas_hw.spaces import find_space
from unas_hw.spaces.impala import ImpalaSpace
from unas_hw.tasks import find_task

ARMS = ("curve", "search", "baseline", "cell", "half", "random")
POINTS = 10
"""Of a learning curve."""


@dataclass(frozen=True)
class Plan:
    """How much is played: steps of the curve, of the search and of what is compared; and how often.

    ``brief`` is how all but the curve are played where a supernet of large frames has hours of a core, not days.
    """

    curve: int
    search: int
    equal: int
    seeds: int
    brief: dict[str, Any] = field(default_factory=dict)


PLANS = {
    "minatar": Plan(1_000_000, 200_000, 300_000, 5),
    "procgen": Plan(300_000, 50_000, 50_000, 3, {"horizon": 64, "passes": 1, "minibatch": 256}),
}


class Game:
    """Everything about one task.

    Args:
        name: Of the task.
        folder: Where runs lie.
        plan: How much is played.
    """

    def __init__(self, name: str, folder: Path, plan: Plan) -> None:
        self.name, self.folder, self.plan = name, folder, plan
        self.task = find_task(name)
        space = find_space("impala", image_shape=self.task.image_shape, classes=self.task.actions)
        assert isinstance(space, ImpalaSpace)
        self.space = space
        self.path = folder / "table.jsonl"

    @property
    def model(self) -> LatencyModel:
        return LatencyModel(self.space, LatencyTable.load(self.path))

    def profiled(self) -> None:
        if not self.path.exists():
            partial = self.path.with_suffix(".part")
            shown(profile(self.space, open_profiler("cpu"), path=partial))
            partial.rename(self.path)

    def searched(self, seed: int) -> dict[str, Any]:
        config = replace(ppo_for(self.task, RlDartsConfig()), steps=self.plan.search, **self.plan.brief)
        assert isinstance(config, RlDartsConfig)
        path, table = self.folder / f"search-{seed}", self.folder / f"table-{seed}.jsonl"
        if not table.exists():  # a search measures anew how fast the machine is today, and goes on with that only
            shutil.copy(self.path, table)
        settings = SearchSettings(
            budget=None,
            space="impala",
            dataset=self.name,
            table=table,
            run=str(path.resolve()),
            seed=seed,
            config=config,
        )
        result = shown(search(settings))
        lines = Run.open(path).lines("metrics.jsonl")
        return {
            "architecture": result["architecture"],
            "curve": curve(lines, "return"),
            "alpha_entropy": curve(lines, "alpha_entropy"),
            "steps_per_s": result["steps_per_s"],
            **shares(lines),
        }

    def architecture(self, arm: str, seed: int) -> Architecture:
        if arm == "random":
            return self.space.draw(random.Random(seed))
        if arm == "cell":
            return self.space.parse(str(self.folder / f"search-{seed}" / "architecture.json"))
        saved = Run.open(self.folder / f"search-{seed}").load_tensors("checkpoint.safetensors")
        assert saved is not None
        log_probs = choice_log_probs(self.space, saved[0]["actor.cells.0.0.alpha"])
        model = self.model
        most_ms = model.latency_ms(self.space.indices(self.architecture("cell", seed))) / 2
        if likely := model.most_probable(log_probs, 0.0, most_ms, 1):
            return self.space.architecture(likely[0])
        return self.space.architecture(model.smallest)

    def played(self, arm: str, seed: int) -> dict[str, Any]:
        """One training from scratch, or what is kept of it."""
        run = Run.begin(self.folder / f"{arm}-{seed}", {"arm": arm, "seed": seed, "task": self.name})
        if (run.path / "result.json").exists():
            return run.read_json("result.json")
        architecture = None if arm in ("curve", "baseline") else self.architecture(arm, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            policy: Policy = self.space.network(architecture) if architecture else self.space.baseline
        played = {"steps": self.plan.curve} if arm == "curve" else {"steps": self.plan.equal, **self.plan.brief}
        config = replace(ppo_for(self.task, PpoConfig()), **played)
        lines = shown(trained(policy, self.task, config, seed, run, "train"))
        result = {
            "architecture": str(architecture),
            "predicted_ms": self.model.latency_ms(self.space.indices(architecture)) if architecture else None,
            "curve": curve(lines, "return"),
            **judged(policy, self.task),
            "params": sum(weight.numel() for weight in policy.parameters()),
            "steps_per_s": lines[-1]["steps"] / sum(each for each in seconds(lines).values()),
            **shares(lines),
        }
        run.write_json("result.json", result)
        return result

    def done(self, arm: str, seed: int) -> dict[str, Any]:
        found = self.searched(seed) if arm == "search" else self.played(arm, seed)
        earned = found.get("test_return", found["curve"][-1])
        print(f"{arm} {seed}: return {earned:.2f}, {found['steps_per_s']:.0f} steps/s, {found.get('architecture')}")
        return found


def shown(job: Job[Any]) -> Any:
    """Runs a job, printing what it says."""
    while True:
        try:
            step = next(job)
        except StopIteration as end:
            return end.value
        if step.note:
            print(f"  {step.note}", flush=True)


def curve(lines: Sequence[dict[str, Any]], name: str) -> list[float | None]:
    """At tenths of the steps."""
    return [lines[len(lines) * (number + 1) // POINTS - 1][name] for number in range(POINTS)]


def seconds(lines: Sequence[dict[str, Any]]) -> dict[str, float]:
    """By what they were spent on."""
    return {what: sum(line[f"{what}_s"] for line in lines) for what in ("environment", "acting", "learning")}


def shares(lines: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Where the time went."""
    spent = seconds(lines)
    return {f"{what}_share": each / sum(spent.values()) for what, each in spent.items()}


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and half of its 95% interval."""
    half = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return {"mean": float(np.mean(values)), "half": float(half)}


def summed(arms: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Means over seeds, and what the cell has more than the others, seed by seed, of the arms that there are."""
    earned = {name: [each["test_return"] for each in runs] for name, runs in arms.items() if name != "search"}
    summary: dict[str, Any] = {name: interval(values) for name, values in earned.items()}
    if "search" in arms:
        for when, place in (("begin", 0), ("end", -1)):
            for what in ("curve", "alpha_entropy"):
                summary[f"search, {what} at the {when}"] = interval([each[what][place] for each in arms["search"]])
    if "curve" in arms:
        summary["random actions"] = interval([each["random_return"] for each in arms["curve"]])
    for name in ("baseline", "random", "half") if "cell" in earned else ():
        if name not in earned:
            continue
        differences = [mine - other for mine, other in zip(earned["cell"], earned[name], strict=True)]
        summary[f"cell minus {name}"] = interval(differences)
    return summary


def main() -> None:
    """The arms that are asked for; the result keeps those of an earlier call of the same plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", choices=ARMS, nargs="+", default=ARMS)
    parser.add_argument("--seeds", type=int)
    told = parser.parse_args()
    torch.set_num_threads(1)
    plan = PLANS[told.task.partition(":")[0]]
    plan = replace(plan, seeds=told.seeds or plan.seeds)
    with tempfile.TemporaryDirectory(prefix="unas-hw-") as place:
        folder = told.folder or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        game = Game(told.task, folder, plan)
        game.profiled()
        arms = {arm: [game.done(arm, seed) for seed in range(plan.seeds)] for arm in told.only}
        name = f"rl_{told.task.replace(':', '_')}"
        if (kept := RESULTS / f"{name}.json").is_file():
            before = json.loads(kept.read_text(encoding="utf-8"))
            arms = (before["arms"] if before["plan"] == vars(plan) else {}) | arms
        summary = summed(arms)
        for what, value in summary.items():
            print(f"{what}: {value['mean']:.2f} +- {value['half']:.2f}")
        keep(name, {"plan": vars(plan), "summary": summary, "arms": arms})


if __name__ == "__main__":
    main()
