"""Batches are the same whoever prepares them, and whoever prepares them goes away."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from torch import Tensor

from unas_hw.data import Augmentation, Form, Split, batches, in_order
from unas_hw.data.batches import AHEAD
from unas_hw.data.pixels import Memory, Pixels
from unas_hw.errors import DataError
from unas_hw.network import recalibrate

SHAKEN = Augmentation.parse("crop2,flip,cutout4,resizedcrop,jitter")


def _split(count: int) -> Split:
    return Split(torch.arange(count, dtype=torch.float32)[:, None, None, None], torch.arange(count))


def _coloured(count: int = 40) -> Split:
    return Split(torch.rand(count, 3, 8, 8), torch.arange(count))


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Counted(Pixels):
    """Images that know how often they were read; some are damaged."""

    in_memory = False

    def __init__(self, count: int, damaged: int | None = None) -> None:
        self.count, self.damaged, self.reads = count, damaged, 0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.count, 1, 1, 1

    def read(self, rows: Tensor) -> Tensor:
        self.reads += 1
        if self.damaged in rows.tolist():
            raise DataError(f"image {self.damaged} is damaged", mend="replace it")
        return rows.float()[:, None, None, None]


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("unas-hw")]


def test_batches_are_equal_in_size_and_have_no_image_twice() -> None:
    parts = batches(_split(50), 16, _seeded())
    seen = [int(number) for part in parts for number in part.y]
    assert [len(part) for part in parts] == [16, 16, 16]
    assert len(parts) == 3
    assert len(set(seen)) == 48
    assert seen != sorted(seen)
    assert all(torch.equal(part.x.flatten().long(), part.y) for part in parts)


def test_batches_follow_from_the_generator() -> None:
    first, same, other = (torch.cat([part.y for part in batches(_split(64), 16, _seeded(seed))]) for seed in (3, 3, 4))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    parts = batches(_split(5), 64, _seeded())
    assert [sorted(part.y.tolist()) for part in parts] == [[0, 1, 2, 3, 4]]


def test_all_images_come_in_order_to_evaluate() -> None:
    parts = in_order(_split(10), 4)
    assert [part.y.tolist() for part in parts] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]


@pytest.mark.parametrize("augmentation", [None, SHAKEN])
def test_a_thread_that_prepares_batches_makes_the_same(augmentation: Augmentation | None) -> None:
    split = _coloured()
    one, other = _seeded(), _seeded()
    plain, prepared = batches(split, 8, one, augmentation), batches(split, 8, other, augmentation, prefetch=True)
    torch.rand(5, generator=other)  # whoever draws from the generator meanwhile changes nothing
    pairs = list(zip(plain, prepared, strict=True))
    assert len(pairs) == 5
    assert all(torch.equal(a.x, b.x) and torch.equal(a.y, b.y) for a, b in pairs)
    assert not _threads()


def test_a_batch_is_the_same_as_often_as_it_is_asked_for() -> None:
    parts = batches(_coloured(), 8, _seeded(), SHAKEN)
    seen = [part.x for part in parts]
    assert all(torch.equal(parts[index].x, x) for index, x in reversed(list(enumerate(seen))))
    assert torch.equal(parts[-1].x, seen[-1])
    with pytest.raises(IndexError):
        parts[5]


def test_batches_are_augmented_each_in_its_own_way() -> None:
    split = Split(torch.rand(1, 3, 8, 8).expand(16, 3, 8, 8), torch.arange(16))
    first, second = (part.x for part in batches(split, 8, _seeded(), SHAKEN))
    assert not torch.equal(first, second)
    assert first.shape == split.x[:8].shape


def test_without_augmentation_only_the_order_is_drawn() -> None:
    one, other = _seeded(), _seeded()
    batches(_split(50), 16, one)
    torch.randperm(50, generator=other)
    assert torch.equal(one.get_state(), other.get_state())


def test_a_thread_prepares_no_more_than_is_soon_needed() -> None:
    pixels = Counted(100)
    iterator = iter(batches(Split(pixels, torch.arange(100)), 5, _seeded(), prefetch=True))
    next(iterator)
    time.sleep(0.1)
    assert 2 <= pixels.reads <= 1 + AHEAD
    iterator.close()  # type: ignore[attr-defined]
    assert not _threads()


def test_no_thread_outlives_an_iteration_that_is_left() -> None:
    for part in batches(_split(100), 5, _seeded(), prefetch=True):
        assert _threads()
        if len(part):
            break
    assert not _threads()


def test_an_error_of_the_thread_comes_where_the_batch_would() -> None:
    parts = iter(in_order(Split(Counted(40, damaged=17), torch.arange(40)), 5, prefetch=True))
    assert [len(next(parts)) for _ in range(3)] == [5, 5, 5]
    with pytest.raises(DataError, match="image 17 is damaged"):
        next(parts)
    assert not _threads()


def test_images_that_do_not_fit_are_taken_but_never_all_at_once() -> None:
    split = Split(Counted(40), torch.arange(40))
    assert split.take(torch.tensor([3, 1])).flatten().tolist() == [3, 1]
    with pytest.raises(DataError, match="40 images of") as caught:
        split.x  # noqa: B018
    assert "cache_bytes" in caught.value.mend


def test_everything_is_done_on_the_device_that_is_asked_for() -> None:
    form = Form(16, torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    split = Split(Memory(torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)), torch.arange(16), form=form)
    part = batches(split, 8, _seeded(), SHAKEN, device="meta")[0]  # where operations with tensors elsewhere fail
    assert part.x.device.type == part.y.device.type == "meta"
    assert part.x.shape == (8, 3, 16, 16)


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (16, [16]), (17, [9, 8]), (33, [11, 11, 11])])
def test_batches_in_order_leave_no_small_rest(count: int, sizes: list[int]) -> None:
    split = Split(Memory(torch.rand(count, 3, 8, 8)), torch.arange(count))
    parts = list(in_order(split, 16))
    assert [len(part) for part in parts] == sizes
    assert torch.cat([part.y for part in parts]).tolist() == list(range(count))


def test_normalisation_is_recalibrated_over_a_part_as_over_its_images() -> None:
    split = Split(Memory(torch.rand(50, 3, 8, 8)), torch.arange(40), rows=torch.arange(40))
    one, other = (torch.nn.Sequential(torch.nn.BatchNorm2d(3)) for _ in range(2))
    recalibrate(one, split, 16)
    recalibrate(other, split.take(torch.arange(40)), 16)
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True))
    assert float(one[0].running_mean.mean()) == pytest.approx(0.5, abs=0.05)  # type: ignore[operator]
