"""MNIST, Fashion-MNIST and whatever else lies in four idx files, packed by gzip or not.

The first four bytes are 0, 0, 8 (bytes) and the number of dimensions; then each dimension in four bytes, big-endian.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from profilers.files import explained
from unas_hw.data.dataset import Source
from unas_hw.data.pixels import Memory
from unas_hw.errors import DataError

_NAME = re.compile(r"(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(\.gz)?")
_PARTS = (("train", "images"), ("train", "labels"), ("t10k", "images"), ("t10k", "labels"))


def recognises(path: Path) -> bool:
    """Whether the folder has files that are called like those of MNIST."""
    return path.is_dir() and bool(_files(path))


def read(path: Path) -> Source:
    """The images of the folder; raises ``DataError`` if files are missing or damaged."""
    files = _files(path)
    if lacking := [f"{part}-{what}-idx{3 if what == 'images' else 1}-ubyte" for part, what in _PARTS
                   if (part, what) not in files]:  # fmt: skip
        raise DataError(f"{path} has no {lacking[0]}", mend="put all four idx files there, packed by gzip or not")
    images, labels, test_images, test_labels = (_array(files[part]) for part in _PARTS)
    for part, (x, given) in {"train": (images, labels), "t10k": (test_images, test_labels)}.items():
        if x.ndim != 3 or x.shape[1] != x.shape[2] or given.shape != x.shape[:1] or x.shape[1:] != images.shape[1:]:
            raise DataError(
                f"the {part} files of {path} have images of shape {x.shape} and labels of shape {given.shape}",
                mend="square images of one size, with one label each: download the four files again",
            )
    pixels = torch.from_numpy(np.concatenate([images, test_images]))[:, None]
    y = torch.from_numpy(np.concatenate([labels, test_labels]).astype(np.int64))
    return Source(Memory(pixels), y, (len(labels), 0, len(test_labels)), path=path)


def _files(path: Path) -> dict[tuple[str, str], Path]:
    matches = {each: _NAME.fullmatch(each.name) for each in sorted(path.iterdir())}
    return {(match[1].replace("test", "t10k"), match[2]): each for each, match in matches.items() if match}


def _array(path: Path) -> npt.NDArray[Any]:
    with explained(path):
        content = path.read_bytes()
    try:
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        zero, kind, dimensions = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{dimensions}I", content, 4)
        begin = 4 + 4 * dimensions
        if (zero, kind) != (0, 8) or len(content) - begin != math.prod(shape):
            raise ValueError(f"{len(content)} bytes for {shape}")
    except (gzip.BadGzipFile, zlib.error, EOFError, struct.error, ValueError) as error:
        raise DataError(f"{path} is a damaged idx file: {error}", mend="download it again") from error
    return np.frombuffer(content, np.uint8, offset=begin).reshape(shape)
