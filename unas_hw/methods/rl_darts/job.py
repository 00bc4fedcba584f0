"""RL-DARTS from a prepared search to its network: the supernet plays and learns, then the likeliest cell that fits."""

from __future__ import annotations

from typing import Any

import torch

from unas_hw.errors import MethodError
from unas_hw.methods.rl_darts.config import RlDartsConfig
from unas_hw.methods.rl_darts.search import RlDarts
from unas_hw.progress import Job, Step
from unas_hw.search.prepared import Prepared, measured_best, meter_of
from unas_hw.search.result import finish
from unas_hw.search.selection import CANDIDATES, LOOKED_AT, Path
from unas_hw.search.settings import SearchSettings
from unas_hw.spaces.impala import ImpalaSpace
from unas_hw.tasks import find_task, is_task

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"


def refuse(settings: SearchSettings) -> None:
    """Raises ``MethodError`` for what cannot be."""
    if not is_task(settings.dataset):
        raise MethodError("rl_darts learns by playing, not from images", mend="add --task minatar:breakout")
    if settings.space and settings.space.partition("?")[0] != "impala":
        raise _no_policies(settings.space)


def _no_policies(space: str) -> MethodError:
    return MethodError(f"{space} is no space of policies", mend="leave out --space, or give --space impala")


def search(prepared: Prepared) -> Job[dict[str, Any]]:
    """Plays until all steps are done, goes on where it was, and finishes the run with a cell that nobody has trained.

    Returns:
        As ``search``, with ``steps``, ``supernet_return`` (mean of the last episodes; None if none has ended),
        ``alpha_entropy`` and ``steps_per_s``.
    """
    space, settings, run = prepared.space, prepared.settings, prepared.run
    if not isinstance(space, ImpalaSpace):
        raise _no_policies(space.name)
    config, seed = prepared.config(RlDartsConfig), settings.seed
    environments = find_task(settings.dataset).make(config.environments, seed, False)
    aim_ms = prepared.aim_ms if settings.budget else None
    hardware = settings.hardware.of_process()
    found = RlDarts(space, environments, config, seed, prepared.model, aim_ms, hardware.device)
    if saved := run.load_tensors(CHECKPOINT):
        found.restore(*saved)
    run.keep_lines(METRICS, found.ppo.update)
    for told in found.updates():
        run.save_tensors(CHECKPOINT, *found.state())
        run.append(METRICS, told)
        yield Step("play", told["steps"], config.steps, note(told), told)
    environments.close()
    log_probs = [each.detach().cpu() for each in found.log_probs()]

    def likeliest(most_ms: float) -> list[Path]:
        count = LOOKED_AT if prepared.constraints else CANDIDATES
        return [path for path in prepared.model.most_probable(log_probs, 0.0, most_ms, count) if prepared.fits(path)]

    with meter_of(prepared) as meter:
        selection = yield from measured_best(prepared, meter, likeliest)
    path = selection.best or selection.nearest
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = space.network(space.architecture(path))
    lines = run.lines(METRICS)
    seconds = sum(line[f"{what}_s"] for line in lines for what in ("environment", "acting", "learning"))
    more = {
        "steps": lines[-1]["steps"],
        "supernet_return": lines[-1]["return"],
        "alpha_entropy": lines[-1]["alpha_entropy"],
        "steps_per_s": lines[-1]["steps"] / seconds,
    }
    return finish(prepared, selection, network, valid_accuracy=None, more=more)


def note(told: dict[str, Any]) -> str:
    """A line about an update."""
    earned = "no episode has ended" if told["return"] is None else f"return {told['return']:.2f}"
    seconds = [f"{told[f'{what}_s']:.1f} s {what}" for what in ("environment", "acting", "learning")]
    alpha = f", entropy of alpha {told['alpha_entropy']:.0%}" if "alpha_entropy" in told else ""
    return f"{told['steps']:,} steps: {earned}, entropy of actions {told['entropy']:.2f}{alpha} ({', '.join(seconds)})"
