"""Folders of images and data sets of the hub's form: parts, classes and sizes are found; decoded once and kept, or when
they are needed, images are the same.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from profilers.errors import FileError, MissingDependencyError
from profilers.home import home
from unas_hw.data import Augmentation, batches, load_dataset
from unas_hw.errors import DataError

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def _picture(number: int, width: int = 16, height: int = 16, mode: str = "RGB") -> Any:
    """A colour of its own, which a JPEG keeps nearly: red is the number."""
    pixels = np.full((height, width, 3), (number, 255 - number, 90), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def _folder(
    root: Path, count: int = 12, suffix: str = "png", classes: tuple[str, ...] = ("cat", "dog"), **kind: Any
) -> Path:
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            _picture(number * len(classes) + label, **kind).save(root / name / f"{number:03}.{suffix}")
    return root


def _cached() -> list[Path]:
    return sorted((home() / "cache" / "images").glob("*"))


def _reds(data: Any, part: str) -> list[int]:
    split = getattr(data, part)
    x = split.take(torch.arange(len(split))) * data.std + data.mean
    reds: list[int] = (x[:, 0].mean((1, 2)) * 255).round().int().tolist()
    return reds


@pytest.mark.parametrize("cache_bytes", [2_000_000, 100])
def test_a_folder_of_classes_is_cut_into_parts(tmp_path: Path, cache_bytes: int) -> None:
    data = load_dataset(str(_folder(tmp_path / "pets", 20)), cache_bytes=cache_bytes)
    assert (data.classes, data.class_names, data.image_shape) == (2, ("cat", "dog"), (3, 16, 16))
    assert [len(part) for part in (data.train, data.valid, data.test)] == [24, 8, 8]
    assert data.train.in_memory is (cache_bytes > 100)
    reds = [red for part in ("train", "valid", "test") for red in _reds(data, part)]
    assert sorted(reds) == list(range(40))
    for part in ("train", "valid", "test"):
        assert [red % 2 for red in _reds(data, part)] == getattr(data, part).y.tolist()


def test_images_are_the_same_kept_or_decoded_when_needed(tmp_path: Path) -> None:
    folder = str(_folder(tmp_path / "pets", suffix="jpg", width=40, height=30))
    whole, lazy = load_dataset(folder, image_size=24), load_dataset(folder, image_size=24, cache_bytes=0)
    assert len(_cached()) == 1
    assert torch.equal(whole.mean, lazy.mean)
    assert torch.equal(whole.train.x, lazy.train.take(torch.arange(len(lazy.train))))
    augmentation = Augmentation.parse(whole.augmentation)
    pairs = zip(*(batches(data.train, 4, torch.Generator().manual_seed(0), augmentation, prefetch)
                  for data, prefetch in ((whole, False), (lazy, True))), strict=True)  # fmt: skip
    assert all(torch.equal(a.x, b.x) and torch.equal(a.y, b.y) for a, b in pairs)
    with pytest.raises(DataError, match="decoded as they are needed"):
        lazy.train.x  # noqa: B018
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("unas-hw")]


def test_images_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _folder(tmp_path / "pets")
    first = load_dataset(str(folder))
    (kept,) = _cached()
    assert np.load(kept, mmap_mode="r").shape == (24, 3, 16, 16)
    monkeypatch.setattr("unas_hw.data.decode.Encoded.read", None)  # decoding again would fail
    assert torch.equal(load_dataset(str(folder)).train.x, first.train.x)


@pytest.mark.parametrize("change", ["pixels", "size", "more"])
def test_changed_images_are_decoded_again(tmp_path: Path, change: str) -> None:
    folder = _folder(tmp_path / "pets")
    load_dataset(str(folder))
    if change == "pixels":
        _picture(200).save(folder / "cat" / "000.png")
        os.utime(folder / "cat" / "000.png", ns=(1, 1))
    elif change == "more":
        _picture(200).save(folder / "cat" / "zzz.png")
    again = load_dataset(str(folder), image_size=8 if change == "size" else None)
    assert len(_cached()) == 2
    assert any(200 in _reds(again, part) for part in ("train", "valid", "test")) is (change != "size")


def test_a_decoding_that_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "pets")
    (folder / "dog" / "011.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"011\.png cannot be decoded") as caught:
        load_dataset(str(folder))
    assert "take it out" in caught.value.mend
    assert _cached() == []


def test_a_truncated_image_is_refused_by_its_name(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "pets", suffix="jpg", width=64, height=64)
    file = folder / "dog" / "003.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"003\.jpg cannot be decoded"):
        load_dataset(str(folder))


def test_a_cache_that_cannot_be_written_is_an_error_with_a_mend(tmp_path: Path) -> None:
    home().mkdir(parents=True)
    (home() / "cache").write_text("a file where the folder should be")
    with pytest.raises(FileError) as caught:
        load_dataset(str(_folder(tmp_path / "pets")))
    assert "UNAS_HW_HOME" in caught.value.mend


def test_parts_of_their_own_are_kept_apart(tmp_path: Path) -> None:
    for part, count in (("train", 10), ("val", 3), ("test", 2)):
        _folder(tmp_path / "pets" / part, count)
    data = load_dataset(str(tmp_path / "pets"))
    assert [len(part) for part in (data.train, data.valid, data.test)] == [20, 6, 4]
    assert sorted(_reds(data, "train")) == list(range(20))
    assert _reds(data, "test") == [0, 2, 1, 3]


@pytest.mark.parametrize("unlabelled", [False, True])
def test_the_validation_part_is_the_test_part_where_there_is_no_other(tmp_path: Path, unlabelled: bool) -> None:
    _folder(tmp_path / "imagenet" / "train", 10)
    _folder(tmp_path / "imagenet" / "val", 3)
    if unlabelled:  # as ImageNet's test images are
        (tmp_path / "imagenet" / "test").mkdir()
        _picture(1).save(tmp_path / "imagenet" / "test" / "1.png")
    data = load_dataset(str(tmp_path / "imagenet"))
    assert [len(part) for part in (data.train, data.valid, data.test)] == [15, 5, 6]
    assert _reds(data, "test") == [0, 2, 4, 1, 3, 5]


def test_imagenet_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "ILSVRC" / "Data" / "CLS-LOC"
    _folder(place / "train", 10, suffix="JPEG", classes=("n01440764", "n01443537"), width=120, height=100)
    _folder(place / "val", 3, suffix="JPEG", classes=("n01440764", "n01443537"), width=90, height=130)
    monkeypatch.setenv("UNAS_HW_DATA", str(tmp_path))
    data = load_dataset("imagenet")
    assert (data.origin, data.path, data.image_shape) == ("imagenet", place, (3, 95, 95))
    assert load_dataset("imagenet", image_size=96).image_shape == (3, 96, 96)
    augmentations = [
        str(Augmentation.parse(load_dataset("imagenet", image_size=size).augmentation)) for size in (96, 32)
    ]
    assert augmentations == ["resizedcrop0.08,flip,jitter0.4", "crop4,flip"]


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    assert load_dataset(str(_folder(tmp_path / "pets", mode="L"))).image_shape == (1, 16, 16)


def test_pixels_of_square_images_are_not_touched(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3)).astype(np.uint8)
    for number, each in enumerate(pixels):
        path = tmp_path / "noise" / f"class{number % 2}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(each).save(path)
    data = load_dataset(str(tmp_path / "noise"))
    seen = data.train.pixels.read(torch.arange(20)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(seen, np.concatenate([pixels[::2], pixels[1::2]]))


@pytest.mark.parametrize(("width", "height"), [(64, 32), (32, 64)])
def test_the_middle_of_a_longer_image_is_taken(tmp_path: Path, width: int, height: int) -> None:
    for name in ("a", "b"):
        (tmp_path / "bars" / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.zeros((32, 64, 3), np.uint8)
            pixels[:, 16:48] = 255  # black bars left and right
            picture = Image.fromarray(pixels if width > height else pixels.transpose(1, 0, 2))
            picture.save(tmp_path / "bars" / name / f"{number}.png")
    data = load_dataset(str(tmp_path / "bars"), image_size=16)
    seen = data.train.pixels.read(torch.arange(12))
    assert int(seen.min()) > 200  # a filter looks a little over the edge
    assert int(seen[..., 1:-1, 1:-1].min()) == 255


@pytest.mark.parametrize(
    ("make", "what", "mend"),
    [
        (lambda root: _folder(root, classes=("cat",)), "has images of 1 classes", "one sub-folder a class"),
        (lambda root: (root / "cat").mkdir(parents=True), "has images of 0 classes", "one sub-folder a class"),
        (lambda root: [_folder(root / "train"), _folder(root / "val", classes=("cow", "dog"))],
         "val has the class cow, which no training image is of", "rename"),
        (lambda root: [_folder(root / "train"), (root / "val").mkdir(), _picture(1).save(root / "val" / "1.png")],
         "val has no folders of classes", "move each image into a folder"),
    ],
)  # fmt: skip
def test_a_folder_of_another_form_is_refused(tmp_path: Path, make: Any, what: str, mend: str) -> None:
    make(tmp_path / "pets")
    with pytest.raises(DataError) as caught:
        load_dataset(str(tmp_path / "pets"))
    assert what in caught.value.what
    assert mend in caught.value.mend


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library, which keeps what it makes in the test's folder and asks nobody."""
    library = pytest.importorskip("datasets", reason="datasets is not installed")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub-cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    library.disable_progress_bars()
    return library


def _parquet(library: Any, path: Path, count: int, columns: dict[str, Any], labels: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    held = {
        "image": [_picture(number) for number in range(count)],
        "label": [number % labels for number in range(count)],
    }
    rows = {name: held["image" if isinstance(kind, library.Image) else "label"] for name, kind in columns.items()}
    library.Dataset.from_dict(rows, features=library.Features(columns)).to_parquet(path)


@pytest.mark.parametrize("columns", ["usual", "cifar100", "own"])
@pytest.mark.parametrize("cache_bytes", [2_000_000, 0])
def test_a_data_set_of_the_hubs_form_is_read(tmp_path: Path, hub: Any, columns: str, cache_bytes: int) -> None:
    kinds = {
        "usual": {"image": hub.Image(), "label": hub.ClassLabel(names=["even", "odd"])},
        "cifar100": {"img": hub.Image(), "coarse_label": hub.ClassLabel(names=["x", "y", "z"]),
                     "fine_label": hub.ClassLabel(names=["even", "odd"])},
        "own": {"photo": hub.Image(), "kind": hub.ClassLabel(names=["even", "odd"]), "year": hub.Value("int64")},
    }[columns]  # fmt: skip
    for part, count in (("train", 20), ("test", 6)):
        _parquet(hub, tmp_path / "set" / f"{part}.parquet", count, kinds)
    data = load_dataset("hf:./set", cache_bytes=cache_bytes)
    assert (data.class_names, data.image_shape, data.origin) == (("even", "odd"), (3, 16, 16), f"hf:{tmp_path / 'set'}")
    assert [len(part) for part in (data.train, data.valid, data.test)] == [15, 5, 6]
    assert _reds(data, "test") == list(range(6))
    assert data.test.y.tolist() == [0, 1, 0, 1, 0, 1]
    assert sorted(_reds(data, "train") + _reds(data, "valid")) == list(range(20))
    assert data.train.in_memory is (cache_bytes > 0)


def test_a_folder_is_read_through_the_library_too(tmp_path: Path, hub: Any) -> None:
    for part, count in (("train", 10), ("test", 3)):
        _folder(tmp_path / "pets" / part, count)
    through, direct = load_dataset(f"hf:{tmp_path / 'pets'}"), load_dataset(str(tmp_path / "pets"))
    assert through.class_names == direct.class_names
    assert torch.equal(through.train.x, direct.train.x)
    assert torch.equal(through.test.y, direct.test.y)


def test_secret_labels_are_no_test_part(tmp_path: Path, hub: Any) -> None:
    kinds = {"image": hub.Image(), "label": hub.ClassLabel(names=["even", "odd"])}
    _parquet(hub, tmp_path / "set" / "train.parquet", 20, kinds)
    _parquet(hub, tmp_path / "set" / "validation.parquet", 6, kinds)
    secret = hub.Dataset.from_dict({"image": [_picture(9)], "label": [-1]}, features=hub.Features(kinds))
    secret.to_parquet(tmp_path / "set" / "test.parquet")
    data = load_dataset("hf:set")
    assert [len(part) for part in (data.train, data.valid, data.test)] == [15, 5, 6]
    assert _reds(data, "test") == list(range(6))


def test_a_data_set_of_the_hub_without_images_or_labels_is_refused(tmp_path: Path, hub: Any) -> None:
    names = hub.ClassLabel(names=["even", "odd"])
    for lacking, kinds in (("images", {"label": names}), ("labels", {"image": hub.Image(), "a": names, "b": names})):
        _parquet(hub, tmp_path / lacking / "train.parquet", 6, kinds)
        with pytest.raises(DataError, match=f"no column of {lacking} that can be told: .*ClassLabel"):
            load_dataset(f"hf:{tmp_path / lacking}")
    _parquet(hub, tmp_path / "tests" / "test.parquet", 6, {"image": hub.Image(), "label": names})
    with pytest.raises(DataError, match="has the parts test, none of them train"):
        load_dataset(f"hf:{tmp_path / 'tests'}")


def test_a_name_that_no_hub_has_is_refused(hub: Any) -> None:
    with pytest.raises(DataError, match=r"hf://nobody/nothing cannot be loaded: .") as caught:
        load_dataset("hf://nobody/nothing")
    assert "huggingface.co/datasets" in caught.value.mend
    for name in ("hf:", "hf://a/b/c/d", "hf://a//b"):
        with pytest.raises(DataError, match="is no name of a hub"):
            load_dataset(name)


@pytest.mark.parametrize(("library", "name"), [("datasets", "hf://owner/name"), ("PIL", "pets")])
def test_a_library_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, name: str
) -> None:
    _folder(tmp_path / "pets")
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(MissingDependencyError, match="is not installed") as caught:
        load_dataset(name)
    assert caught.value.mend == "pip install 'unas-hw[data]'"
