"""The parts of a data set have no image in common and follow from the seed; a file that is no data set is refused with
the call that makes one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unas_hw.data import Dataset, Split, batches, load_dataset
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
        ({"images": GOOD["images"].astype(np.float32)}, "float32 of shape (40, 8, 8), not square uint8 images"),
        ({"images": GOOD["images"][:, :, :6]}, "(40, 8, 6), not square"),
        ({"images": GOOD["images"][0]}, "(8, 8), not square"),
        ({"labels": GOOD["labels"][:39]}, "(39,), not 40 non-negative integers"),
        ({"labels": GOOD["labels"] - 1}, "not 40 non-negative integers"),
        ({"labels": GOOD["labels"].astype(float)}, "float64"),
        ({"labels": np.array([{}] * 40, dtype=object)}, "Object arrays cannot be loaded"),
        ({"test_images": GOOD["images"]}, "'test_labels'"),
        ({"test_images": GOOD["images"], "test_labels": GOOD["labels"][:3]}, "(3,), not 40"),
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


@pytest.mark.parametrize("name", ["missing.npz", "cifar11", "."])
def test_a_data_set_that_is_not_there_is_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(DataError, match="there is no data set") as caught:
        load_dataset(name)
    assert "--dataset digits" in caught.value.mend


def _split(count: int) -> Split:
    return Split(torch.arange(count, dtype=torch.float32)[:, None, None, None], torch.arange(count))


def test_batches_are_equal_in_size_and_have_no_image_twice() -> None:
    parts = batches(_split(50), 16, torch.Generator().manual_seed(0))
    seen = [int(number) for part in parts for number in part.y]
    assert [len(part) for part in parts] == [16, 16, 16]
    assert len(set(seen)) == 48
    assert seen != sorted(seen)
    assert all(torch.equal(part.x.flatten().long(), part.y) for part in parts)


def test_batches_follow_from_the_generator() -> None:
    first, same, other = (
        torch.cat([part.y for part in batches(_split(64), 16, torch.Generator().manual_seed(seed))])
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    parts = batches(_split(5), 64, torch.Generator().manual_seed(0))
    assert [sorted(part.y.tolist()) for part in parts] == [[0, 1, 2, 3, 4]]
