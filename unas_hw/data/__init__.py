"""Data sets, whole in memory: the built-in digits and ``.npz`` files.

Splits: the test part is never seen by a search; the validation part is cut off the training part, a tenth of it
(UNAS) but at least 256 images where there are enough.
"""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unas_hw.errors import DataError

DIGITS = "digits"
VALID_SHARE, MIN_VALID, TEST_SHARE = 0.1, 256, 0.2
Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Split:
    """Images ``(N, C, H, W)``, normalised, and labels ``(N,)``."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """Three parts of one data set.

    Attributes:
        name: As in ``--dataset``.
        classes: Number of labels.
        mean, std: Of the training images; images are ``(pixels - mean) / std`` with pixels in [0, 1].
    """

    name: str
    classes: int
    train: Split
    valid: Split
    test: Split
    mean: float
    std: float

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        _, channels, height, width = self.train.x.shape
        return channels, height, width


def load_dataset(name: str, *, image_size: int | None = None, seed: int = 0) -> Dataset:
    """Reads a data set and splits it.

    Args:
        name: ``digits``, or the path of an ``.npz`` with ``images`` (N, H, W) or (N, H, W, C) of bytes and
            ``labels`` (N,); with ``test_images`` and ``test_labels`` where there is a test part.
        image_size: Pixels to resize to; as they are by default.
        seed: Of the splits.

    Raises:
        DataError: If there is no such data set, or it does not have that form.
    """
    pixels, labels, test_pixels, test_labels = _digits() if name == DIGITS else _npz(name)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    if test_labels is None:
        cut = round(len(order) * TEST_SHARE)
        test_pixels, test_labels, order = pixels[order[:cut]], labels[order[:cut]], order[cut:]
    assert test_pixels is not None
    cut = max(round(len(order) * VALID_SHARE), min(MIN_VALID, len(order) // 4))
    valid, train = order[:cut], order[cut:]
    mean, std = float(pixels[train].mean()), float(pixels[train].std())

    def split(images: Tensor, targets: Tensor) -> Split:
        if image_size and image_size != images.shape[-1]:
            size = (image_size, image_size)
            images = torch.nn.functional.interpolate(images, size, mode="bilinear", align_corners=False)
        return Split((images - mean) / max(std, 1e-6), targets)

    return Dataset(
        name,
        int(labels.max()) + 1,
        split(pixels[train], labels[train]),
        split(pixels[valid], labels[valid]),
        split(test_pixels, test_labels),
        mean,
        std,
    )


Parts = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


def _digits() -> Parts:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / 16
    return images, torch.from_numpy(digits.target).long(), None, None


def _npz(name: str) -> Parts:
    path = Path(name)
    if path.suffix != ".npz" or not path.is_file():
        raise DataError(
            f"there is no data set {name!r}", mend=f"write --dataset {DIGITS}, or the path of an existing .npz file"
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            parts = {key: arrays[key] for key in arrays.files}
        images, labels = _images(parts["images"]), _labels(parts["labels"], len(parts["images"]))
        if "test_images" not in parts:
            return images, labels, None, None
        return images, labels, _images(parts["test_images"]), _labels(parts["test_labels"], len(parts["test_images"]))
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{name} is not a data set: {error}",
            mend="numpy.savez(path, images=bytes of shape (N, H, W) or (N, H, W, C), labels=integers of shape (N,))",
        ) from error


def _images(array: Pixels) -> Tensor:
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[1] != array.shape[2]:
        raise ValueError(f"images are {array.dtype} of shape {array.shape}, not square uint8 images")
    if array.ndim == 3:
        array = array[..., None]
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2))).float() / 255


def _labels(array: Pixels, count: int) -> Tensor:
    if array.dtype.kind not in "iu" or array.shape != (count,) or count == 0 or array.min() < 0:
        raise ValueError(f"labels are {array.dtype} of shape {array.shape}, not {count} non-negative integers")
    return torch.from_numpy(array.astype(np.int64))


def batches(split: Split, size: int, generator: torch.Generator) -> list[Split]:
    """The split in random order, in equal batches; a rest smaller than a batch waits for the next epoch."""
    size = min(size, len(split))
    order = torch.randperm(len(split), generator=generator)
    count = math.floor(len(split) / size)
    return [Split(split.x[part], split.y[part]) for part in order[: count * size].split(size)]
