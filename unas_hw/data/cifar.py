"""CIFAR-10 and CIFAR-100 in the binary version, a folder or the published archive.

A record is one byte of label (CIFAR-100: coarse, then fine) and 3 x 32 x 32 bytes of red, green and blue.
The python version is made of pickles, which can run any code when they are read: it is refused.
"""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from profilers.files import explained
from unas_hw.data.dataset import Source
from unas_hw.data.pixels import Memory
from unas_hw.errors import DataError

SIZE = 32
PIXELS = 3 * SIZE * SIZE
ARCHIVES = (".tar.gz", ".tgz", ".tar")
ORIGIN = "https://www.cs.toronto.edu/~kriz/cifar-{classes}-binary.tar.gz"
_BATCH, _WANTED = re.compile(r"data_batch_\d+\.bin"), re.compile(r".*\.bin|batches\.meta\.txt|fine_label_names\.txt")
_PICKLED = ({"data_batch_1", "test_batch"}, {"train", "test", "meta"})


def recognises(path: Path) -> bool:
    """Whether the path is an archive, or a folder with files that are called like those of CIFAR."""
    if path.is_file():
        return path.name.endswith(ARCHIVES)
    names = {each.name for each in path.iterdir() if each.is_file()}
    return _is_binary(names) or _is_pickled(names)


def read(path: Path) -> Source:
    """The images of the folder or archive; raises ``DataError`` if they are pickled, damaged or not all there."""
    files = _archived(path) if path.is_file() else {each.name: each for each in path.iterdir() if each.is_file()}
    if not _is_binary(set(files)):
        if _is_pickled(set(files)):
            raise DataError(
                f"{path} is the python version of CIFAR: pickles, which can run any code, are not opened",
                mend=f"get the binary version instead: {ORIGIN.format(classes=100 if 'meta' in files else 10)}",
            )
        raise DataError(f"{path} has no data_batch_1.bin and no train.bin", mend=ORIGIN.format(classes=10))
    classes = 100 if "train.bin" in files else 10
    batches = ["train.bin"] if classes == 100 else sorted(filter(_BATCH.fullmatch, files))
    test = "test.bin" if classes == 100 else "test_batch.bin"
    if test not in files:
        raise DataError(f"{path} has no {test}", mend=f"unpack all of {ORIGIN.format(classes=classes)}")
    labels = 2 if classes == 100 else 1
    records = [_records(files[name], name, path, labels, classes) for name in [*batches, test]]
    tests = len(records[-1])
    pixels = np.concatenate([part[:, labels:] for part in records]).reshape(-1, 3, SIZE, SIZE)
    y = np.concatenate([part[:, labels - 1] for part in records]).astype(np.int64)
    told = files.get("fine_label_names.txt" if classes == 100 else "batches.meta.txt")
    names = tuple(_bytes(told).decode(errors="replace").split()) if told is not None else ()
    names = names if len(names) == classes else tuple(map(str, range(classes)))
    counts = (len(y) - tests, 0, tests)
    augmentation = "crop4,flip,cutout16"
    return Source(Memory(torch.from_numpy(pixels)), torch.from_numpy(y), counts, names, path, augmentation=augmentation)


def _is_binary(names: set[str]) -> bool:
    return any(map(_BATCH.fullmatch, names)) or "train.bin" in names


def _is_pickled(names: set[str]) -> bool:
    return any(pickled <= names for pickled in _PICKLED)


def _archived(path: Path) -> dict[str, Path | bytes]:
    """What lies in an archive by name; only what is read here is unpacked."""
    found: dict[str, Path | bytes] = {}
    with explained(path):
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    name = Path(member.name).name
                    content = archive.extractfile(member) if _WANTED.fullmatch(name) else None
                    found[name] = content.read() if content else b""
                while archive.fileobj and archive.fileobj.read(2**20):
                    pass  # the checksum comes last
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path} is a damaged archive: {error}", mend="download it again") from error
    return found


def _bytes(file: Path | bytes) -> bytes:
    if isinstance(file, bytes):
        return file
    with explained(file):
        return file.read_bytes()


def _records(file: Path | bytes, name: str, path: Path, labels: int, classes: int) -> npt.NDArray[np.uint8]:
    """``(N, labels + PIXELS)``."""
    content = np.frombuffer(_bytes(file), np.uint8)
    if not len(content) or len(content) % (labels + PIXELS):
        raise DataError(
            f"{name} of {path} has {len(content)} bytes, not a multiple of {labels + PIXELS}", mend="download it again"
        )
    records = content.reshape(-1, labels + PIXELS)
    if (highest := records[:, labels - 1].max()) >= classes:
        raise DataError(f"{name} of {path} has the label {highest} of {classes}", mend="download it again")
    return records
