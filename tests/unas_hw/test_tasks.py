"""Tasks of every library look the same, repeat by their seed, and go on from where they were saved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from profilers.errors import MissingDependencyError
from unas_hw.data import load_dataset
from unas_hw.errors import DataError, TaskError
from unas_hw.tasks import Environments, find_task, is_task
from unas_hw.tasks.minatar import GAMES

gymnasium: Any = pytest.importorskip("gymnasium")
pytest.importorskip("minatar")
PROCGEN = pytest.param("procgen:starpilot", marks=pytest.mark.filterwarnings("ignore::ResourceWarning"))
SAVED = ["minatar:breakout", "minatar:seaquest", "minatar:space_invaders", PROCGEN]


@pytest.fixture(autouse=True)
def _needs_procgen(request: pytest.FixtureRequest) -> None:
    if "procgen" in request.node.name:
        pytest.importorskip("procgen")


class Painted(gymnasium.Env):  # type: ignore[misc]
    """Shows how often it was stepped, as an oblong image; ends after three steps."""

    action_space = gymnasium.spaces.Discrete(3)
    observation_space = gymnasium.spaces.Box(0, 255, (20, 100, 3), np.uint8)

    def __init__(self, brightness: int = 10) -> None:
        self.brightness, self.steps = brightness, 0

    def _seen(self) -> NDArray[np.uint8]:
        return np.full((20, 100, 3), self.brightness * self.steps, np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.steps = 1
        return self._seen(), {}

    def step(self, action: int) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self._seen(), float(action), self.steps > 3, False, {}


class Steered(Painted):
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)


class Blind(Painted):
    observation_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)


for _each in (Painted, Steered, Blind):
    gymnasium.register(f"unas-hw-tests/{_each.__name__}-v0", _each)


def played(environments: Environments, actions: int, steps: int, seed: int = 0) -> list[tuple[NDArray[Any], ...]]:
    rng, count = np.random.default_rng(seed), len(environments.frames)
    return [(*environments.step(rng.integers(actions, size=count)), environments.frames) for _ in range(steps)]


def same(one: list[tuple[NDArray[Any], ...]], other: list[tuple[NDArray[Any], ...]]) -> bool:
    return all((a == b).all() for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("name", SAVED)
def test_a_task_repeats_by_its_seed_and_differs_by_another_and_in_evaluation(name: str) -> None:
    task = find_task(name)
    runs = [
        played(task.make(4, seed, evaluation), task.actions, 40)
        for seed, evaluation in ((0, False), (0, False), (1, False), (0, True))
    ]
    assert same(runs[0], runs[1]) and not same(runs[0], runs[2]) and not same(runs[0], runs[3])
    assert runs[0][0][2].shape == (4, *task.image_shape) and runs[0][0][2].dtype == np.uint8
    assert runs[0][0][0].dtype == np.float32 and runs[0][0][1].dtype == np.bool_


@pytest.mark.parametrize("name", SAVED)
def test_environments_go_on_from_a_saved_state_as_if_nothing_had_been(name: str) -> None:
    task = find_task(name)
    environments = task.make(3, 5, False)
    played(environments, task.actions, 60)
    state = {key: value.copy() for key, value in environments.state().items()}
    onwards = played(environments, task.actions, 120, seed=1)
    other = task.make(3, 99, False)
    other.restore(state)
    assert same(onwards, played(other, task.actions, 120, seed=1))
    assert any(ended.any() for _, ended, _ in onwards)


@pytest.mark.parametrize("game", GAMES)
def test_every_game_of_minatar_shows_as_many_channels_as_it_is_said_to(game: str) -> None:
    task = find_task(f"minatar:{game}")
    frames = task.make(2, 0, False).frames
    assert frames.shape == (2, *task.image_shape) and set(np.unique(frames)) == {0, 255}


def test_environments_of_gymnasium_become_square_and_stack_what_they_showed() -> None:
    task = find_task("gym:unas-hw-tests/Painted-v0?brightness=20&stack=2")
    assert (task.image_shape, task.actions) == ((6, 20, 20), 3)
    environments = task.make(2, 0, False)
    assert (environments.frames == 20).all()
    rewards, ended = environments.step(np.array([2, 0]))
    assert rewards.tolist() == [2, 0] and not ended.any()
    assert (environments.frames[:, :3] == 20).all() and (environments.frames[:, 3:] == 40).all()
    environments.step(np.array([0, 0]))
    _, ended = environments.step(np.array([0, 0]))
    assert ended.all() and (environments.frames == 20).all()  # the next episode, which knows nothing of the last
    environments.close()


@pytest.mark.parametrize(
    ("name", "what", "mend"),
    [
        ("minatar:breakuot", "no game 'breakuot'", "minatar:breakout"),
        ("procgen:coin", "no game 'coin'", "coinrun"),
        ("procgem:coinrun", "no task 'procgem:coinrun'", "procgen:"),
        ("coinrun", "no task 'coinrun'", "procgen:coinrun"),
        ("gym:NoSuch-v0", "makes no 'NoSuch-v0'", "CarRacing"),
        ("gym:unas-hw-tests/Steered-v0", "no single action", "continuous=false"),
        ("gym:unas-hw-tests/Blind-v0", "shows no images", "bytes"),
        ("gym:unas-hw-tests/Painted-v0?stack=2.7", "has stack=2.7, not a number of frames", "stack=4"),
        ("gym:unas-hw-tests/Painted-v0?stack=yes", "has stack=True, not a number of frames", "stack=4"),
        ("gym:unas-hw-tests/Painted-v0?stack=2&stack=3", "given twice", "leave one"),
    ],
)
def test_what_is_no_task_is_refused_with_what_would_be_one(name: str, what: str, mend: str) -> None:
    with pytest.raises(TaskError, match=what) as error:
        find_task(name)
    assert mend in error.value.mend


def test_a_library_that_is_missing_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("minatar", "gymnasium", "procgen"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    for name in ("minatar:breakout", "gym:CarRacing-v3", "procgen:maze"):
        with pytest.raises(MissingDependencyError) as error:
            find_task(name)
        assert "unas-hw[rl]" in error.value.mend


def test_frames_of_a_task_are_a_data_set_as_policies_see_them() -> None:
    data = load_dataset("minatar:breakout", seed=3)
    assert is_task(data.origin) and data.image_shape == (4, 10, 10) and data.classes == 6
    assert set(data.train.x.unique().tolist()) == {0.0, 1.0}
    assert [len(part) for part in (data.train, data.valid, data.test)] == [256, 128, 128]
    assert (load_dataset("minatar:breakout", seed=3).test.x == data.test.x).all()
    assert not (load_dataset("minatar:breakout", seed=4).test.x == data.test.x).all()
    with pytest.raises(DataError, match="size of their own"):
        load_dataset("minatar:breakout", image_size=20)
