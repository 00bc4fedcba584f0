"""A data set of one ``.npz`` file.

``images`` (N, H, W), (N, H, W, C) or (N, C, H, W), ``labels`` (N,), and perhaps ``class_names``; ``val_images`` and
``val_labels``, ``test_images`` and ``test_labels`` of other parts. Other usual names are understood: ``x_train``.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from unas_hw.data.dataset import Source
from unas_hw.data.layout import TEST, TRAIN, VALID, parts_of
from unas_hw.data.pixels import Memory
from unas_hw.errors import DataError

MEND = "numpy.savez(path, images=bytes of shape (N, H, W) or (N, H, W, C), labels=integers of shape (N,))"
Array = npt.NDArray[Any]
_WORDS = {
    **dict.fromkeys(("images", "image", "imgs", "x", "data"), "images"),
    **dict.fromkeys(("labels", "label", "y", "targets"), "labels"),
}
_CLASS_NAMES = "class_names"
_TOO_DARK = 4112
"""Of 65535: 16 of the 255 that are kept."""
_WHITE = 32
"""Floats beyond 1 that do not go as far are no bytes."""


def read(path: Path) -> Source:
    """The images of the file; raises ``DataError`` if it does not have that form."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names = _names(file.files)
            used = {name for pair in names.values() for name in pair.values()} | {_CLASS_NAMES}
            notes = (
                [f"arrays that were not read: {', '.join(rest)}"] if (rest := sorted(set(file.files) - used)) else []
            )
            pairs = [names[part] for part in (TRAIN, VALID, TEST) if part in names]
            arrays = [(file[pair["images"]], file[pair["labels"]]) for pair in pairs]
            known = tuple(map(str, file[_CLASS_NAMES])) if _CLASS_NAMES in file.files else ()
        read = [_images(array, notes if number == 0 else []) for number, (array, _) in enumerate(arrays)]
        for (x, kind), (array, _), pair in zip(read, arrays, pairs, strict=True):
            if x.shape[1:] != read[0][0].shape[1:] or kind != read[0][1]:
                raise ValueError(
                    f"{pair['images']} are {kind} of shape {array.shape}, "
                    f"{pairs[0]['images']} {read[0][1]} of shape {arrays[0][0].shape}"
                )
        y, class_names = _labels([(labels, len(array)) for array, labels in arrays], known, notes)
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not a data set: {error}", mend=MEND) from error
    pixels = Memory(torch.from_numpy(np.ascontiguousarray(np.concatenate([x for x, _ in read]))))
    sizes = iter(len(x) for x, _ in read)
    train, valid, test = (next(sizes) if part in names else 0 for part in (TRAIN, VALID, TEST))
    counts = (train, valid, test) if test else (train, 0, valid)
    return Source(pixels, torch.from_numpy(y), counts, class_names, path, notes=tuple(dict.fromkeys(notes)))


def _names(files: Iterable[str]) -> dict[str, dict[str, str]]:
    """By part the names of its ``images`` and ``labels``; raises ``KeyError`` with a name that lacks."""
    found = dict[str, dict[str, str]]()
    for name in files:
        words = re.split(r"[_\W]+", name.lower())
        whats = [_WORDS[word] for word in words if word in _WORDS]
        if len(whats) == 1:
            of = found.setdefault("_".join(word for word in words if word not in _WORDS), {})
            if whats[0] in of:
                raise ValueError(f"{of[whats[0]]} and {name} may both be the {whats[0]}")
            of[whats[0]] = name
    parts = {part: found[prefix] for part, prefix in parts_of(prefix for prefix in found if prefix).items()}
    if "" in found:
        if TRAIN in parts:
            raise ValueError(
                f"{' and '.join([*found[''].values(), *parts[TRAIN].values()])} may all be of the training part"
            )
        parts[TRAIN] = found[""]
    for part in (TRAIN, VALID, TEST):
        for what in ("images", "labels"):
            if (part in parts or part == TRAIN) and what not in parts.get(part, {}):
                raise KeyError(what if part == TRAIN else f"{part}_{what}")
    return parts


def _images(array: Array, notes: list[str]) -> tuple[Array, str]:
    """``(N, C, H, W)``, bytes or floats in [0, 1], and what they were; ``notes`` say what was done to them."""
    what = f"images are {array.dtype} of shape {array.shape}"
    if array.ndim == 3 and array.shape[1] == array.shape[2]:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] == array.shape[2]:
        array = array.transpose(0, 3, 1, 2)
    elif array.ndim == 4 and array.shape[2] == array.shape[3]:
        notes.append(f"{what}: read as (N, C, H, W)")
    else:
        raise ValueError(f"{what}, not square images")
    if array.dtype.kind not in "biuf" or not array.size:
        raise ValueError(f"{what}, not square uint8 images")
    if array.dtype == np.uint8:
        return array, "bytes"
    low, high = float(array.min()), float(array.max())
    what = f"images are {array.dtype} from {low:g} to {high:g}"
    if array.dtype.kind == "b":
        notes.append("images are bool: true is white, 255")
        return array.astype(np.uint8) * np.uint8(255), "bool"
    if array.dtype.kind != "f" and low >= 0 and high <= 65535:
        if high <= 255:
            notes.append(f"{what}: read as bytes")
            return array.astype(np.uint8), "bytes"
        if high < _TOO_DARK:
            raise ValueError(
                f"{what}: of 16 bits a value 8 are kept, in which the brightest is {high / 257:.0f} of 255"
            )
        notes.append(f"{what}: of 16 bits a value 8 are kept")
        return ((array.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8), "16 bits"
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return array.astype(np.float32), "floats to 1"
    if array.dtype.kind == "f" and -1 <= low < 0 < high <= 1:
        notes.append(f"{what}: -1 is read as black, 1 as white")
        return (array.astype(np.float32) + 1) / 2, "floats from -1 to 1"
    if array.dtype.kind == "f" and low >= 0 and _WHITE <= high <= 255:
        notes.append(f"{what}: 255 is read as white")
        return array.astype(np.float32) / 255, "floats to 255"
    bad = int((~np.isfinite(array)).sum()) if array.dtype.kind == "f" else 0
    raise ValueError(f"{what}{f', {bad} of them no numbers' if bad else ''}: neither bytes nor floats from 0 to 1")


def _labels(
    parts: list[tuple[Array, int]], names: tuple[str, ...], notes: list[str]
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """``(N,)`` of all parts, and what classes are called, where the file says it."""
    if any(array.dtype.kind in "US" for array, _ in parts):
        words = [_flat(array.astype(str), count) for array, count in parts]
        names = names or tuple(np.unique(words[0]).tolist())
        if strange := sorted({word for each in words for word in each.tolist()} - set(names)):
            raise ValueError(f"labels have {strange[0]!r}, which no training image is of")
        return np.array([names.index(word) for each in words for word in each.tolist()], np.int64), names
    read = []
    for array, count in parts:
        if array.ndim == 2 and array.shape[0] == count and array.shape[1] > 1:
            if not (np.isin(array, (0, 1)).all() and (array.sum(1) == 1).all()):
                raise ValueError(f"labels are {array.dtype} of shape {array.shape}, not one label an image")
            notes.append(f"labels are one-hot, of {array.shape[1]} classes")
            names = names or tuple(map(str, range(array.shape[1])))
            array = array.argmax(1)
        read.append(_flat(array, count))
    y = np.concatenate(read)
    if names and int(y.max()) >= len(names):
        raise ValueError(f"labels go to {int(y.max())}, and {len(names)} classes have a name")
    return y.astype(np.int64), names


def _flat(array: Array, count: int) -> Array:
    """``(N,)`` labels, words or whole numbers, of one array that has no other dimension."""
    flat = array.reshape(-1)
    fits = array.size == count == max(array.shape, default=0) and array.dtype.kind in "biufUS"
    bad = flat[:0]
    if fits and array.dtype.kind in "iuf":
        bad = flat[(flat < 0) | (flat != np.floor(flat)) | (flat >= 2**31)]
    if not fits or len(bad):
        seen = f", {len(bad)} like {bad[0]}" if len(bad) else ""
        raise ValueError(f"labels are {array.dtype} of shape {array.shape}{seen}, not {count} non-negative integers")
    return flat
