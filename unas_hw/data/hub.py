"""Data sets of the Hugging Face hub, or in the same form in a local folder: ``hf://owner/name``, ``hf:./folder``.

A third part names a configuration: ``hf://owner/name/configuration``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from profilers.errors import MissingDependencyError
from unas_hw.data.dataset import Source
from unas_hw.data.decode import Encoded, Stored, kept, states, survey
from unas_hw.data.folder import usual_augmentation
from unas_hw.data.layout import TEST, TRAIN, VALID, parts_of
from unas_hw.errors import DataError

PREFIX = "hf:"
IMAGES, LABELS = ("image", "img"), ("label", "labels", "fine_label")
"""What columns are called usually; others are found by what they hold."""


def read(name: str, image_size: int | None, cache_bytes: int) -> Source:
    """The images of a hub's data set, decoded once if they have at most ``cache_bytes`` then.

    Raises:
        MissingDependencyError: If the library is not there.
        DataError: If there is no such data set, no training part, or no column of images or of labels.
    """
    library = _library()
    folder = Path(os.path.expanduser(name.removeprefix(PREFIX))).resolve()
    found = _load(library, name, folder)
    names = parts_of(found)
    if TRAIN not in names:
        raise DataError(f"{name} has the parts {', '.join(found)}, none of them train", mend="choose another data set")
    train = found[names[TRAIN]]
    valid, test = (found[names[part]] if part in names else None for part in (VALID, TEST))
    image, label = _columns(name, train)
    notes = [
        f"the part {part} was not read: {len(found[part]):,} images" for part in found if part not in names.values()
    ]
    if test is not None and _hides(test, label):
        notes.append(f"the part {names[TEST]} was not read: not all of its {len(test):,} images have a label")
        test = None
    if test is None:
        valid, test = None, valid
    parts = [part for part in (train, valid, test) if part is not None]
    if any(_hides(part, label) for part in parts):
        raise DataError(f"{name} has images without a label", mend="choose another data set")
    rows = library.concatenate_datasets(
        [part.select_columns([image]).cast_column(image, library.Image(decode=False)) for part in parts]
    )

    def stored(number: int) -> Stored:
        held = rows[number][image]
        return held["bytes"] if held["bytes"] is not None else Path(held["path"])

    looked = survey(name, len(rows), stored)
    size = image_size or looked.size
    encoded = Encoded(name, len(rows), stored, looked.channels, size, looked.ground)
    files = [each["filename"] for part in parts for each in part.cache_files]
    return Source(
        kept(encoded, states(files)) if files and encoded.nbytes <= cache_bytes else encoded,
        torch.cat([_labels(part, label) for part in parts]),
        (len(train), len(valid or ()), len(test or ())),
        tuple(getattr(train.features[label], "names", ())),
        origin=f"{PREFIX}{folder}" if folder.is_dir() else name,
        augmentation=usual_augmentation(size),
        notes=(*notes, *looked.notes),
    )


def _load(library: Any, name: str, folder: Path) -> Mapping[str, Any]:
    """Parts by name."""
    words = name.removeprefix(PREFIX).strip("/").split("/")
    arguments = [str(folder)] if folder.is_dir() else ["/".join(words[:2]), *words[2:]]
    if len(arguments) > 2 or not all(words):
        raise DataError(f"{name!r} is no name of a hub", mend="hf://owner/name, or hf: and the path of a folder")
    try:
        found: Mapping[str, Any] = library.load_dataset(*arguments)
    except Exception as error:  # the library's errors, and those of the network, have no base of their own
        raise DataError(
            f"{name} cannot be loaded: {' '.join(str(error).split())[:300]}",
            mend="check the name at https://huggingface.co/datasets, and the network",
        ) from error
    return found


def _labels(part: Any, label: str) -> Tensor:
    return torch.tensor(part[label][:], dtype=torch.long)


def _hides(part: Any, label: str) -> bool:
    """Whether labels are kept secret, which -1 stands for."""
    return int(_labels(part, label).min()) < 0


def _columns(name: str, part: Any) -> tuple[str, str]:
    """Of the images and of the labels: by what they hold, and by their names where several hold it."""
    kinds = {column: type(feature).__name__ for column, feature in part.features.items()}
    numbers = [column for column, feature in part.features.items() if getattr(feature, "dtype", "").startswith("int")]
    images = [column for column, kind in kinds.items() if kind == "Image"]
    labels = [column for column, kind in kinds.items() if kind == "ClassLabel"]
    image = next((column for column in IMAGES if column in images), images[0] if len(images) == 1 else None)
    label = next((column for column in LABELS if column in numbers), labels[0] if len(labels) == 1 else None)
    if image is None or label is None:
        held = ", ".join(f"{column} ({kind})" for column, kind in kinds.items())
        raise DataError(
            f"{name} has no column of {'labels' if image else 'images'} that can be told: {held}",
            mend="choose a data set for image classification, with columns image and label",
        )
    return image, label


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingDependencyError("datasets is not installed", mend="pip install 'unas-hw[data]'") from None
    datasets.disable_progress_bars()
    return datasets
