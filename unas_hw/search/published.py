"""Searching for a device that only a published table knows.

The table has rows for one shape, such as 224 pixels and 1000 classes. Where the images are others, the latency stays
that of the published shape and the same layout is trained on the images that there are: decisions are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency_tables.coverage import priced as priced_keys
from latency_tables.errors import MissingEntryError
from latency_tables.home import Target, last_table, open_table
from latency_tables.published import find_published
from latency_tables.rows import OP
from latency_tables.table import LatencyTable
from unas_hw.data import Dataset, load_dataset
from unas_hw.errors import BudgetError
from unas_hw.meter import Reading
from unas_hw.space import SearchSpace
from unas_hw.spaces import default_space, find_space, smallest_image

MOBILE = "mbconv-mobile"
"""The space that the tables of ProxylessNAS price."""


STANDS_IN = "{table} is a published table: networks are not measured, the table's values stand in for them"


@dataclass(frozen=True)
class Proxy:
    """What a search trains, and what its latencies are for.

    Attributes:
        data: The images, enlarged to the fewest pixels that the space takes.
        image_size: What they were resized to; None if they are as they were.
        trained: The space for these images.
        priced: The space that the table has rows for; the same where it has rows for these images.
    """

    data: Dataset
    image_size: int | None
    trained: SearchSpace
    priced: SearchSpace

    def __str__(self) -> str:
        shape, classes = "x".join(map(str, self.trained.input_shape)), self.trained.classes
        return (
            f"latencies are those of {self.priced.title} with {self.priced.classes} classes, as published; "
            f"what is trained is the same layout for {shape} with {classes} classes"
        )


def published_table(name: str | Path | None, target: Target, space: str | None, batch: int) -> LatencyTable | None:
    """The published table that is asked for; None where another is, or none.

    Raises:
        MissingEntryError: If only a published table knows the device, and it does not price the space.
    """
    if name is not None:
        table = open_table(name, target)
        return table if table.is_published else None
    shipped = find_published(target.device or "")
    if not shipped:
        return None
    if space is None:
        raise MissingEntryError(
            f"{target.device} is a published table: the space that suits the images is not the one that it prices",
            mend=f"unas-hw search --device {target.device} --space {MOBILE}",
        )
    found = last_table(target, (workload.key for workload in find_space(space, batch=batch).workloads()))
    if found is None:
        table = LatencyTable.load(shipped[0])
        raise MissingEntryError(
            f"no table of {target.device} prices {space}: {table.path.name} is for {table.header['subject']}",
            mend=f"unas-hw search --device {target.device} --space {MOBILE}, or profile a device that is here",
        )
    return found if found.is_published else None


def proxy(table: LatencyTable, dataset: str, image_size: int | None, seed: int, space: str | None, batch: int) -> Proxy:
    """The space of that name for the images of a data set, and for the shape that the published table prices."""
    data = load_dataset(dataset, image_size=image_size, seed=seed)
    space = space or default_space(data.image_shape[1])
    priced = find_space(space, batch=batch)
    if image_size is None and data.image_shape[1] < smallest_image(space):
        image_size = smallest_image(space)
        data = load_dataset(dataset, image_size=image_size, seed=seed)
    trained = find_space(space, image_shape=data.image_shape, classes=data.classes, batch=batch)
    needed = priced_keys(table, (workload.key for workload in trained.workloads()))
    return Proxy(data, image_size, trained, trained if set(needed) <= set(table.keys(OP)) else priced)


def refuse_percentile(table: LatencyTable, percentile: int) -> None:
    """Raises ``BudgetError``: a published table has means, and says nothing of slow calls."""
    if table.is_published and percentile != 50:
        raise BudgetError(
            f"{table.path.name} is a published table of means: it does not know the {percentile}th percentile",
            mend="leave @p out: --latency-budget 80ms",
        )


def shapes(trained: SearchSpace, priced: SearchSpace) -> dict[str, Any]:
    """What is trained, for files: ``input_shape``, ``classes``, ``precision``, ``space_version`` of a user's own
    space; what is priced where that is another.
    """
    found = {"input_shape": list(trained.input_shape), "classes": trained.classes, "precision": priced.precision}
    if trained.version is not None:
        found["space_version"] = trained.version
    if priced is not trained:
        found |= {"priced_input_shape": list(priced.input_shape), "priced_classes": priced.classes}
    return found


def latency_of(table: LatencyTable, reading: Reading) -> dict[str, Any]:
    """Measured, raw and how the anchors moved, for results; nothing where nothing was measured."""
    if table.is_published:
        return {"measured_ms": None, "raw_ms": None, "anchor_scale": None, "latency_from": "table"}
    return {
        "measured_ms": reading.judged_ms,
        "raw_ms": reading.raw_ms,
        "anchor_scale": reading.anchor_scale,
        "latency_from": "measurement",
    }
