"""Channels: which have to stay or go together, and which have to stay.

Every channel that a layer makes has a number, and 0 is what never goes. What a tensor holds is said by a tensor of such
numbers of the same shape; moving numbers about is then what PyTorch does anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

STAYS, LEFT_OUT = "stays", "is left out"


@dataclass(frozen=True)
class Kept:
    """What is not made smaller, though it could be of its kind: the path of a module or residual block, why, and what
    becomes of it.
    """

    layer: str
    reason: str
    so: str = "keeps its width"

    @property
    def words(self) -> str:
        """In a line."""
        return f"{self.layer} {self.so}: {self.reason}"


@final
class Channels:
    """All channels of a network: union-find over their numbers.

    Attributes:
        made: By the path of the module that makes them, their numbers.
    """

    def __init__(self) -> None:
        self.made: dict[str, Tensor] = {}
        self._parents = [0]
        self._reasons: dict[int, str] = {}

    def make(self, path: str, count: int) -> Tensor:
        """The channels that this module gives; at every place where it is called the same."""
        if path not in self.made:
            start = len(self._parents)
            self._parents.extend(range(start, start + count))
            self.made[path] = torch.arange(start, start + count)
        return self.made[path]

    def root(self, channel: int) -> int:
        """One of those that go with this channel, the same for all of them."""
        while self._parents[channel] != channel:
            self._parents[channel] = self._parents[self._parents[channel]]
            channel = self._parents[channel]
        return channel

    @property
    def roots(self) -> Tensor:
        """Of all channels."""
        return torch.tensor([self.root(channel) for channel in range(len(self._parents))])

    def unite(self, some: Tensor, others: Tensor, reason: str) -> None:
        """These go together, each with the one at its place; those that go with 0 stay, for this reason."""
        some, others = _distinct(some, others)
        count = len(self._parents)
        for pair in (some * count + others)[some != others].unique().tolist():
            one, other = divmod(pair, count)
            if 0 in (one, other):
                self.pin(torch.tensor([one + other]), reason)
                continue
            first, second = sorted((self.root(one), self.root(other)))
            self._parents[second] = first
            if first != second and (why := self._reasons.pop(second, None)):
                self._reasons.setdefault(first, why)

    def pin(self, channels: Tensor, reason: str) -> None:
        """These stay, for this reason unless there was one already."""
        for channel in contents(channels).tolist():
            if channel:
                self._reasons.setdefault(self.root(channel), reason)

    def reason(self, channel: int) -> str | None:
        """Why the channel has to stay; None where it can go."""
        return self._reasons.get(self.root(channel))

    def free(self, channels: Tensor) -> bool:
        """Whether some of them can go."""
        return any(channel and self.reason(channel) is None for channel in contents(channels).tolist())

    def along(self, channels: Tensor, dim: int) -> Tensor:
        """``(C,)``: the channel for each place along an axis; those at the same place become one unit."""
        rows = channels.movedim(dim, 0).flatten(1) if channels.ndim > 1 else channels[:, None]
        first = rows[:, :1]
        if not bool((rows == first).all()):
            self.unite(rows, first.expand_as(rows), "its channels lie beside others that stay")
        return rows[:, 0]


def contents(channels: Tensor) -> Tensor:
    """The channels in a tensor, once each, ascending."""
    found: Tensor = _distinct(channels)[0].unique()
    return found


def _distinct(*alike: Tensor) -> list[Tensor]:
    """Tensors of one shape without the axes along which all of them repeat themselves in memory."""
    for dim in range(alike[0].ndim):
        if all(each.stride(dim) == 0 for each in alike):
            alike = tuple(each.narrow(dim, 0, 1) for each in alike)
    return [each.reshape(-1) for each in alike]


def spread(channels: Tensor, shape: torch.Size, dim: int) -> Tensor:
    """``(C,)`` as a tensor of that shape, along one axis."""
    view = [1] * len(shape)
    view[dim] = -1
    return channels.view(view).expand(shape)


def varies(channels: Tensor, dim: int) -> bool:
    """Whether the channels differ along an axis."""
    return not bool((channels == channels.narrow(dim, 0, 1)).all())


def left(channels: Tensor, alive: Tensor) -> Tensor | None:
    """The tensor without what is not ``alive``; None where that would leave holes."""
    repeats = [channels.stride(dim) == 0 for dim in range(channels.ndim)]
    shape = list(channels.shape)
    for dim in range(channels.ndim):
        if repeats[dim]:
            channels = channels.narrow(dim, 0, 1)
    stays = alive[channels]
    for dim in range(channels.ndim):
        keeps = stays.movedim(dim, 0).flatten(1).any(1) if channels.ndim > 1 else stays
        index = keeps.nonzero()[:, 0]
        channels, stays = channels.index_select(dim, index), stays.index_select(dim, index)
        if not repeats[dim]:
            shape[dim] = len(index)
    return channels.expand(shape) if bool(stays.all()) else None
