"""Batches: in random order to train with, in order to evaluate."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from unas_hw.data.augment import Augmentation
from unas_hw.data.dataset import Split

AHEAD = 2
"""Batches that are prepared before they are asked for."""


@dataclass(frozen=True)
class Batch:
    """Images ``(N, C, H, W)`` and labels ``(N,)``."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@final
class Batches:
    """Batches of one pass: made when they are asked for, the same as often as they are.

    Args:
        split: Images.
        parts: Numbers of the images of each batch.
        augmentation: What is done to each batch; nothing by default.
        seed: Of what is random in that.
        prefetch: Whether a thread prepares batches while others are used. They are the same; the thread ends with the
            iteration.
    """

    def __init__(
        self,
        split: Split,
        parts: Sequence[Tensor],
        *,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        prefetch: bool = False,
    ) -> None:
        self.split, self.parts, self.prefetch = split, parts, prefetch
        self.augmentation, self.seed = augmentation, seed

    def __len__(self) -> int:
        return len(self.parts)

    @torch.no_grad()
    def __getitem__(self, index: int) -> Batch:
        """The batch of that number; each has random numbers of its own, so it does not matter which come before."""
        part = self.parts[index]
        x, y = self.split.take(part), self.split.y[part].to(self.split.device, non_blocking=True)
        if self.augmentation:
            generator = torch.Generator().manual_seed(self.seed + range(len(self))[index])
            x = self.augmentation(x, generator, self.split.form)
        return Batch(x, y)

    def __iter__(self) -> Iterator[Batch]:
        return self._ahead() if self.prefetch else map(self.__getitem__, range(len(self)))

    def _ahead(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(1, "unas-hw-batches") as thread:
            waiting = deque(thread.submit(self.__getitem__, index) for index in range(min(AHEAD, len(self))))
            try:
                for index in range(len(self)):
                    batch = waiting.popleft().result()
                    if index + AHEAD < len(self):
                        waiting.append(thread.submit(self.__getitem__, index + AHEAD))
                    yield batch
            finally:
                for future in waiting:
                    future.cancel()


def batches(
    split: Split,
    size: int,
    generator: torch.Generator,
    augmentation: Augmentation | None = None,
    prefetch: bool = False,
    device: torch.device | str | None = None,
) -> Batches:
    """The split in random order, in equal batches; a rest smaller than a batch waits for the next epoch.

    All randomness is drawn here, from a generator on the CPU: the order and, for an augmentation, a seed. What is drawn
    later changes nothing. A split of fewer images is one batch; with ``prefetch`` a thread prepares the next while one
    is used; they are on the split's device, unless another is named.
    """
    size = min(size, len(split))
    order = torch.randperm(len(split), generator=generator)
    seed = int(torch.randint(2**31, (), generator=generator)) if augmentation else 0
    parts = order[: len(order) // size * size].split(size)
    return Batches(split.on(device), parts, augmentation=augmentation, seed=seed, prefetch=prefetch)


def in_order(split: Split, size: int, prefetch: bool = False, device: torch.device | str | None = None) -> Batches:
    """All images as they come, to evaluate, in as few batches of at most that size as there have to be.

    They are as large as each other, to one image: the statistics of a small rest would count as much as theirs, and a
    rest of one image has none.
    """
    parts = torch.arange(len(split)).tensor_split(-(-len(split) // size))
    return Batches(split.on(device), parts, prefetch=prefetch)
