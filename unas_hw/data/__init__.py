"""Data sets: named ones, files, folders and hubs; their parts, batches and augmentation. See docs/data.md."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from profilers.files import explained
from unas_hw.data import cifar, digits, folder, hub, idx, named, npz
from unas_hw.data.augment import Augmentation as Augmentation
from unas_hw.data.batches import Batch as Batch
from unas_hw.data.batches import Batches as Batches
from unas_hw.data.batches import batches as batches
from unas_hw.data.batches import in_order as in_order
from unas_hw.data.dataset import CACHE_BYTES, Source, divide
from unas_hw.data.dataset import Dataset as Dataset
from unas_hw.data.dataset import Form as Form
from unas_hw.data.dataset import Split as Split
from unas_hw.data.digits import DIGITS as DIGITS
from unas_hw.errors import DataError
from unas_hw.progress import Job, Step
from unas_hw.tasks import is_task

NAMES = (DIGITS, *named.NAMED)


def telling(data: Dataset) -> Job[None]:
    """Says what was left out, converted or guessed when it was read."""
    for note in data.notes:
        yield Step("images", 0, 1, note)


def load_dataset(name: str, *, image_size: int | None = None, seed: int = 0, cache_bytes: int = CACHE_BYTES) -> Dataset:
    """Reads a data set and splits it.

    Args:
        name: One of ``NAMES``, ``hf://owner/name``, or the path of an ``.npz`` file, of CIFAR's binary version, of a
            folder of idx files or of a folder of images; or a task, whose frames it is then.
        image_size: Pixels to resize to; as they are by default.
        seed: Of the splits.
        cache_bytes: Images of files are decoded once, and kept, if they have at most so many bytes then; when they are
            needed otherwise.

    Raises:
        DataError: If there is no such data set, or it does not have that form.
        MissingDependencyError: If a library is needed that is not there.
        FileError: If decoded images cannot be kept.
    """
    if is_task(name):
        if image_size is not None:
            raise DataError(f"the frames of {name} have a size of their own", mend="leave out --image-size")
        from unas_hw.data.played import frames_of

        return frames_of(name, seed)
    return divide(_source(name, image_size, cache_bytes), name, image_size, seed)


def _source(name: str, image_size: int | None, cache_bytes: int) -> Source:
    if name == DIGITS:
        return digits.read()
    if name.startswith(hub.PREFIX):
        return hub.read(name, image_size, cache_bytes)
    if name in named.NAMED:
        found = _read(named.find(name), image_size, cache_bytes)
        return replace(found, augmentation=named.NAMED[name].augmentation or found.augmentation)
    path = Path(os.path.expanduser(name))
    if not path.exists():
        near = [f"did you mean --dataset {each}? " for each in get_close_matches(name.lower(), NAMES, 1)]
        raise DataError(
            f"there is no data set {name!r}",
            mend="".join(near)
            + f"Write --dataset and one of {', '.join(NAMES)}, hf://owner/name, or an existing .npz or folder",
        )
    path = path.resolve()
    return replace(_read(path, image_size, cache_bytes), origin=str(path))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise DataError(
            f"{error.filename or path} may not be read", mend=f"chmod -R u+rX '{error.filename or path}'"
        ) from error


def _read(path: Path, image_size: int | None, cache_bytes: int) -> Source:
    """By what lies there."""
    with explained(path), _readable(path):
        if path.suffix == ".npz" and path.is_file():
            return npz.read(path)
        if path.is_dir() or path.name.endswith(cifar.ARCHIVES):
            if cifar.recognises(path):
                return cifar.read(path)
            if idx.recognises(path):
                return idx.read(path)
            if folder.recognises(path):
                return folder.read(path, image_size, cache_bytes)
    raise DataError(
        f"{path} is not a data set: neither an .npz file nor CIFAR's .bin files, idx files or folders of images",
        mend="one sub-folder a class: PATH/cat/1.jpg, PATH/dog/1.jpg ...; the other forms are in docs/data.md",
    )
