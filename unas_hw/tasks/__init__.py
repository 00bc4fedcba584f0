"""Tasks of reinforcement learning by name: many copies of an environment whose observations are images."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module

from unas_hw.errors import TaskError
from unas_hw.tasks.base import Environments as Environments
from unas_hw.tasks.base import Frames as Frames
from unas_hw.tasks.base import Task as Task

FAMILIES = {"minatar": "unas_hw.tasks.minatar", "procgen": "unas_hw.tasks.procgen", "gym": "unas_hw.tasks.gym"}
"""By what is before the colon; the module has ``find(name)``."""


def is_task(name: str) -> bool:
    """Whether a data set's name is that of a task."""
    return name.partition(":")[0] in FAMILIES and ":" in name


def find_task(name: str) -> Task:
    """The task of a name such as ``procgen:coinrun``, ``minatar:breakout`` or ``gym:CarRacing-v3``.

    Raises:
        TaskError: If there is none.
        MissingDependencyError: If its library is not there.
    """
    family, _, game = name.partition(":")
    if not is_task(name):
        near = get_close_matches(family, FAMILIES)
        raise TaskError(
            f"there is no task {name!r}",
            mend=(f"did you mean {near[0]}:? " if near else "")
            + "write --task procgen:coinrun, minatar:breakout, or gym: and the name of an environment",
        )
    found: Task = import_module(FAMILIES[family]).find(game)
    return found
