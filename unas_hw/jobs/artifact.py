"""A run with everything that belongs to it: space, data, table, architecture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latency_tables.table import LatencyTable
from unas_hw.data import Dataset, load_dataset
from unas_hw.errors import RunError
from unas_hw.runs import Run
from unas_hw.space import Architecture, SearchSpace
from unas_hw.spaces import find_space


@dataclass(frozen=True)
class Context:
    """A run, opened."""

    run: Run
    space: SearchSpace
    architecture: Architecture
    data: Dataset
    table: LatencyTable


def open_run(name: str | None) -> Context:
    """The run of that name, or the last one; raises ``RunError`` if its search has not ended."""
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
    data = load_dataset(config["dataset"], image_size=config["image_size"], seed=config["seed"])
    architecture = space.parse(str(run.path / "architecture.json"))
    return Context(run, space, architecture, data, LatencyTable.load(Path(config["table"])))
