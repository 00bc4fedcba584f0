"""The parts of a data set have no image in common and follow from the seed; a file that is no data set is refused with
the call that makes one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unas_hw.data import Dataset, Split, load_dataset
from unas_hw.errors import DataError


def _images_of(*splits: Split) -> list[bytes]:
    return sorted(image.numpy().tobytes() for split in splits for image in split.x)


def _numbered(count: int) -> dict[str, np.ndarray[Any, Any]]:
    """Every image different, with the label that its number says."""
    pixels = np.zeros((count, 8, 8), np.uint8)
    numbers = np.arange(count)
    pixels[:, 0, 0], pixels[:, 0, 1] = numbers % 256, numbers // 256
    pixels[:, 4:, 4:] = 200
    return {"images": pixels, "labels": numbers % 7}


def _numbers(data: Dataset, split: Split) -> list[int]:
    pixels = ((split.x * data.std + data.mean) * 255).round().int()
    return (pixels[:, 0, 0, 0] + 256 * pixels[:, 0, 0, 1]).tolist()


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def test_the_parts_of_the_digits_are_disjoint_and_complete(digits: Dataset) -> None:
    parts = (digits.train, digits.valid, digits.test)
    assert sum(map(len, parts)) == 1797
    assert [len(part) for part in parts] == [1797 - 359 - 256, 256, 359]
    assert digits.image_shape == (1, 8, 8)
    assert digits.classes == 10
    assert all(set(part.y.tolist()) == set(range(10)) for part in parts)


def test_the_parts_of_a_file_are_disjoint_and_complete(tmp_path: Path) -> None:
    np.savez(tmp_path / "numbered.npz", allow_pickle=False, **_numbered(1000))
    data = load_dataset(str(tmp_path / "numbered.npz"))
    numbers = [_numbers(data, part) for part in (data.train, data.valid, data.test)]
    assert sorted(number for part in numbers for number in part) == list(range(1000))
    assert [len(part) for part in numbers] == [600, 200, 200]
    for part, seen in zip((data.train, data.valid, data.test), numbers, strict=True):
        assert part.y.tolist() == [number % 7 for number in seen]


def test_the_parts_follow_from_the_seed(digits: Dataset) -> None:
    again, other = load_dataset("digits"), load_dataset("digits", seed=1)
    for part in ("train", "valid", "test"):
        assert torch.equal(getattr(again, part).x, getattr(digits, part).x)
        assert torch.equal(getattr(again, part).y, getattr(digits, part).y)
        assert _images_of(getattr(other, part)) != _images_of(getattr(digits, part))


def test_training_images_have_mean_zero_and_deviation_one(digits: Dataset) -> None:
    assert float(digits.train.x.mean()) == pytest.approx(0, abs=1e-4)
    assert float(digits.train.x.std()) == pytest.approx(1, abs=1e-4)
    pixels = digits.test.x * digits.std + digits.mean  # the same shift and scale for all parts
    assert (float(pixels.min()), float(pixels.max())) == pytest.approx((0, 1), abs=1e-5)


def test_images_come_in_the_size_that_is_asked_for(digits: Dataset) -> None:
    large = load_dataset("digits", image_size=16)
    assert large.image_shape == (1, 16, 16)
    assert torch.equal(large.train.y, digits.train.y)
    shrunk = torch.nn.functional.avg_pool2d(large.train.x, 2)
    assert float(torch.corrcoef(torch.stack([shrunk.flatten(), digits.train.x.flatten()]))[0, 1]) > 0.95


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_a_file_keeps_its_pixels_and_labels(tmp_path: Path, channels: int | None) -> None:
    rng = np.random.default_rng(0)
    shape = (60, 8, 8) if channels is None else (60, 8, 8, channels)
    images, labels = rng.integers(0, 256, shape).astype(np.uint8), rng.integers(0, 4, 60)
    tests, test_labels = rng.integers(0, 256, (9, *shape[1:])).astype(np.uint8), rng.integers(0, 4, 9)
    path = tmp_path / "all.npz"
    np.savez(path, images=images, labels=labels, test_images=tests, test_labels=test_labels)
    data = load_dataset(str(path))
    assert data.image_shape == (channels or 1, 8, 8)
    assert [len(data.train), len(data.valid), len(data.test)] == [45, 15, 9]

    def pixels(x: Tensor) -> np.ndarray[Any, Any]:
        return ((x * data.std + data.mean) * 255).round().byte().permute(0, 2, 3, 1).numpy()

    np.testing.assert_array_equal(pixels(data.test.x).reshape(tests.shape), tests)
    np.testing.assert_array_equal(data.test.y.numpy(), test_labels)
    seen = np.concatenate([pixels(data.train.x), pixels(data.valid.x)]).reshape(images.shape)
    seen_labels = torch.cat([data.train.y, data.valid.y]).tolist()
    wanted = {image.tobytes(): label for image, label in zip(images, labels.tolist(), strict=True)}
    assert {image.tobytes(): label for image, label in zip(seen, seen_labels, strict=True)} == wanted


GOOD = _numbered(40)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"labels": None}, "'labels'"),
        ({"images": None}, "'images'"),
        ({"images": GOOD["images"].astype(np.float32) / 50 - 1}, "float32 from -1 to 3: neither bytes nor floats"),
        ({"images": GOOD["images"] / 127.5}, "float64 from 0 to 1.56863: neither bytes nor floats"),
        ({"images": np.where(GOOD["images"] > 199, np.nan, 0)}, "640 of them no numbers"),
        ({"images": GOOD["images"].astype(np.uint16) * 16}, "uint16 from 0 to 3200: of 16 bits a value 8 are kept"),
        ({"images": GOOD["images"].astype(int) - 200}, "int64 from -200 to 0: neither bytes"),
        ({"images": GOOD["images"] * 1j}, "complex128 of shape (40, 8, 8), not square uint8 images"),
        ({"images": GOOD["images"].reshape(40, 64)}, "(40, 64), not square"),
        ({"images": GOOD["images"][:0], "labels": GOOD["labels"][:0]}, "(0, 8, 8), not square"),
        ({"images": GOOD["images"][:, :, :6]}, "(40, 8, 6), not square"),
        ({"images": GOOD["images"][0]}, "(8, 8), not square"),
        ({"labels": GOOD["labels"][:39]}, "(39,), not 40 non-negative integers"),
        ({"labels": GOOD["labels"] - 1}, "6 like -1, not 40 non-negative integers"),
        ({"labels": GOOD["labels"] + 0.5}, "float64 of shape (40,), 40 like 0.5"),
        ({"labels": np.where(GOOD["labels"] > 5, np.nan, 1)}, "5 like nan"),
        ({"labels": GOOD["labels"] + 2.0**40}, "40 like 1099511627776.0"),
        ({"labels": np.ones((40, 3), int)}, "(40, 3), not one label an image"),
        ({"labels": GOOD["labels"].astype("M8[s]")}, "datetime64[s]"),
        ({"class_names": np.array(["a", "b"])}, "labels go to 6, and 2 classes have a name"),
        ({"x_train": GOOD["images"], "y_train": GOOD["labels"]}, "may all be of the training part"),
        ({"image": GOOD["images"]}, "images and image may both be the images"),
        ({"labels": np.array([{}] * 40, dtype=object)}, "Object arrays cannot be loaded"),
        ({"test_images": GOOD["images"]}, "'test_labels'"),
        ({"test_images": GOOD["images"], "test_labels": GOOD["labels"][:3]}, "(3,), not 40"),
        ({"test_images": GOOD["images"] / 255, "test_labels": GOOD["labels"]}, "test_images are floats to 1 of shape"),
    ],
)
def test_a_file_of_another_form_is_refused_with_the_call_that_makes_a_good_one(
    tmp_path: Path, changes: dict[str, np.ndarray[Any, Any] | None], what: str
) -> None:
    arrays = {name: array for name, array in {**GOOD, **changes}.items() if array is not None}
    np.savez(tmp_path / "odd.npz", allow_pickle=True, **arrays)
    with pytest.raises(DataError) as caught:
        load_dataset(str(tmp_path / "odd.npz"))
    assert "odd.npz is not a data set" in caught.value.what
    assert what in caught.value.what
    assert "numpy.savez(path, images=" in caught.value.mend


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.npz").write_bytes(b"no archive at all")
    with pytest.raises(DataError, match=r"odd\.npz is not a data set"):
        load_dataset(str(tmp_path / "odd.npz"))


@pytest.mark.parametrize(
    ("name", "near"),
    [("missing.npz", None), ("cifar11", "cifar10"), ("Fashion-MNIST", "fashion-mnist"), ("digit", "digits")],
)
def test_a_data_set_that_is_not_there_is_refused_with_what_there_is(name: str, near: str | None) -> None:
    with pytest.raises(DataError, match=f"there is no data set '{name}'") as caught:
        load_dataset(name)
    assert all(known in caught.value.mend for known in ("digits", "cifar10", "imagenet", "hf://", ".npz"))
    assert ("did you mean" in caught.value.mend) is (near is not None)
    assert near is None or f"--dataset {near}?" in caught.value.mend


@pytest.mark.parametrize("name", [".", "notes.txt"])
def test_a_path_that_holds_no_images_is_refused_with_what_it_may_hold(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("cats and dogs")
    with pytest.raises(DataError, match=r"is not a data set: neither an \.npz file nor") as caught:
        load_dataset(str(tmp_path / name))
    assert "one sub-folder a class" in caught.value.mend


def test_too_few_images_for_three_parts_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "few.npz", allow_pickle=False, **_numbered(3))
    with pytest.raises(DataError, match="has 3 images, too few for three parts"):
        load_dataset(str(tmp_path / "few.npz"))


def test_bytes_stay_bytes_and_no_part_has_a_copy_of_its_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "numbered.npz", allow_pickle=False, **_numbered(100))
    data = load_dataset(str(tmp_path / "numbered.npz"), image_size=16)
    assert data.train.pixels is data.valid.pixels is data.test.pixels
    assert data.train.pixels.shape == (100, 1, 8, 8)
    assert data.train.pixels.read(torch.arange(2)).dtype == torch.uint8
    assert data.train.take(torch.arange(2)).shape == (2, 1, 16, 16)


def test_images_that_are_taken_are_those_of_the_whole_part(digits: Dataset) -> None:
    wanted = torch.tensor([5, 0, 255, 5])
    assert torch.equal(digits.valid.take(wanted), digits.valid.x[wanted])
    assert torch.equal(digits.valid.first(7).x, digits.valid.x[:7])
    assert torch.equal(digits.valid.first(7).y, digits.valid.y[:7])


def test_parts_that_are_added_have_the_images_of_both(digits: Dataset) -> None:
    both = digits.train + digits.valid
    assert torch.equal(both.x, torch.cat([digits.train.x, digits.valid.x]))
    assert torch.equal(both.y, torch.cat([digits.train.y, digits.valid.y]))
    plain = Split(digits.train.x, digits.train.y) + Split(digits.valid.x, digits.valid.y)
    assert torch.equal(plain.x, both.x)


def test_images_that_shrink_are_averaged(tmp_path: Path) -> None:
    stripes = np.zeros((40, 16, 16), np.uint8)
    stripes[:, :, ::4] = 255  # every second pixel of a half as large image would be white, or none
    np.savez(tmp_path / "stripes.npz", images=stripes, labels=np.arange(40) % 2)
    data = load_dataset(str(tmp_path / "stripes.npz"), image_size=4)
    pixels = data.train.x * data.std + data.mean
    assert float(pixels.min()) > 0.15
    assert float(pixels.max()) < 0.4


def test_colour_images_are_normalised_channel_by_channel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = np.stack([rng.integers(low, low + 30, (400, 8, 8)) for low in (0, 100, 220)], axis=-1).astype(np.uint8)
    np.savez(tmp_path / "colour.npz", images=images, labels=np.arange(400) % 3)
    data = load_dataset(str(tmp_path / "colour.npz"))
    assert data.mean.shape == data.std.shape == (3, 1, 1)
    seen = data.train.x.transpose(0, 1).flatten(1)
    torch.testing.assert_close(seen.mean(1), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.std(1), torch.ones(3), atol=1e-4, rtol=0)


def test_a_data_set_describes_itself_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "numbered.npz", allow_pickle=False, **_numbered(1000))
    monkeypatch.chdir(tmp_path)
    data = load_dataset("numbered.npz", seed=5)
    told = json.loads(json.dumps(data.describe()))
    assert (told["train"], told["valid"], told["test"]) == (600, 200, 200)
    assert (told["name"], told["path"]) == ("numbered.npz", str(tmp_path / "numbered.npz"))
    assert (told["split_seed"], told["classes"], told["image_shape"]) == (5, 7, [1, 8, 8])
    assert told["mean"] == data.mean.flatten().tolist()
    assert load_dataset("digits").describe()["class_names"] == list("0123456789")
    monkeypatch.chdir("/")
    again = load_dataset(data.origin, seed=told["split_seed"])
    assert torch.equal(again.test.x, data.test.x)
    assert load_dataset("digits").origin == "digits"


def test_test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    odd = {**GOOD, "test_images": np.zeros((4, 9, 9), np.uint8), "test_labels": np.zeros(4, int)}
    np.savez(tmp_path / "odd.npz", allow_pickle=False, **odd)
    with pytest.raises(
        DataError, match=r"test_images are bytes of shape \(4, 9, 9\), images bytes of shape \(40, 8, 8\)"
    ):
        load_dataset(str(tmp_path / "odd.npz"))


IMAGES = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3)).astype(np.uint8)
IMAGES[0, 0, 0], IMAGES[0, 0, 1] = 0, 255
WORDS = np.array(["ape", "bee", "cat", "doe", "eel"])


def _loaded(path: Path, **arrays: np.ndarray[Any, Any]) -> Dataset:
    np.savez(path / "some.npz", allow_pickle=False, **arrays)
    return load_dataset(str(path / "some.npz"))


def _pixels(data: Dataset) -> np.ndarray[Any, Any]:
    """``(N, H, W, C)`` as bytes, in the order of the file."""
    pixels = data.train.pixels.read(torch.arange(60))
    pixels = pixels if pixels.dtype == torch.uint8 else (pixels * 255).round().byte()
    return pixels.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(
    ("images", "note"),
    [
        (IMAGES.transpose(0, 3, 1, 2), "images are uint8 of shape (60, 3, 8, 8): read as (N, C, H, W)"),
        (IMAGES / 255, None),
        ((IMAGES / 255).astype(np.float16), None),
        (IMAGES / 127.5 - 1, "images are float64 from -1 to 1: -1 is read as black, 1 as white"),
        (IMAGES.astype(np.float32), "images are float32 from 0 to 255: 255 is read as white"),
        (IMAGES.astype(np.int64), "images are int64 from 0 to 255: read as bytes"),
        (IMAGES.astype(np.uint16) * 257, "images are uint16 from 0 to 65535: of 16 bits a value 8 are kept"),
        (IMAGES > 127, "images are bool: true is white, 255"),
    ],
)
def test_images_of_any_type_show_the_same_and_what_was_done_is_told(
    tmp_path: Path, images: np.ndarray[Any, Any], note: str | None
) -> None:
    labels = np.arange(60) % 5
    data = _loaded(tmp_path, images=images, labels=labels, test_images=images[:9], test_labels=labels[:9])
    np.testing.assert_array_equal(_pixels(data), (IMAGES > 127) * 255 if images.dtype == bool else IMAGES)
    assert data.notes == ((note,) if note else ())
    assert data.test.y.tolist() == labels[:9].tolist()


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.arange(60)[:, None] % 5, ()),
        (np.arange(60)[None] % 5, ()),
        ((np.arange(60) % 5).astype(float), ()),
        (WORDS[np.arange(60) % 5], tuple(WORDS.tolist())),
        (np.char.encode(WORDS[np.arange(60) % 5]), tuple(WORDS.tolist())),
    ],
)
def test_labels_of_any_form_are_the_same(tmp_path: Path, labels: np.ndarray[Any, Any], names: tuple[str, ...]) -> None:
    data = _loaded(tmp_path, images=IMAGES, labels=labels)
    assert (data.classes, data.class_names, data.notes) == (5, names, ())
    rows = data.train.rows
    assert rows is not None
    assert data.train.y.tolist() == [int(row) % 5 for row in rows]


@pytest.mark.parametrize(
    ("labels", "classes", "note"),
    [
        (np.arange(60) % 5 + 1, 6, "labels begin at 1: no image has 0 of the labels 0 to 5, which are outputs too"),
        (np.arange(60) % 5 * 2, 9, "no image has 1, 3, 5, 7 of the labels 0 to 8, which are outputs too"),
        (
            np.arange(60) % 2 * 50,
            51,
            "no image has 1, 2, 3, 4, 5 and 44 more of the labels 0 to 50, which are outputs too",
        ),
        (np.eye(5)[np.arange(60) % 5], 5, "labels are one-hot, of 5 classes"),
        (np.eye(7, dtype=bool)[np.arange(60) % 5], 7, "labels are one-hot, of 7 classes"),
    ],
)
def test_labels_that_no_image_has_are_told(
    tmp_path: Path, labels: np.ndarray[Any, Any], classes: int, note: str
) -> None:
    data = _loaded(tmp_path, images=IMAGES, labels=labels)
    assert (data.classes, data.notes) == (classes, (note,))


@pytest.mark.parametrize(
    ("labels", "what"), [(np.zeros(60, int), "1 different labels"), (np.arange(60) % 3 * 10**6, "3")]
)
def test_labels_that_are_no_numbers_of_classes_are_refused(
    tmp_path: Path, labels: np.ndarray[Any, Any], what: str
) -> None:
    with pytest.raises(DataError, match=f"has {what}.*, from 0 to {labels.max()}") as caught:
        _loaded(tmp_path, images=IMAGES, labels=labels)
    assert "numpy.unique(labels, return_inverse=True)" in caught.value.mend


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"), [60, 9, 7]),
        (("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"), [60, 9, 7]),
        (("images", "labels", "valid_images", "valid_labels", "test_images", "test_labels"), [60, 9, 7]),
        (("X_train", "y_train", "X_test", "y_test"), [45, 15, 9]),
        (("images", "labels", "val_images", "val_labels"), [45, 15, 9]),
        (("data", "targets"), [36, 12, 12]),
    ],
)
def test_parts_of_a_file_are_known_by_usual_names(tmp_path: Path, names: tuple[str, ...], sizes: list[int]) -> None:
    arrays, labels = [IMAGES, IMAGES[:9], IMAGES[:7]], np.arange(60) % 5
    held = {name: arrays[n // 2] if n % 2 == 0 else labels[: len(arrays[n // 2])] for n, name in enumerate(names)}
    data = _loaded(tmp_path, **held)
    assert [len(part) for part in (data.train, data.valid, data.test)] == sizes
    assert data.notes == ()


def test_class_names_are_read_and_other_arrays_are_told(tmp_path: Path) -> None:
    data = _loaded(tmp_path, images=IMAGES, labels=np.arange(60) % 5, class_names=WORDS, mean=IMAGES.mean(), ids=WORDS)
    assert data.class_names == tuple(WORDS)
    assert data.notes == ("arrays that were not read: ids, mean",)


def test_labels_that_only_test_images_have_are_told(tmp_path: Path) -> None:
    labels = np.arange(60) % 5
    data = _loaded(tmp_path, images=IMAGES, labels=labels, test_images=IMAGES[:10], test_labels=labels[:10] + 3)
    assert "3 classes have no image in the training part: 5 (2 in all), 6 (2 in all), 7 (2 in all)" in data.notes
    words = {"labels": WORDS[labels], "test_labels": np.array(["bee", "yak"])}
    with pytest.raises(DataError, match="labels have 'yak', which no training image is of"):
        _loaded(tmp_path, images=IMAGES, test_images=IMAGES[:2], **words)
