"""A run with everything that belongs to it: space, data, table, architecture."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from latency_tables.table import LatencyTable
from unas_hw.data import Dataset, load_dataset
from unas_hw.errors import RunError
from unas_hw.runs import Run
from unas_hw.space import Architecture, SearchSpace
from unas_hw.spaces import SUBSET, find_space


@dataclass(frozen=True)
class Context:
    """A run, opened."""

    run: Run
    space: SearchSpace
    architecture: Architecture
    data: Dataset

    @cached_property
    def table(self) -> LatencyTable:
        """That it was searched with; raises ``RunError`` where the network was only trained."""
        path = self.run.config.get("table")
        if path is None:
            raise RunError(
                f"{self.run.path} was trained without a search: it has no latency table and no budget",
                mend=f"{_finder(self.space)} --latency-budget 50% finds one to ship",
            )
        return LatencyTable.load(Path(path))


def _finder(space: SearchSpace) -> str:
    """The command that finds networks of the space."""
    if space.origin.startswith(SUBSET):
        return f"unas-hw prune {shlex.quote(space.origin.removeprefix(SUBSET))}"
    return f"unas-hw search --space {shlex.quote(space.origin)}"


def open_network(name: str | None) -> tuple[Run, SearchSpace, Architecture]:
    """A run's space and network, without its data; the last run's by default.

    Raises:
        RunError: If its search has not ended, or its space has changed since.
    """
    run = Run.find(name)
    if not (run.path / "architecture.json").is_file():
        raise RunError(
            f"{run.path} has no architecture yet: its search has not ended", mend="run the same search again"
        )
    config = run.config
    batch, channels, size, _ = config["input_shape"]
    space = find_space(
        config["space"],
        image_shape=(channels, size, size),
        classes=config["classes"],
        batch=batch,
        precision=config["precision"],
    )
    if config.get("space_version") not in (None, space.version):
        raise RunError(
            f"{space.origin} has changed since {run.path} was searched: the network is another one now",
            mend=f"bring the file back as it was, or search again: {_finder(space)}",
        )
    return run, space, space.parse(str(run.path / "architecture.json"))


def open_run(name: str | None) -> Context:
    """The run of that name, or the last one; raises ``RunError`` as ``open_network``."""
    run, space, architecture = open_network(name)
    config = run.config
    data = load_dataset(config["dataset"], image_size=config["image_size"], seed=config["seed"])
    return Context(run, space, architecture, data)
