"""Training the network of a run from scratch, and what is written of it."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any

from unas_hw.data import Dataset
from unas_hw.network import save_network
from unas_hw.progress import Job, Step
from unas_hw.resources import arithmetic_of
from unas_hw.runs import Run
from unas_hw.space import Architecture, SearchSpace
from unas_hw.training.evaluation import evaluate
from unas_hw.training.hardware import Hardware
from unas_hw.training.loop import lacking, train
from unas_hw.training.recipes import OF_DATASET, Recipe

FOLDER = "train"
"""Of the run, for what is trained from scratch."""


def retrained(
    run: Run, space: SearchSpace, architecture: Architecture, data: Dataset, recipe: Recipe, hardware: Hardware
) -> Job[dict[str, Any]]:
    """Trains the network and saves its weights in the run's ``train``; goes on there.

    The validation images chose the architecture; now they are images like others. The test part stays unseen.

    Returns:
        See ``unas_hw.jobs.train.retrain``.
    """
    begin = time.monotonic()
    if recipe.augmentation == OF_DATASET:
        recipe = replace(recipe, augmentation=data.augmentation)
    (run.path / FOLDER).mkdir(exist_ok=True)
    told = run.path / FOLDER / "recipe.json"
    if told.exists() and run.read_json(f"{FOLDER}/recipe.json") != asdict(recipe):
        for leftover in ("checkpoint.safetensors", "metrics.jsonl"):  # another recipe begins anew
            (told.parent / leftover).unlink(missing_ok=True)
    run.write_json(f"{FOLDER}/recipe.json", asdict(recipe))
    with hardware.seeded(recipe.seed):
        network = space.network(architecture)
    if without := lacking(network, recipe):
        left_out = " and ".join(without)
        yield Step("train", 0, recipe.epochs, f"trained without {left_out}: {architecture} has no place for that")
    images = data.train + data.valid
    for metrics in train(network, images, recipe, run, FOLDER, hardware):
        yield Step("train", metrics["epoch"], recipe.epochs, epoch=metrics)
    save_network(run, f"{FOLDER}/weights.safetensors", network)
    tested = evaluate(network, data.test, hardware.device)
    result = {
        "run": str(run.path),
        "architecture": str(architecture),
        "dataset": data.name,
        "data_notes": list(data.notes),
        "test_accuracy": tested.top1,
        "test_interval": list(tested.interval),
        "test_loss": tested.loss,
        "epochs": recipe.epochs,
        "params": sum(weight.numel() for weight in network.parameters()),
        **arithmetic_of(space, architecture),
        "seconds": time.monotonic() - begin,
        "recipe": asdict(recipe),
        "hardware": asdict(hardware),
        "trained_without": list(without),
    }
    run.write_json(f"{FOLDER}/result.json", result)
    return result
