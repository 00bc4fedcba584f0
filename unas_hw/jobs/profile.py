"""Profile: the table of a device for a space."""

from __future__ import annotations

import random
from pathlib import Path

from latency_tables.collect import Planned, fill
from latency_tables.home import default_path
from latency_tables.table import ANCHOR, NETWORK, OP, LatencyTable
from profilers.profiler import Profiler
from profilers.timing import TimingRule
from unas_hw.data import DIGITS, load_dataset
from unas_hw.meter import ANCHORS, anchor_architectures
from unas_hw.progress import Job, Step
from unas_hw.space import SearchSpace
from unas_hw.spaces import default_space, find_space


def space_for(
    name: str | None, *, dataset: str | None = None, image_size: int | None = None, batch: int = 1
) -> SearchSpace:
    """The space that is meant: for a data set's images, or for the images that the space is made for."""
    if name is None or dataset is not None:
        data = load_dataset(dataset or DIGITS, image_size=image_size)
        name = name or default_space(data.image_shape[1])
        return find_space(name, image_shape=data.image_shape, classes=data.classes, batch=batch)
    space = find_space(name, batch=batch)
    if image_size is None:
        return space
    return find_space(name, image_shape=(space.input_shape[1], image_size, image_size), batch=batch)


NETWORKS = 16
"""Whole networks that calibrate a table, besides the anchors."""
CALIBRATION_SEED = 1


def plan(space: SearchSpace, networks: int = NETWORKS) -> list[Planned]:
    """What a table of this space has: every operation, the anchors, and networks to calibrate with."""
    anchors = anchor_architectures(space)
    drawn = space.spread(networks + ANCHORS, random.Random(CALIBRATION_SEED))
    others = [each for each in drawn if each not in anchors][:networks]
    return [
        *(Planned(workload, OP) for workload in space.workloads()),
        *(Planned(space.workload(each), ANCHOR) for each in anchors),
        *(Planned(space.workload(each), NETWORK) for each in others),
    ]


def profile(
    space: SearchSpace,
    profiler: Profiler,
    *,
    path: Path | None = None,
    rule: TimingRule | None = None,
    networks: int = NETWORKS,
    more: bool = False,
) -> Job[LatencyTable]:
    """Measures what the table does not have yet, and calibrates it.

    Args:
        space: Whose operations.
        profiler: Of the device, not yet open.
        path: Of the table; by default the one for this space, device, runtime and number of threads.
        rule: When a row is good enough.
        networks: Whole networks to calibrate with.
        more: Measure what is there again, in addition.
    """
    path = path or default_path(space.title, profiler.device, profiler.runtime, profiler.threads)
    with profiler:
        for progress in fill(path, space.title, plan(space, networks), profiler, rule or TimingRule(), more=more):
            yield Step(f"{progress.stage} ({profiler.device}, {profiler.runtime})", progress.done, progress.total)
    return LatencyTable.load(path)
