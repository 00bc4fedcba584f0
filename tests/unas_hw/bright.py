"""A game that is learnt in seconds: press the button of the quarter of the frame that is bright."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unas_hw.tasks import Environments, Frames, Task

SIDE, QUARTERS, EPISODE = 8, 4, 5


class Bright(Environments):
    """Episodes of five steps; a right button is worth one."""

    def __init__(self, count: int, seed: int) -> None:
        self.rng, self.count = np.random.default_rng(seed), count
        self.age = np.zeros(count, np.int64)
        self.quarter = self.rng.integers(QUARTERS, size=count)
        self.frames = self._frames()

    def _frames(self) -> Frames:
        frames = np.zeros((self.count, 1, SIDE, SIDE), np.uint8)
        for frame, quarter in zip(frames, self.quarter, strict=True):
            y, x = (SIDE // 2 * each for each in divmod(int(quarter), 2))
            frame[0, y : y + SIDE // 2, x : x + SIDE // 2] = 255
        return frames

    def step(self, actions: NDArray[np.integer[Any]]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        rewards = (actions == self.quarter).astype(np.float32)
        self.age += 1
        ended = self.age == EPISODE
        self.age[ended] = 0
        self.quarter = self.rng.integers(QUARTERS, size=self.count)
        self.frames = self._frames()
        return rewards, ended

    def state(self) -> dict[str, NDArray[Any]]:
        inner: Any = self.rng.bit_generator.state
        words = [
            *(inner["state"][name] >> shift & 0xFFFFFFFF for name in ("state", "inc") for shift in (0, 32, 64, 96))
        ]
        rest = [inner["has_uint32"], inner["uinteger"]]
        return {"age": self.age, "quarter": self.quarter, "rng": np.array(words + rest, np.int64)}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        self.age, self.quarter = state["age"].copy(), state["quarter"].copy()
        words = [int(each) for each in state["rng"]]
        state_, inc = (sum(word << 32 * place for place, word in enumerate(words[at : at + 4])) for at in (0, 4))
        self.rng.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": state_, "inc": inc},
            "has_uint32": words[8],
            "uinteger": words[9],
        }
        self.frames = self._frames()


TASK = Task(
    name="bright",
    image_shape=(1, SIDE, SIDE),
    actions=QUARTERS,
    make=lambda count, seed, evaluation: Bright(count, seed + evaluation),
    highest=float(EPISODE),
)
