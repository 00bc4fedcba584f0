"""Image files: decoded by threads when they are asked for; once and for all where the decoded ones are small enough."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from profilers.errors import MissingDependencyError
from profilers.files import explained, whole
from profilers.home import home
from unas_hw.data.pixels import Memory, Pixels
from unas_hw.errors import DataError

Stored = Path | bytes
SURVEYED, USUAL_SIZE = 100, 224
"""Images whose heads are read to learn sizes; pixels a side of photographs of many sizes, as on ImageNet."""
THREADS = os.cpu_count() or 1
_MODES = {1: "L", 3: "RGB"}


@final
class Encoded(Pixels):
    """Images in files, brought to one size: the shorter side is, and the middle of the longer one stays.

    ``open`` gives the file, or its content, of an image by its number; channels are 1 or 3; errors say the name.
    """

    in_memory = False

    def __init__(self, name: str, count: int, open: Callable[[int], Stored], channels: int, size: int) -> None:
        self.name, self._open = name, open
        self._shape = (count, channels, size, size)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self._shape

    @property
    def nbytes(self) -> int:
        """Of all images once they are decoded."""
        return math.prod(self._shape)

    def read(self, rows: Tensor) -> Tensor:
        with ThreadPoolExecutor(min(THREADS, max(1, len(rows))), "unas-hw-decode") as pool:
            images = list(pool.map(self._decoded, rows.tolist()))
        return torch.from_numpy(np.stack(images)) if images else torch.empty(0, *self._shape[1:], dtype=torch.uint8)

    def _decoded(self, number: int) -> npt.NDArray[np.uint8]:
        """``(C, H, W)``; a JPEG is not decoded much larger than is needed."""
        pillow = _pillow()
        _, channels, size, _ = self._shape
        stored = self._open(number)
        try:
            with pillow.Image.open(io.BytesIO(stored) if isinstance(stored, bytes) else stored) as image:
                image.draft(_MODES[channels], (size, size))
                fitted = pillow.ImageOps.fit(
                    image.convert(_MODES[channels]), (size, size), pillow.Image.Resampling.BILINEAR
                )
        except (OSError, SyntaxError, ValueError, pillow.Image.DecompressionBombError) as error:
            raise _damaged(self.name, number, stored, error) from error
        pixels = np.asarray(fitted)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)) if channels == 3 else pixels[None]


def survey(name: str, count: int, open: Callable[[int], Stored]) -> tuple[int, int]:
    """Channels, and pixels a side, by the heads of some images: their own size if all are square and of one size,
    otherwise what is usual for photographs, or less where they are smaller.
    """
    pillow = _pillow()
    sizes, grey = set(), True
    for number in np.linspace(0, count - 1, min(count, SURVEYED)).astype(int).tolist():
        stored = open(number)
        try:
            with pillow.Image.open(io.BytesIO(stored) if isinstance(stored, bytes) else stored) as image:
                sizes.add(image.size)
                grey = grey and image.mode in ("L", "1")
        except OSError as error:
            raise _damaged(name, number, stored, error) from error
    shorter = [min(size) for size in sizes]
    same = len(sizes) == 1 and len(set(*sizes)) == 1
    return 1 if grey else 3, shorter[0] if same else min(USUAL_SIZE, int(median(shorter)))


def kept(encoded: Encoded, files: Iterable[tuple[str, int, int]]) -> Memory:
    """All images decoded, and kept in a file that is mapped into memory.

    ``files`` are name, size and time of change of what they are in: other files are other images.

    Raises:
        FileError: If the file cannot be written.
    """
    key = hashlib.sha256(json.dumps([1, encoded.shape, *files]).encode()).hexdigest()[:24]
    path = home() / "cache" / "images" / f"{key}.npy"
    if not path.is_file():
        _write(path, encoded)
    with explained(path):
        # Copy on write: what is mapped can then be written to, which torch asks for; nobody does.
        return Memory(torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False)))


def _write(path: Path, encoded: Encoded) -> None:
    """Decodes part by part; the file is whole or not there."""
    header: dict[str, Any] = {"descr": "|u1", "fortran_order": False, "shape": encoded.shape}
    with whole(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for rows in torch.arange(encoded.shape[0]).split(512):
            file.write(encoded.read(rows).numpy().tobytes())


def states(paths: Sequence[Path | str]) -> list[tuple[str, int, int]]:
    """What ``kept`` tells files by."""
    stats = [os.stat(path) for path in paths]
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in zip(paths, stats, strict=True)]


def _damaged(name: str, number: int, stored: Stored, error: Exception) -> DataError:
    where = f"image {number} of {name}" if isinstance(stored, bytes) else str(stored)
    return DataError(f"{where} cannot be decoded: {error}", mend="replace it or take it out")


def _pillow() -> Any:
    try:
        import PIL
        import PIL.Image
        import PIL.ImageOps
    except ImportError:
        raise MissingDependencyError("Pillow is not installed", mend="pip install 'unas-hw[data]'") from None
    return PIL
