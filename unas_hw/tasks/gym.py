"""Any environment of gymnasium that shows images and takes one of a few actions; frames are made square and small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final
from urllib.parse import parse_qsl

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from profilers.errors import MissingDependencyError
from unas_hw.errors import TaskError
from unas_hw.tasks.base import Environments, Task, seeds

LARGEST = 64
"""Pixels a side: frames that are larger are made as small, and those that are not square become so."""
SMALLEST = 8


def find(text: str) -> Task:
    """The task of this game; raises as ``unas_hw.tasks.find_task``."""
    try:
        import gymnasium
    except ImportError as error:
        raise MissingDependencyError("gym: is the library gymnasium", mend="pip install 'unas-hw[rl]'") from error
    name, _, options = text.partition("?")
    pairs = parse_qsl(options)
    keywords = {key: yaml.safe_load(value) for key, value in pairs}
    if len(keywords) < len(pairs):
        raise TaskError(f"an option is given twice in gym:{text}", mend="leave one of them out")
    stack = keywords.pop("stack", 1)
    if type(stack) is not int or stack < 1:
        raise TaskError(f"gym:{text} has stack={stack}, not a number of frames", mend="write stack=4")

    def one() -> Any:
        made: Any = gymnasium.make(name, **keywords)
        return made

    try:
        example = one()
    except Exception as error:  # whatever the environment's own code raises is about the name or its options
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise TaskError(
            f"gymnasium makes no {text!r}: {what}", mend="write gym:CarRacing-v3?continuous=false"
        ) from error
    channels, side = _image(text, example.observation_space)
    actions = getattr(example.action_space, "n", None)
    example.close()
    if actions is None:
        raise TaskError(
            f"{text} takes no single action of a few: {example.action_space}",
            mend=f"ask it for some, where it can: gym:{name}?continuous=false",
        )

    def make(count: int, seed: int, evaluation: bool) -> Environments:
        return Gym(one, seeds(seed, count, evaluation), side, stack)

    return Task(name=f"gym:{text}", image_shape=(channels * stack, side, side), actions=int(actions), make=make)


def _image(name: str, space: Any) -> tuple[int, int]:
    """Channels and side of the frames that this observation becomes."""
    shape = tuple(space.shape or ())
    if len(shape) not in (2, 3) or min(shape[:2]) < SMALLEST or space.dtype not in (np.uint8, np.bool_):
        raise TaskError(
            f"{name} shows no images but {space}", mend="choose an environment whose observations are (H, W, C) bytes"
        )
    return (shape[2] if len(shape) == 3 else 1), min((*shape[:2], LARGEST))


@final
class Gym(Environments):
    """Environments of the library, one after another; with ``stack`` the last so many frames are seen at once."""

    can_be_saved = False

    def __init__(self, one: Callable[[], Any], random: list[int], side: int, stack: int) -> None:
        self.games, self.side, self.stack = [one() for _ in random], side, stack
        shown = [self._frame(game.reset(seed=each)[0]) for game, each in zip(self.games, random, strict=True)]
        self.frames = np.stack([np.concatenate([frame] * stack) for frame in shown])

    def _frame(self, seen: NDArray[Any]) -> NDArray[np.uint8]:
        """``(C, side, side)``."""
        image = torch.from_numpy(np.atleast_3d(seen).transpose(2, 0, 1).astype(np.float32))
        if seen.dtype == np.bool_:
            image = image * 255
        if image.shape[1:] != (self.side, self.side):
            image = interpolate(image[None], (self.side, self.side), mode="bilinear", antialias=True)[0]
        return image.round().clamp(0, 255).to(torch.uint8).numpy()

    def step(self, actions: NDArray[np.integer[Any]]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        rewards, ended = np.zeros(len(self.games), np.float32), np.zeros(len(self.games), np.bool_)
        frames = self.frames.copy()
        for number, (game, action) in enumerate(zip(self.games, actions, strict=True)):
            seen, rewards[number], terminated, truncated, _ = game.step(int(action))
            ended[number] = terminated or truncated
            if ended[number]:
                seen = game.reset()[0]
            frame = self._frame(seen)
            shown = [frame] * self.stack if ended[number] else [frames[number][len(frame) :], frame]
            frames[number] = np.concatenate(shown)
        self.frames = frames
        return rewards, ended

    def state(self) -> dict[str, NDArray[Any]]:
        raise NotImplementedError("gymnasium's environments cannot be saved")

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        raise NotImplementedError("gymnasium's environments cannot be saved")

    def close(self) -> None:
        for game in self.games:
            game.close()
