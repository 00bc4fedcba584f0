"""A data set and its three parts.

The test part is never seen by a search. What a data set does not have is cut off its training part, in the order that
the seed gives: a fifth as test part; for validation a tenth (UNAS), but at least 256 images where there are enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from unas_hw.data.pixels import Memory, Pixels
from unas_hw.errors import DataError

VALID_SHARE, MIN_VALID, TEST_SHARE = 0.1, 256, 0.2
CACHE_BYTES = 2_000_000_000
"""Of decoded images that are kept."""
MOST_CLASSES, SHOWN = 1000, 5
"""Of labels most of which no image has; classes that are named at most where images of them lack."""
COUNTED_VALUES, COUNTED_FILES = 2**28, 1024
"""Pixel values, and images that have to be decoded, from which mean and deviation are taken at most."""


@dataclass(frozen=True)
class Form:
    """How networks see pixels: ``(pixels - mean) / std`` with pixels in [0, 1], ``(C, 1, 1)`` each, in the size of
    ``size``.

    No size leaves them as they are.
    """

    size: int | None
    mean: Tensor
    std: Tensor

    def __call__(self, pixels: Tensor) -> Tensor:
        """``(N, C, H, W)``, bytes or floats in [0, 1], on the device of the mean."""
        pixels = pixels / 255 if pixels.dtype == torch.uint8 else pixels
        if self.size and self.size != pixels.shape[-1]:
            shrunk = self.size < pixels.shape[-1]  # without antialias most pixels would not count
            pixels = interpolate(pixels, (self.size,) * 2, mode="bilinear", align_corners=False, antialias=shrunk)
        return (pixels - self.mean) / self.std

    @property
    def black(self) -> Tensor:
        """What networks see of pixels that are 0: ``(C, 1, 1)``."""
        return -self.mean / self.std

    def to(self, device: torch.device) -> Form:
        """The same for images on a device."""
        return Form(self.size, self.mean.to(device), self.std.to(device))


@final
class Split:
    """One part of a data set: its labels, and images as networks see them.

    Args:
        x: ``(N, C, H, W)``: images as they are seen; or pixels, which ``form`` is for.
        y: Labels ``(N,)``.
        rows: Numbers ``(N,)`` of its images among the pixels; all by default.
        form: What is done to pixels that are read; nothing by default.
        device: Where images are given; the CPU by default.
    """

    def __init__(
        self,
        x: Tensor | Pixels,
        y: Tensor,
        *,
        rows: Tensor | None = None,
        form: Form | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.pixels = x if isinstance(x, Pixels) else Memory(x)
        self.y, self.rows, self.form, self.device = y, rows, form, device

    def __len__(self) -> int:
        return len(self.y)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        _, channels, height, width = self.pixels.shape
        size = self.form.size if self.form else None
        return channels, size or height, size or width

    @property
    def in_memory(self) -> bool:
        """Whether ``x`` can be had."""
        return self.pixels.in_memory

    def take(self, indices: Tensor) -> Tensor:
        """Images ``(len(indices), C, H, W)`` as networks see them; raises ``DataError`` for files that are damaged."""
        pixels = self.pixels.read(indices if self.rows is None else self.rows[indices])
        if self.device is not None and self.device.type == "cuda":
            pixels = pixels.pin_memory()  # or the copy would wait for all that the GPU has been told to do
        pixels = pixels.to(self.device, non_blocking=True)
        return self.form(pixels) if self.form else pixels

    @property
    def x(self) -> Tensor:
        """All images; raises ``DataError`` where they are decoded as they are needed."""
        if not self.in_memory:
            raise DataError(
                f"{len(self)} images of {self.image_shape} are decoded as they are needed, not all at once",
                mend="take them in parts (Split.take, batches, in_order), or load_dataset(..., cache_bytes=more)",
            )
        if isinstance(self.pixels, Memory) and self.rows is None and self.form is None and self.device is None:
            return self.pixels.tensor
        return self.take(torch.arange(len(self)))

    def on(self, device: torch.device | str | None) -> Split:
        """The same images, given on a device; pixels stay where they are."""
        if device is None:
            return self
        device = torch.device(device)
        form = self.form.to(device) if self.form else None
        return Split(self.pixels, self.y, rows=self.rows, form=form, device=device)

    def first(self, count: int) -> Split:
        """Its first images; chance put them there where the part was cut by a seed."""
        rows = torch.arange(len(self)) if self.rows is None else self.rows
        return Split(self.pixels, self.y[:count], rows=rows[:count], form=self.form, device=self.device)

    def __add__(self, other: Split) -> Split:
        """The images of two parts as one."""
        y = torch.cat([self.y, other.y])
        if self.pixels is other.pixels and self.rows is not None and other.rows is not None:
            rows = torch.cat([self.rows, other.rows])
            return Split(self.pixels, y, rows=rows, form=self.form, device=self.device)
        return Split(torch.cat([self.x, other.x]), y)


@dataclass(frozen=True)
class Source:
    """What a reader finds: all images of a data set, those to train with first.

    Attributes:
        pixels: Of the training part, then of the validation part, then of the test part.
        y: Their labels.
        counts: How many images each part has; 0 if it is to be cut off the training part.
        class_names: In the order of the labels; empty if unknown.
        path: Of the file or folder that was read.
        origin: Its name where that is no path; a whole path otherwise.
        augmentation: What such images are usually trained with, as ``Augmentation.parse`` takes it.
        notes: What was left out, converted or guessed, a line each.
    """

    pixels: Pixels
    y: Tensor
    counts: tuple[int, int, int]
    class_names: tuple[str, ...] = ()
    path: Path | None = None
    origin: str = ""
    augmentation: str = "shift"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Three parts of one data set.

    Attributes:
        name: As in ``--dataset``.
        classes: Number of labels.
        mean, std: ``(C, 1, 1)`` of the training images with pixels in [0, 1]; networks see ``(pixels - mean) / std``.
        origin: What ``load_dataset`` finds it by from any folder: the name, or a whole path.
        split_seed: That the parts were cut with.
        path: Of the file or folder; None for what comes with a library or from a hub.
        class_names: In the order of the labels; empty if unknown.
        augmentation: What such images are usually trained with.
        notes: What was left out, converted or guessed, and which classes a part lacks; a line each.
    """

    name: str
    classes: int
    train: Split
    valid: Split
    test: Split
    mean: Tensor
    std: Tensor
    origin: str = ""
    split_seed: int = 0
    path: Path | None = None
    class_names: tuple[str, ...] = ()
    augmentation: str = "shift"
    notes: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        return self.train.image_shape

    def describe(self) -> dict[str, Any]:
        """All of it but the images, for a JSON file."""
        return {
            "name": self.name,
            "path": str(self.path) if self.path else None,
            "classes": self.classes,
            "class_names": list(self.class_names),
            "image_shape": list(self.image_shape),
            "train": len(self.train),
            "valid": len(self.valid),
            "test": len(self.test),
            "split_seed": self.split_seed,
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
        }


def divide(source: Source, name: str, image_size: int | None, seed: int) -> Dataset:
    """The parts of what a reader found; raises ``DataError`` if there are too few images for three, or no classes."""
    classes = _classes(source, name)
    trains, valids, tests = source.counts
    order = torch.randperm(trains, generator=torch.Generator().manual_seed(seed))
    valid, test = torch.arange(trains, trains + valids), torch.arange(trains + valids, trains + valids + tests)
    if not tests:
        cut = round(len(order) * TEST_SHARE)
        test, order = order[:cut], order[cut:]
    if not valids:
        cut = max(round(len(order) * VALID_SHARE), min(MIN_VALID, len(order) // 4))
        valid, order = order[:cut], order[cut:]
    if not min(len(order), len(valid), len(test)):
        raise DataError(f"{name} has {len(source.y)} images, too few for three parts", mend="add images")
    mean, std = _statistics(source.pixels, order)
    form = Form(image_size, mean, std)
    train, valid_part, test_part = (
        Split(source.pixels, source.y[rows], rows=rows, form=form) for rows in (order, valid, test)
    )
    return Dataset(
        name,
        classes,
        train,
        valid_part,
        test_part,
        mean,
        std,
        source.origin or name,
        seed,
        source.path,
        source.class_names,
        source.augmentation,
        (
            *source.notes,
            *_unused(source, classes),
            *_lacking(source, {"training": order, "validation": valid, "test": test}),
        ),
    )


def _classes(source: Source, name: str) -> int:
    """How many outputs a network has; labels are their numbers."""
    used = len(source.y.unique())
    classes = len(source.class_names) or int(source.y.max()) + 1
    if used < 2 or classes > max(MOST_CLASSES, 2 * used):
        raise DataError(
            f"{name} has {used} different labels, from {int(source.y.min())} to {int(source.y.max())}",
            mend="number at least two classes from 0: labels=numpy.unique(labels, return_inverse=True)[1]",
        )
    return classes


def _unused(source: Source, classes: int) -> Iterator[str]:
    """What is to be told of labels that no image has, which are outputs nevertheless."""
    lacking = sorted(set(range(classes)) - set(source.y.tolist()))
    if lacking and not source.class_names:
        first = "labels begin at 1: " if lacking == [0] else ""
        yield f"{first}no image has {_some(map(str, lacking))} of the labels 0 to {classes - 1}, which are outputs too"


def _lacking(source: Source, parts: Mapping[str, Tensor]) -> Iterator[str]:
    """What is to be told of classes that a part has no image of, unless it was cut and chance did that.

    Chance can give a class of fewer images than parts to some of them only, and may leave none to train with.
    """
    images = source.y.bincount().tolist()
    for (part, rows), given in zip(parts.items(), (True, *map(bool, source.counts[1:])), strict=True):
        absent = sorted(set(source.y.tolist()) - set(source.y[rows].tolist()))
        if lacking := [each for each in absent if given or images[each] < len(parts)]:
            names = (
                f"{source.class_names[each] if source.class_names else each} ({images[each]} in all)"
                for each in lacking
            )
            have = "class has" if len(lacking) == 1 else "classes have"
            yield f"{len(lacking)} {have} no image in the {part} part: {_some(names)}"


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")


def _statistics(pixels: Pixels, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel; of the first images, which chance put there, where all would be too many."""
    _, channels, height, width = pixels.shape
    rows = rows[: COUNTED_VALUES // (channels * height * width) if pixels.in_memory else COUNTED_FILES]
    if pixels.read(rows[:1]).dtype != torch.uint8:
        floats = pixels.read(rows).transpose(0, 1).flatten(1)
        mean, std = floats.mean(1), floats.std(1)
    else:
        counts = torch.zeros(channels, 256, dtype=torch.float64)  # how often each byte is there
        for part in rows.split(1024):
            seen = pixels.read(part).transpose(0, 1).flatten(1)
            counts += torch.stack([channel.bincount(minlength=256) for channel in seen])
        values, total = torch.arange(256, dtype=torch.float64) / 255, counts.sum(1)
        mean = counts @ values / total
        std = ((counts * (values - mean[:, None]) ** 2).sum(1) / (total - 1)).sqrt()
    return mean.float().view(-1, 1, 1), std.float().clamp_min(1e-6).view(-1, 1, 1)
