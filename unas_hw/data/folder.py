"""A folder of images: one sub-folder a class, in parts or not. ImageNet is one.

``PATH/CLASS/*.jpg``, or ``PATH/train/CLASS/*.jpg`` beside ``val`` and ``test``. Where only one of these two is there
it is the test part, as the 50,000 validation images of ImageNet are what accuracies are published for.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from profilers.files import explained
from profilers.text import name_of
from unas_hw.data.dataset import Source
from unas_hw.data.decode import Encoded, kept, states, survey
from unas_hw.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
TRAIN, VALID, TEST = ("train", "training"), ("val", "valid", "validation"), ("test", "testing")
LARGE = 96
"""Pixels from which on images are taken for photographs."""
Classes = dict[str, list[str]]


def recognises(path: Path) -> bool:
    """Whether the path is a folder of folders."""
    return path.is_dir() and any(each.is_dir() and not each.name.startswith(".") for each in path.iterdir())


def read(path: Path, image_size: int | None, cache_bytes: int) -> Source:
    """The images of the folder, decoded once if they have at most ``cache_bytes`` then.

    Raises:
        DataError: If there are no folders of classes, or parts have other classes than the training part.
    """
    with explained(path):
        train, valid, test = (_part(path, names) for names in (TRAIN, VALID, TEST))
        trains = _classes(train or path)
        if len(trains) < 2:
            raise DataError(
                f"{train or path} has images of {len(trains)} classes",
                mend=f"one sub-folder a class: {train or path}/cat/1.jpg, {train or path}/dog/1.jpg ...",
            )
        valids, tests = (_of_classes(part, trains) for part in (valid, test))
    if valids and not tests:
        valids, tests = {}, valids
    parts = [[(file, label) for label, name in enumerate(trains) for file in part.get(name, ())]
             for part in (trains, valids, tests)]  # fmt: skip
    files, labels = zip(*(each for part in parts for each in part), strict=True)

    def stored(number: int) -> Path:
        return Path(files[number])

    name = str(path)
    channels, native = survey(name, len(files), stored)
    encoded = Encoded(name, len(files), stored, channels, image_size or native)
    with explained(path):
        small = encoded.nbytes <= cache_bytes  # or a million files would be asked for their dates in vain
        pixels = kept(encoded, states(files)) if small else encoded
    counts = (len(parts[0]), len(parts[1]), len(parts[2]))
    augmentation = usual_augmentation(image_size or native)
    return Source(pixels, torch.tensor(labels), counts, tuple(map(name_of, trains)), path, augmentation=augmentation)


def usual_augmentation(size: int) -> str:
    """Of photographs, and of the small images that papers like CIFAR's have."""
    return "resizedcrop,flip,jitter" if size >= LARGE else f"crop{max(1, size // 8)},flip"


def _part(path: Path, names: tuple[str, ...]) -> Path | None:
    return next((path / name for name in names if (path / name).is_dir()), None)


def _classes(path: Path) -> Classes:
    """The image files of each class; folders without images are none."""
    found = {each.name: _images(each.path) for each in sorted(os.scandir(path), key=lambda each: each.name)
             if each.is_dir() and not each.name.startswith(".")}  # fmt: skip
    return {name: files for name, files in found.items() if files}


def _images(path: str) -> list[str]:
    return sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(path)
        for name in names
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    )


def _of_classes(part: Path | None, trains: Classes) -> Classes:
    """The images of another part, which may lack labels (the test images of ImageNet do) and is left out then."""
    found = _classes(part) if part else {}
    if part and not found and part.name in VALID and any(part.iterdir()):
        raise DataError(
            f"{part} has no folders of classes",
            mend=f"move each image into a folder that is called like its class in {part.parent}/train",
        )
    if strange := sorted(set(found) - set(trains)):
        raise DataError(
            f"{part} has the class {strange[0]}, which no training image is of",
            mend=f"rename {part}/{strange[0]} or take it out",
        )
    return found
