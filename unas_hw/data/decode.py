"""Image files: decoded by threads when they are asked for; once and for all where the decoded ones are small enough."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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
MAX_PIXELS = 2**27
"""That are decoded at once: of a JPEG after it was made smaller."""
TOO_DARK = 16
"""Of 255: no more is left of 12 bits that are stored as 16."""
FAINT, SMALL = 32, 64
"""A difference of bytes that does not make a picture, or a colour; pixels a side that are enough to see that."""
_MODES = {1: "L", 3: "RGB"}
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_SCALED = ("PNG", "PPM")
"""Formats whose 32-bit integers are 16 bits."""
_NOT_MOVING = ("MPO", "PSD", "ICO", "ICNS")
"""Formats whose further pictures are the same one in other sizes, or layers."""
_NO_PICTURES = ("BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF")
_JPEG = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".mpo"))
_LIMIT = threading.Lock()


@dataclass(frozen=True)
class Survey:
    """What the heads of some images say of all.

    Attributes:
        channels: 1 if all of them are grey, else 3.
        size: Pixels a side: their own if all are square and alike, otherwise what is usual for photographs, or less.
        ground: The grey value that transparent images are laid over.
        notes: What is done to some of them, a line each.
    """

    channels: int
    size: int
    ground: int = 255
    notes: tuple[str, ...] = ()


@final
class Encoded(Pixels):
    """Images in files, brought to one size: the shorter side is, and the middle of the longer one stays.

    They stand upright as EXIF says; transparent ones are laid over ``ground``, and 16 bits a value become 8. ``open``
    gives the file, or its content, of an image by its number; channels are 1 or 3; errors say the name.
    """

    in_memory = False

    def __init__(
        self, name: str, count: int, open: Callable[[int], Stored], channels: int, size: int, ground: int = 255
    ) -> None:
        self.name, self.ground, self._open = name, ground, open
        self._shape = (count, channels, size, size)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self._shape

    @property
    def nbytes(self) -> int:
        """Of all images once they are decoded."""
        return math.prod(self._shape)

    def read(self, rows: Tensor) -> Tensor:
        with _threads(len(rows)) as pool:
            images = list(pool.map(self._decoded, rows.tolist()))
        return torch.from_numpy(np.stack(images)) if images else torch.empty(0, *self._shape[1:], dtype=torch.uint8)

    def _decoded(self, number: int) -> npt.NDArray[np.uint8]:
        """``(C, H, W)``; a JPEG is not decoded much larger than is needed."""
        pillow = _pillow()
        _, channels, size, _ = self._shape
        with _opened(self.name, number, self._open(number)) as (image, where):
            image.draft(None, (size, size))
            picture = _laid(_in_bytes(image, where), _MODES[channels], self.ground, where)
            pixels = np.asarray(pillow.ImageOps.fit(picture, (size, size), pillow.Image.Resampling.BILINEAR))
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)) if channels == 3 else pixels[None]


@dataclass(frozen=True)
class _Look:
    """At one image: ``contrast`` of a transparent one over black and over white, ``level`` the highest byte that more
    bits became.
    """

    size: tuple[int, int]
    grey: bool
    moves: bool
    contrast: tuple[int, int] | None
    level: int | None


def survey(name: str, count: int, open: Callable[[int], Stored]) -> Survey:
    """What some images say of all.

    Raises:
        DataError: If one cannot be read, or 16 bits a value are used so little that 8 would leave nothing.
    """
    numbers = np.linspace(0, count - 1, min(count, SURVEYED)).astype(int).tolist()
    with _threads(len(numbers)) as pool:
        looks = list(pool.map(lambda number: _look(name, number, open(number)), numbers))
    sizes = {each.size for each in looks}
    shorter = [min(size) for size in sizes]
    same = len(sizes) == 1 and len(set(*sizes)) == 1
    levels = [each.level for each in looks if each.level is not None]
    if levels and max(levels) <= TOO_DARK:
        raise DataError(
            f"{name} has images of 16 bits a value whose brightest is {max(levels)} of 255 in the 8 bits that are kept",
            mend="multiply their values so that the brightest is near 65535, or give them as floats in an .npz",
        )
    clear = [each.contrast for each in looks if each.contrast is not None]
    ground = 0 if sum(white < FAINT <= black for black, white in clear) * 2 > len(clear) else 255
    empty, moving = [each for each in clear if each[bool(ground)] < FAINT], [each for each in looks if each.moves]
    of = f"of the {len(looks)} images looked at"
    notes = {
        f"{len(levels)} {of} have 16 bits a value: 8 are kept": levels,
        f"{len(clear)} {of} are transparent: laid over {'white' if ground else 'black'}": clear,
        f"{len(empty)} of these show one colour only": empty,
        f"{len(moving)} {of} have more pictures than one: the first is read": moving,
    }
    return Survey(
        1 if all(each.grey for each in looks) else 3,
        shorter[0] if same else min(USUAL_SIZE, int(median(shorter))),
        ground,
        tuple(note for note, seen in notes.items() if seen),
    )


def suffixes() -> frozenset[str]:
    """Of the files that Pillow reads as pictures, in small letters."""
    pillow = _pillow()
    known = pillow.Image.registered_extensions()
    return (
        frozenset(each for each, kind in known.items() if kind in pillow.Image.OPEN and kind not in _NO_PICTURES)
        | _JPEG
    )


def kept(encoded: Encoded, files: Iterable[tuple[str, int, int]]) -> Memory:
    """All images decoded, and kept in a file that is mapped into memory.

    ``files`` are name, size and time of change of what they are in: other files are other images.

    Raises:
        FileError: If the file cannot be written.
    """
    key = hashlib.sha256(json.dumps([2, encoded.shape, encoded.ground, *files]).encode()).hexdigest()[:24]
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


def _look(name: str, number: int, stored: Stored) -> _Look:
    pillow = _pillow()
    with _opened(name, number, stored) as (image, where):
        size, grey, deep = image.size, image.mode in _GREY, _is_deep(image)
        moves = image.format not in _NOT_MOVING and getattr(image, "is_animated", False)
        if not deep and not image.has_transparency_data:
            return _Look(size, grey, moves, None, None)
        picture = _in_bytes(image, where)
        level = int(np.asarray(picture.convert("L")).max()) if deep else None
        if not picture.has_transparency_data or picture.convert("RGBA").getextrema()[3][0] == 255:
            return _Look(size, grey, moves, None, level)
        small = picture.convert("RGBA").resize((SMALL, SMALL), pillow.Image.Resampling.BOX)
        laid = (_laid(small, "RGB", ground, where).convert("L") for ground in (0, 255))
        black, white = (int(np.ptp(np.asarray(each))) for each in laid)
        return _Look(size, grey, moves, (black, white), level)


@contextmanager
def _opened(name: str, number: int, stored: Stored) -> Iterator[tuple[Any, str]]:
    """The picture that is stored, and where; whatever is wrong with it becomes an error that says it too."""
    pillow = _pillow()
    where = f"image {number} of {name}" if isinstance(stored, bytes) else str(stored)
    try:
        content = stored if isinstance(stored, bytes) else stored.read_bytes()
    except OSError as error:
        raise DataError(
            f"{where} cannot be read: {(error.strerror or str(error)).lower()}",
            mend=f"ls -lL '{where}'; or take it out",
        ) from error
    try:
        with _LIMIT:  # Pillow's own is the whole process's, and does not wait until a JPEG is decoded smaller
            limit, pillow.Image.MAX_IMAGE_PIXELS = pillow.Image.MAX_IMAGE_PIXELS, None
            try:
                opened = pillow.Image.open(io.BytesIO(content))
            finally:
                pillow.Image.MAX_IMAGE_PIXELS = limit
        with opened as image:
            yield image, where
    except DataError:
        raise
    except Exception as error:  # a plugin of Pillow raises whatever its parser runs into
        begins = isinstance(error, pillow.UnidentifiedImageError) and f"it begins with {content[:12]!r}"
        what = begins or error if content else "it is empty"
        raise DataError(f"{where} cannot be decoded: {what}", mend="replace it or take it out") from error


def _is_deep(image: Any) -> bool:
    """Whether it has more than 8 bits a value; of colours Pillow itself drops the lower ones."""
    modes = [tile[3] if isinstance(tile[3], str) else str(tile[3][:1]) for tile in image.tile if tile[3]]
    return image.mode.startswith(("I", "F")) or any(";16" in mode for mode in modes)


def _in_bytes(image: Any, where: str) -> Any:
    """The picture upright, with 8 bits a value; it may be transparent."""
    pillow = _pillow()
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{where} has {width:,} x {height:,} pixels, more than the {MAX_PIXELS:,} that are decoded at once",
            mend=f"make it smaller: magick '{where}' -resize 4096x4096 '{where}'",
        )
    if image.mode == "F" or (image.mode == "I" and image.format not in _SCALED):
        raise DataError(
            f"{where} is a {image.format} of 32 bits a value, and nothing says what is black and what is white",
            mend="save it with 8 or 16 bits a value, or give all images as floats from 0 to 1 in an .npz",
        )
    image.load()
    with suppress(Exception):  # EXIF that cannot be read turns nothing
        pillow.ImageOps.exif_transpose(image, in_place=True)
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    return pillow.Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


def _laid(picture: Any, mode: str, ground: int, where: str) -> Any:
    """The picture in that mode; what shows through where it is transparent is ``ground``."""
    pillow = _pillow()
    if picture.has_transparency_data:
        above = picture.convert("RGBA")
        picture = pillow.Image.alpha_composite(pillow.Image.new("RGBA", above.size, (ground,) * 3 + (255,)), above)
    if mode == "L" and picture.mode not in _GREY:
        values = np.asarray(picture.convert("RGB"))
        if np.ptp(values, axis=-1).max(initial=0) > FAINT:
            raise DataError(
                f"{where} is in colour, and the images that were looked at first are grey",
                mend=f"magick '{where}' -colorspace Gray '{where}'; or take it out",
            )
    return picture.convert(mode)


def _threads(tasks: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(THREADS, max(1, tasks)), "unas-hw-decode")


def _pillow() -> Any:
    try:
        import PIL
        import PIL.Image
        import PIL.ImageOps
    except ImportError:
        raise MissingDependencyError("Pillow is not installed", mend="pip install 'unas-hw[data]'") from None
    return PIL
