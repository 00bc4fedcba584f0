"""What a task is, and what its environments do, whatever library they are from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from unas_hw.errors import TaskError

Frames = NDArray[np.uint8]
"""``(N, C, H, W)``: what each of N environments shows."""


class Environments(ABC):
    """N copies of an environment that play side by side; an episode that ends is followed by the next one.

    ``frames`` are what they show now; ``can_be_saved`` says whether ``state`` and ``restore`` work.
    """

    frames: Frames
    can_be_saved = True

    @abstractmethod
    def step(self, actions: NDArray[np.integer[Any]]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """One action ``(N,)`` each: rewards ``(N,)``, and whether the episode ended ``(N,)``."""

    @abstractmethod
    def state(self) -> dict[str, NDArray[Any]]:
        """Everything that decides what happens next, as arrays."""

    @abstractmethod
    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """The inverse of ``state``."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Frees what they hold."""


@final
@dataclass(frozen=True, kw_only=True)
class Task:
    """A task, by its name in ``--task``, whose frames are ``(C, H, W)``, square, and in which there are so many
    actions.

    Attributes:
        make: Of a number of environments, a seed, and whether they are for evaluation: there all levels are played,
            in training those of the training set.
        highest: Return that normalised returns are relative to; None where none is published.
    """

    name: str
    image_shape: tuple[int, int, int]
    actions: int
    make: Callable[[int, int, bool], Environments]
    highest: float | None = None


def known(family: str, game: str, games: Sequence[str]) -> None:
    """Raises ``TaskError`` if a game is none of these."""
    if game not in games:
        near = get_close_matches(game, games)
        raise TaskError(
            f"{family} has no game {game!r}",
            mend=f"did you mean {family}:{near[0]}?" if near else f"it has {', '.join(games)}",
        )


def seeds(seed: int, count: int, evaluation: bool) -> list[int]:
    """Of each environment, 32 bits; others in evaluation."""
    return [int(each) for each in np.random.SeedSequence([seed, evaluation]).generate_state(count)]
