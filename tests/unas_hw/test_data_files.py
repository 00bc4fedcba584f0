"""CIFAR's binary version and idx files: every pixel and label where it belongs, and what is damaged, pickled or missing
is refused with what to do.
"""

from __future__ import annotations

import gzip
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from unas_hw.data import Augmentation, Dataset, Split, load_dataset
from unas_hw.errors import DataError

Pixels = npt.NDArray[np.uint8]
RNG = np.random.default_rng(0)
X, TEST_X = (RNG.integers(0, 256, (count, 3, 32, 32)).astype(np.uint8) for count in (60, 12))
GREY, TEST_GREY = (RNG.integers(0, 256, (count, 28, 28)).astype(np.uint8) for count in (60, 12))


def _y(count: int, classes: int) -> Pixels:
    return (np.arange(count) * 7 % classes).astype(np.uint8)


def _cifar10(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, part in enumerate(np.split(np.arange(60), 5), 1):
        records = np.concatenate([_y(60, 10)[part, None], X[part].reshape(12, -1)], axis=1)
        (folder / f"data_batch_{number}.bin").write_bytes(records.tobytes())
    (folder / "test_batch.bin").write_bytes(np.concatenate([_y(12, 10)[:, None], TEST_X.reshape(12, -1)], 1).tobytes())
    (folder / "batches.meta.txt").write_text("airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n")
    (folder / "readme.html").write_text("not an image")
    return folder


def _cifar100(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, x in (("train.bin", X), ("test.bin", TEST_X)):
        fine = _y(len(x), 100)
        records = np.concatenate([(fine // 5)[:, None], fine[:, None], x.reshape(len(x), -1)], axis=1)
        (folder / name).write_bytes(records.tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(f"thing_{label}" for label in range(100)))
    return folder


def _idx(folder: Path, suffix: str = ".gz", name: str = "{part}-{what}-idx{dimensions}-ubyte") -> Path:
    folder.mkdir(parents=True)
    for part, x in (("train", GREY), ("t10k", TEST_GREY)):
        for what, array in (("images", x), ("labels", _y(len(x), 10))):
            content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
            path = folder / (name.format(part=part, what=what, dimensions=array.ndim) + suffix)
            path.write_bytes(gzip.compress(content) if suffix else content)
    return folder


def _bytes(data: Dataset, split: Split) -> Pixels:
    pixels: Tensor = (split.x * data.std + data.mean) * 255
    return pixels.round().byte().numpy()


def _assert_holds(data: Dataset, x: Pixels, test_x: Pixels, classes: int) -> None:
    """That the parts have exactly these images with the labels of ``_y``."""
    np.testing.assert_array_equal(_bytes(data, data.test).reshape(test_x.shape), test_x)
    assert data.test.y.tolist() == _y(len(test_x), classes).tolist()
    label_of = {image.tobytes(): label for image, label in zip(x, _y(len(x), classes).tolist(), strict=True)}
    seen = data.train + data.valid
    found = {image.tobytes(): label for image, label in zip(_bytes(data, seen), seen.y.tolist(), strict=True)}
    assert found == label_of
    assert data.classes == classes


def test_cifar_10_is_read_with_its_names(tmp_path: Path) -> None:
    data = load_dataset(str(_cifar10(tmp_path / "bin")))
    _assert_holds(data, X, TEST_X, 10)
    assert data.image_shape == (3, 32, 32)
    assert data.class_names[:4] == ("airplane", "automobile", "bird", "cat")
    assert data.describe()["path"] == str(tmp_path / "bin")
    assert str(Augmentation.parse(data.augmentation)) == "crop4,flip,cutout16"


def test_cifar_100_has_the_fine_labels(tmp_path: Path) -> None:
    data = load_dataset(str(_cifar100(tmp_path / "bin")))
    _assert_holds(data, X, TEST_X, 100)
    assert data.class_names[99] == "thing_99"


def test_a_packed_archive_is_read_as_it_is(tmp_path: Path) -> None:
    folder = _cifar10(tmp_path / "cifar-10-batches-bin")
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    data = load_dataset(str(tmp_path / "cifar-10-binary.tar.gz"))
    _assert_holds(data, X, TEST_X, 10)
    assert torch.equal(data.train.x, load_dataset(str(folder)).train.x)
    assert sorted(each.name for each in tmp_path.iterdir()) == [folder.name, "cifar-10-binary.tar.gz"]


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize("name", ["{part}-{what}-idx{dimensions}-ubyte", "{part}-{what}.idx{dimensions}-ubyte"])
def test_idx_files_are_read_packed_or_not(tmp_path: Path, suffix: str, name: str) -> None:
    data = load_dataset(str(_idx(tmp_path / "raw", suffix, name)))
    _assert_holds(data, GREY[:, None], TEST_GREY[:, None], 10)
    assert data.image_shape == (1, 28, 28)
    assert str(Augmentation.parse(data.augmentation)) == "shift0.07"


NAMED: list[tuple[str, str, Callable[[Path], Path]]] = [
    ("cifar10", "cifar10", _cifar10),
    ("cifar10", "cifar-10-batches-bin", _cifar10),
    ("cifar10", "cifar10/cifar-10-batches-bin", _cifar10),
    ("cifar100", "cifar-100-binary", _cifar100),
    ("fashion-mnist", "fashion-mnist", _idx),
    ("fashion-mnist", "FashionMNIST/raw", _idx),
    ("mnist", "MNIST/raw", _idx),
]


@pytest.mark.parametrize(("name", "place", "make"), NAMED)
def test_a_data_set_with_a_name_is_found_where_it_is_usually_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str, make: Callable[[Path], Path]
) -> None:
    make(tmp_path / place)
    monkeypatch.setenv("UNAS_HW_DATA", str(tmp_path))
    data = load_dataset(name)
    assert (data.name, data.origin, data.path) == (name, name, tmp_path / place)
    assert len(data.train) + len(data.valid) + len(data.test) == 72
    assert ("flip" in str(Augmentation.parse(data.augmentation))) is (name != "mnist")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion-mnist", "mnist", "imagenet"])
def test_a_data_set_that_is_not_where_it_should_be_is_refused_with_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("UNAS_HW_DATA", str(tmp_path))
    with pytest.raises(
        DataError, match=rf"{name} is not in {tmp_path} \(UNAS_HW_DATA\): looked for {name}, "
    ) as caught:
        load_dataset(name)
    assert f"into {tmp_path}/{name}" in caught.value.mend
    assert "--dataset hf://" in caught.value.mend
    monkeypatch.delenv("UNAS_HW_DATA")
    with pytest.raises(DataError, match="UNAS_HW_DATA, which is not set") as caught:
        load_dataset(name)
    assert "export UNAS_HW_DATA=" in caught.value.mend


class Trap:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("sprung"),)


@pytest.mark.parametrize("names", [["data_batch_1", "test_batch", "batches.meta"], ["train", "test", "meta"]])
def test_pickles_are_refused_and_not_opened(tmp_path: Path, names: list[str]) -> None:
    folder = tmp_path / "python"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(pickle.dumps(Trap()))
    with tarfile.open(tmp_path / "python.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    for path in (folder, tmp_path / "python.tar.gz"):
        with pytest.raises(DataError, match="python version of CIFAR: pickles") as caught:
            load_dataset(str(path))
        assert f"cifar-{100 if 'meta' in names else 10}-binary.tar.gz" in caught.value.mend
    assert not Path("sprung").exists()


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("test_batch.bin", None, "has no test_batch.bin"),
        ("data_batch_3.bin", b"\0" * 3072, "data_batch_3.bin of .* has 3072 bytes, not a multiple of 3073"),
        ("data_batch_3.bin", b"", "has 0 bytes"),
        ("data_batch_3.bin", b"\x0a" + b"\0" * 3072, "has the label 10 of 10"),
    ],
)
def test_a_damaged_cifar_is_refused(tmp_path: Path, name: str, content: bytes | None, what: str) -> None:
    file = _cifar10(tmp_path / "bin") / name
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=what):
        load_dataset(str(tmp_path / "bin"))


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    folder = _cifar10(tmp_path / "bin")
    with tarfile.open(tmp_path / "whole.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    content = (tmp_path / "whole.tar.gz").read_bytes()
    for name, damaged in (("short", content[:50_000]), ("noise", b"no archive"), ("bent", content[:-9] + b"123456789")):
        path = tmp_path / f"{name}.tar.gz"
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=f"{name}.tar.gz is a damaged archive") as caught:
            load_dataset(str(path))
        assert caught.value.mend == "download it again"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("t10k-labels-idx1-ubyte", None, "has no t10k-labels-idx1-ubyte"),
        ("train-images-idx3-ubyte", b"", "damaged idx file"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03\0\0\0\x3c\0\0\0\x1c\0\0\0\x1c12", r"18 bytes for \(60, 28, 28\)"),
        ("train-labels-idx1-ubyte", b"\0\0\x0d\x01\0\0\0\x01\0", "damaged idx file"),
        (
            "train-labels-idx1-ubyte",
            b"\0\0\x08\x01\0\0\0\x02\0\1",
            r"images of shape \(60, 28, 28\) and labels of shape",
        ),
    ],
)
@pytest.mark.parametrize("suffix", [".gz", ""])
def test_damaged_idx_files_are_refused(
    tmp_path: Path, suffix: str, name: str, content: bytes | None, what: str
) -> None:
    file = _idx(tmp_path / "raw", suffix) / (name + suffix)
    file.unlink()
    if content is not None:
        file.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(DataError, match=what):
        load_dataset(str(tmp_path / "raw"))
    if suffix and content is not None:
        file.write_bytes(b"no gzip")
        with pytest.raises(DataError, match="damaged idx file"):
            load_dataset(str(tmp_path / "raw"))
