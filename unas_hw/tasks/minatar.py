"""MinAtar (Young & Tian 2019, arXiv 1903.03176): five Atari games on ten by ten cells, a channel for each object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from profilers.errors import MissingDependencyError
from unas_hw.tasks.base import Environments, Frames, Task, known, seeds

GAMES = {"asterix": 4, "breakout": 4, "freeway": 7, "seaquest": 10, "space_invaders": 6}
"""Channels of each."""
ACTIONS = 6
LONGEST = 5_000
"""Steps after which an episode is over: MinAtar has no end of its own for who never loses."""


def find(game: str) -> Task:
    """The task of this game; raises as ``unas_hw.tasks.find_task``."""
    known("minatar", game, list(GAMES))
    try:
        from minatar import Environment
    except ImportError as error:
        raise MissingDependencyError("minatar: is a library of its own", mend="pip install 'unas-hw[rl]'") from error

    def make(count: int, seed: int, evaluation: bool) -> Environments:
        return MinAtar([Environment(game) for _ in range(count)], seeds(seed, count, evaluation))

    return Task(name=f"minatar:{game}", image_shape=(GAMES[game], 10, 10), actions=ACTIONS, make=make)


@final
class MinAtar(Environments):
    """Games of the library, each with random numbers of its own."""

    def __init__(self, games: list[Any], random: list[int]) -> None:
        self.games, self.ages = games, [0] * len(games)
        for game, each in zip(games, random, strict=True):
            game.seed(each)
            game.reset()
        self.frames = self._frames()

    def _frames(self) -> Frames:
        states = np.stack([game.state() for game in self.games])
        return np.ascontiguousarray(states.transpose(0, 3, 1, 2)).astype(np.uint8) * 255

    def step(self, actions: NDArray[np.integer[Any]]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        rewards, ended = np.zeros(len(self.games), np.float32), np.zeros(len(self.games), np.bool_)
        for number, (game, action) in enumerate(zip(self.games, actions, strict=True)):
            rewards[number], over = game.act(int(action))
            self.ages[number] += 1
            if over or self.ages[number] >= LONGEST:
                game.reset()
                ended[number], self.ages[number] = True, 0
        self.frames = self._frames()
        return rewards, ended

    def state(self) -> dict[str, NDArray[Any]]:
        told = [
            {"age": age, "last": int(game.last_action), "game": _plain(_inside(game)), "random": _plain(_random(game))}
            for game, age in zip(self.games, self.ages, strict=True)
        ]
        return {"games": np.frombuffer(json.dumps(told).encode(), np.uint8).copy()}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        told = json.loads(bytes(state["games"]).decode())
        for number, (game, each) in enumerate(zip(self.games, told, strict=True)):
            self.ages[number], game.last_action = each["age"], each["last"]
            vars(game.env).update({name: _again(value) for name, value in each["game"].items()})
            name, keys, *rest = each["random"]
            game.random.set_state((name, np.array(keys, np.uint32), *rest))
        self.frames = self._frames()


def _inside(game: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(game.env).items() if name != "random"}


def _random(game: Any) -> list[Any]:
    name, keys, *rest = game.random.get_state()
    return [name, keys.tolist(), *rest]


def _plain(value: Any) -> Any:
    """As JSON has it; arrays say that they are some."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _again(value: Any) -> Any:
    """The inverse of ``_plain``."""
    if isinstance(value, dict):
        if set(value) == {"array", "dtype"}:
            return np.array(value["array"], value["dtype"])
        return {name: _again(each) for name, each in value.items()}
    return [_again(each) for each in value] if isinstance(value, list) else value
