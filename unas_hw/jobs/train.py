"""Train: the architecture of a run, from scratch."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import torch

from unas_hw.data import Split
from unas_hw.jobs.artifact import Context, open_run
from unas_hw.network import save_network
from unas_hw.progress import Job, Step
from unas_hw.training import Recipe, accuracy, train


def retrain(name: str | None, recipe: Recipe) -> Job[dict[str, Any]]:
    """Trains the network of a run (the last one by default) and saves its weights there.

    Returns:
        ``run``, ``architecture``, ``test_accuracy``, ``epochs``, ``params``, ``seconds``.
    """
    begin = time.monotonic()
    context = open_run(name)
    with context.run.alone():
        return (yield from _retrain(context, recipe, begin))


def _retrain(context: Context, recipe: Recipe, begin: float) -> Job[dict[str, Any]]:
    architecture = context.architecture
    (context.run.path / "train").mkdir(exist_ok=True)
    told = context.run.path / "train" / "recipe.json"
    if told.exists() and context.run.read_json("train/recipe.json") != asdict(recipe):
        for leftover in ("checkpoint.safetensors", "metrics.jsonl"):  # another recipe begins anew
            (told.parent / leftover).unlink(missing_ok=True)
    context.run.write_json("train/recipe.json", asdict(recipe))
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        network = context.space.network(architecture)
    # The validation images chose the architecture; now they are images like others. The test part stays unseen.
    seen, chosen = context.data.train, context.data.valid
    images = Split(torch.cat([seen.x, chosen.x]), torch.cat([seen.y, chosen.y]))
    for metrics in train(network, images, recipe, context.run, "train"):
        yield Step("train", metrics["epoch"], recipe.epochs)
    save_network(context.run, "train/weights.safetensors", network)
    result = {
        "run": str(context.run.path),
        "architecture": str(architecture),
        "test_accuracy": accuracy(network, context.data.test),
        "epochs": recipe.epochs,
        "params": sum(weight.numel() for weight in network.parameters()),
        "seconds": time.monotonic() - begin,
    }
    context.run.write_json("train/result.json", result)
    return result
