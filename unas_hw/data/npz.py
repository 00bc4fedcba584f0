"""A data set of one ``.npz`` file.

``images`` (N, H, W) or (N, H, W, C) of bytes, ``labels`` (N,); ``test_images`` and ``test_labels`` where there is a
test part.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from unas_hw.data.dataset import Source
from unas_hw.data.pixels import Memory
from unas_hw.errors import DataError

MEND = "numpy.savez(path, images=bytes of shape (N, H, W) or (N, H, W, C), labels=integers of shape (N,))"
Array = npt.NDArray[Any]


def read(path: Path) -> Source:
    """The images of the file; raises ``DataError`` if it does not have that form."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            parts = {key: arrays[key] for key in arrays.files}
        images, labels = _images(parts["images"]), _labels(parts["labels"], len(parts["images"]))
        tests = 0
        if "test_images" in parts:
            test_images = _images(parts["test_images"])
            tests = len(test_images)
            if test_images.shape[1:] != images.shape[1:]:
                raise ValueError(f"test_images are of shape {test_images.shape}, images of {images.shape}")
            images = np.concatenate([images, test_images])
            labels = np.concatenate([labels, _labels(parts["test_labels"], tests)])
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a data set: {error}", mend=MEND) from error
    pixels = Memory(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))
    return Source(pixels, torch.from_numpy(labels), (len(labels) - tests, 0, tests), path=path)


def _images(array: Array) -> Array:
    """``(N, H, W, C)``."""
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[1] != array.shape[2]:
        raise ValueError(f"images are {array.dtype} of shape {array.shape}, not square uint8 images")
    return array[..., None] if array.ndim == 3 else array


def _labels(array: Array, count: int) -> npt.NDArray[np.int64]:
    if array.dtype.kind not in "iu" or array.shape != (count,) or count == 0 or array.min() < 0:
        raise ValueError(f"labels are {array.dtype} of shape {array.shape}, not {count} non-negative integers")
    return array.astype(np.int64)
