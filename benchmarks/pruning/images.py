"""Images of the benchmarks of pruning: some of CIFAR-10 or Fashion-MNIST, as an ``.npz``."""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np

NAMES = {"cifar10": ("cifar10_train_a", "cifar10_test"), "fashion-mnist": ("fashion_mnist_train", "fashion_mnist_test")}


def write_images(
    data: Path, name: str, target: Path, *, train: int, tests: int, classes: Collection[int] = tuple(range(10))
) -> None:
    """So many images to train with and to test with of these classes, an equal number of each; labels from 0.

    Args:
        data: Folder with ``load.py``.
        name: ``cifar10`` or ``fashion-mnist``.
        target: The file.
        train: Images of the training part; validation images are cut off them.
        tests: Of the test part.
        classes: Which.
    """
    spec = spec_from_file_location("load", data / "load.py")
    assert spec is not None and spec.loader is not None
    load = module_from_spec(spec)
    spec.loader.exec_module(load)
    arrays = {}
    for part, count, stem in zip(("", "test_"), (train, tests), NAMES[name], strict=True):
        pixels, labels = load.images(stem)
        chosen = [np.flatnonzero(labels == label)[: count // len(classes)] for label in classes]
        order = np.sort(np.concatenate(chosen))
        arrays[f"{part}images"] = pixels[order]
        arrays[f"{part}labels"] = np.searchsorted(np.array(sorted(classes)), labels[order])
    np.savez(target, **arrays)
