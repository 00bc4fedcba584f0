"""The images of ``benchmarks.methods.radars``, and the training of what it finds."""

from __future__ import annotations

import tempfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unas_hw.data import load_dataset
from unas_hw.runs import Run
from unas_hw.spaces import find_space
from unas_hw.training import Recipe, accuracy, train


def images_of(data: Path, target: Path, count: int, tests: int) -> None:
    """The first images of CIFAR-10 as an ``.npz``."""
    spec = spec_from_file_location("load", data / "load.py")
    assert spec is not None and spec.loader is not None
    load = module_from_spec(spec)
    spec.loader.exec_module(load)
    (x, y), (test_x, test_y) = load.images("cifar10_train_a"), load.images("cifar10_test")
    np.savez(target, images=x[:count], labels=y[:count], test_images=test_x[:tests], test_labels=test_y[:tests])


def from_scratch(folder: Path, row: dict[str, Any], epochs: int) -> float:
    """Trains the network of a row with a seed of its own: accuracy on the test images."""
    seed = row["seed"] + 1000 * len(row["accuracies"])
    data = load_dataset(str(folder / "images.npz"))
    space = find_space(row["space"], image_shape=data.image_shape, classes=data.classes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = space.network(space.parse(row["architecture"]))
    with tempfile.TemporaryDirectory() as temporary:
        run = Run.begin(Path(temporary) / "run", {})
        for _ in train(network, data.train, Recipe(epochs=epochs, seed=seed), run, "scratch"):
            pass
    return accuracy(network, data.test)
