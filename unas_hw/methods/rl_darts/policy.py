"""Policies: training one from scratch by PPO, and what one earns in levels that it may never have seen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unas_hw.methods.rl_darts.config import PpoConfig, ppo_for
from unas_hw.methods.rl_darts.job import note
from unas_hw.methods.rl_darts.ppo import Actor, Ppo, evaluate
from unas_hw.network import save_network
from unas_hw.ops.impala import Policy
from unas_hw.optimizer_state import under
from unas_hw.progress import Job, Step
from unas_hw.resources import arithmetic_of
from unas_hw.runs import Run
from unas_hw.tasks import Task, find_task
from unas_hw.training import Hardware
from unas_hw.verify.artifact import Context

FOLDER = "train"
EPISODES, EVALUATED = 100, 20
"""That a policy is judged by, and environments that play them."""
TEST_SEED = 1_000_003


def trained(
    policy: Policy, task: Task, config: PpoConfig, seed: int, run: Run, folder: str, device: str = "cpu"
) -> Job[list[dict[str, Any]]]:
    """Trains a policy with weights of its own, in place; goes on in ``run``'s ``folder``.

    Returns:
        What every update said, see ``Ppo.updates``.
    """
    (run.path / folder).mkdir(exist_ok=True)
    policy.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
    environments = task.make(config.environments, seed, False)
    ppo = Ppo(policy, torch.optim.Adam(policy.parameters(), config.lr, eps=1e-5), environments, config, seed)
    if saved := run.load_tensors(f"{folder}/checkpoint.safetensors"):
        policy.load_state_dict(under(saved[0], "actor"))
        ppo.restore(*saved)
    run.keep_lines(f"{folder}/metrics.jsonl", ppo.update)
    for told in ppo.updates():
        tensors, scalars = ppo.state()
        tensors |= {f"actor.{name}": each for name, each in policy.state_dict().items()}
        run.save_tensors(f"{folder}/checkpoint.safetensors", tensors, scalars)
        run.append(f"{folder}/metrics.jsonl", told)
        yield Step("play", told["steps"], config.steps, note(told), told)
    environments.close()
    policy.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return run.lines(f"{folder}/metrics.jsonl")


def train_policy(
    context: Context, config: PpoConfig | None, seed: int, hardware: Hardware, begin: float
) -> Job[dict[str, Any]]:
    """Trains the policy of a run from scratch and saves its weights there; see ``unas_hw.jobs.train.retrain``.

    Returns:
        ``run``, ``architecture``, ``dataset``, ``steps``, ``train_return`` (mean of the last 100 episodes), what
        ``judged`` says of it, ``steps_per_s``, ``environment_share``, ``acting_share`` and ``learning_share`` of the
        time, ``params``, ``macs`` of one frame, ``seconds``, ``ppo``, ``hardware``.
    """
    run, task = context.run, find_task(context.data.origin)
    config = config or ppo_for(task, PpoConfig())
    config.check()
    told = {"ppo": asdict(config), "seed": seed}
    (run.path / FOLDER).mkdir(exist_ok=True)
    recipe = run.path / FOLDER / "recipe.json"
    if recipe.exists() and run.read_json(f"{FOLDER}/recipe.json") != told:
        for leftover in ("checkpoint.safetensors", "metrics.jsonl"):  # another recipe begins anew
            (recipe.parent / leftover).unlink(missing_ok=True)
    run.write_json(f"{FOLDER}/recipe.json", told)
    with hardware.seeded(seed):
        policy = context.space.network(context.architecture)
    assert isinstance(policy, Policy)  # no other space is one of policies
    lines = yield from trained(policy, task, config, seed, run, FOLDER, hardware.device)
    save_network(run, f"{FOLDER}/weights.safetensors", policy)
    yield Step("evaluate", 0, 1)
    spent = {what: sum(line[f"{what}_s"] for line in lines) for what in ("environment", "acting", "learning")}
    result = {
        "run": str(run.path),
        "architecture": str(context.architecture),
        "dataset": task.name,
        "steps": lines[-1]["steps"],
        "train_return": lines[-1]["return"],
        **judged(policy, task),
        "steps_per_s": lines[-1]["steps"] / sum(spent.values()),
        **{f"{what}_share": seconds / sum(spent.values()) for what, seconds in spent.items()},
        "params": sum(weight.numel() for weight in policy.parameters()),
        **arithmetic_of(context.space, context.architecture),
        "seconds": time.monotonic() - begin,
        "ppo": asdict(config),
        "hardware": asdict(hardware),
    }
    run.write_json(f"{FOLDER}/result.json", result)
    return result


def judged(policy: Actor, task: Task, episodes: int = EPISODES) -> dict[str, Any]:
    """What a policy earns in all levels there are, beside one that knows nothing.

    Returns:
        ``test_return`` (mean), ``test_interval`` (95% of that mean), ``test_episodes``, ``random_return``, and
        ``normalised_return``: 0 is a random policy, 1 the highest return that is published; None if none is.
    """
    found = _returns(policy, task, episodes)
    random = float(np.mean(_returns(Uniform(task.actions), task, episodes)))
    mean, half = float(np.mean(found)), 1.96 * float(np.std(found, ddof=1)) / len(found) ** 0.5
    return {
        "test_return": mean,
        "test_interval": [mean - half, mean + half],
        "test_episodes": len(found),
        "random_return": random,
        "normalised_return": None if task.highest is None else (mean - random) / (task.highest - random),
    }


def _returns(policy: Actor, task: Task, episodes: int) -> Sequence[float]:
    environments = task.make(min(EVALUATED, episodes), TEST_SEED, True)
    try:
        return evaluate(policy, environments, episodes, TEST_SEED)
    finally:
        environments.close()


class Uniform(nn.Module):
    """The policy that knows nothing."""

    def __init__(self, actions: int) -> None:
        super().__init__()
        self.actions = actions

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(x), self.actions), torch.zeros(len(x))
