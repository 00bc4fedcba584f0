"""Procgen (Cobbe et al. 2020, arXiv 1912.01588): sixteen games with levels made by chance; easy, as papers have it.

Training plays 200 levels, evaluation all there are. The highest returns are those that the paper normalises with.
"""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO
from typing import Any, final
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from profilers.errors import MissingDependencyError
from unas_hw.tasks.base import Environments, Frames, Task, known, seeds

HIGHEST = {
    "bigfish": 40.0,
    "bossfight": 13.0,
    "caveflyer": 13.4,
    "chaser": 14.2,
    "climber": 12.6,
    "coinrun": 10.0,
    "dodgeball": 19.0,
    "fruitbot": 27.2,
    "heist": 10.0,
    "jumper": 10.0,
    "leaper": 10.0,
    "maze": 10.0,
    "miner": 20.0,
    "ninja": 10.0,
    "plunder": 30.0,
    "starpilot": 35.0,
}
ACTIONS = 15
LEVELS = 200


def find(game: str) -> Task:
    """The task of this game; raises as ``unas_hw.tasks.find_task``."""
    known("procgen", game, list(HIGHEST))
    try:
        with catch_warnings(), redirect_stderr(StringIO()):  # the old gym that it imports warns of itself
            simplefilter("ignore")
            from procgen import ProcgenGym3Env
    except ImportError as error:
        raise MissingDependencyError("procgen: is a library of its own", mend="pip install 'unas-hw[rl]'") from error

    def make(count: int, seed: int, evaluation: bool) -> Environments:
        library = ProcgenGym3Env(
            num=count,
            env_name=game,
            num_levels=0 if evaluation else LEVELS,
            start_level=0,
            distribution_mode="easy",
            rand_seed=seeds(seed, 1, evaluation)[0] >> 1,  # which is signed
        )
        return Procgen(library)

    return Task(name=f"procgen:{game}", image_shape=(3, 64, 64), actions=ACTIONS, make=make, highest=HIGHEST[game])


@final
class Procgen(Environments):
    """The library's own vector of games."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.frames = self._frames()

    def _frames(self) -> Frames:
        return np.ascontiguousarray(self.library.observe()[1]["rgb"].transpose(0, 3, 1, 2))

    def step(self, actions: NDArray[np.integer[Any]]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        self.library.act(actions.astype(np.int32))
        rewards, _, first = self.library.observe()
        self.frames = self._frames()
        return rewards.astype(np.float32), first.astype(np.bool_)

    def state(self) -> dict[str, NDArray[Any]]:
        states = self.library.callmethod("get_state")
        return {str(number): np.frombuffer(each, np.uint8).copy() for number, each in enumerate(states)}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        self.library.callmethod("set_state", [bytes(state[str(number)]) for number in range(len(state))])
        self.frames = self._frames()

    def close(self) -> None:
        self.library.close()
