"""The table of a network that is pruned: its layers at a few widths, and whole sub-networks to calibrate them with."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch

from latency_tables.collect import Planned, fill
from latency_tables.coverage import profiler_of
from latency_tables.errors import NoisyTableError
from latency_tables.home import Target, default_path, open_table, shown
from latency_tables.interpolation import Surface, calibrate_parts, grid
from latency_tables.published import open_device
from latency_tables.rows import ANCHOR, NETWORK, OP
from latency_tables.table import MAX_NOISE_FLOOR, LatencyTable
from profilers.timing import TimingRule
from profilers.workload import Workload
from unas_hw.meter import anchor_architectures
from unas_hw.methods.pruning.masks import Masks, Widths, everything, kept_of, pieces
from unas_hw.methods.pruning.shapes import TableLatency
from unas_hw.progress import Job, Step
from unas_hw.prunable.layers import Layer, Segment
from unas_hw.prunable.prunable import Prunable
from unas_hw.space import Architecture
from unas_hw.spaces.subset import SubsetSpace

NETWORKS = 16
"""Sub-networks that calibrate the rows, besides the anchors."""
SEED = 1
LEAST = 0.15
"""Share of the pieces that the smallest of them keep."""


@dataclass(frozen=True)
class Grid:
    """Where a layer is measured.

    Attributes:
        inputs, outputs: Widths; one input where the output has the same channels, or they are fixed.
        workloads: Of each pair, the outputs changing fastest.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    workloads: tuple[Workload, ...]


def architecture_of(space: SubsetSpace, masks: Masks) -> Architecture:
    """What these masks leave; channels are exchangeable once weights are new."""
    return space.architecture_of(space.prunable.widths(masks))


def grid_of(layer: Layer, space: SubsetSpace, multiple: int) -> Grid:
    """The grid of a layer for the space's batch and precision."""
    outputs = _axis(layer.outputs, space.prunable, multiple)
    tied = layer.own or layer.inputs == layer.outputs
    inputs = (outputs[-1],) if tied else _axis(layer.inputs, space.prunable, multiple)
    batch, precision = space.input_shape[0], space.precision
    pairs = ((n, n) for n in outputs) if tied else product(inputs, outputs)
    return Grid(inputs, outputs, tuple(layer.workload(i, o, batch=batch, precision=precision) for i, o in pairs))


def _axis(segments: Sequence[Segment], prunable: Prunable, multiple: int) -> tuple[int, ...]:
    """Widths of a layer's input or output at which it is measured."""
    steps = {group.name: group.step(multiple) for group in prunable.groups}
    whole = sum(each.channels * each.repeat for each in segments)
    places = [(each.channels * each.repeat // each.size, steps[each.group]) for each in segments if each.group]
    if not places:
        return (whole,)
    if len(places) == 1:
        return grid(whole, math.prod(places[0]))
    least = math.lcm(*(width for width, _ in places))
    return grid(whole, -(-multiple // least) * least)


def sub_networks(space: SubsetSpace, multiple: int, count: int = NETWORKS) -> list[Masks]:
    """Random masks from little to everything, always the same: each group keeps a share of its own."""
    prunable, found = space.prunable, []
    generator = torch.Generator().manual_seed(SEED)
    rng = random.Random(SEED)
    for number in range(count):
        share = LEAST + (1 - LEAST) * number / max(count - 1, 1)
        theta = {
            name: torch.rand(ones.shape, generator=generator) + rng.uniform(-0.3, 0.3)
            for name, ones in everything(prunable).items()
        }
        order = pieces(prunable, theta, multiple)
        kept = [piece for place, piece in enumerate(order) if piece.first or place >= (1 - share) * len(order)]
        found.append(kept_of(prunable, kept))
    return found


def table_for(
    space: SubsetSpace, target: Target, named: str | Path | None, rule: TimingRule, multiple: int, *, rows: bool
) -> Job[LatencyTable]:
    """The table with all that the pruning of this network needs; what it lacks is measured.

    Args:
        space: Of the sub-networks.
        target: Device, runtime and threads; this CPU by default.
        named: Of a table, instead of the one for this network.
        rule: How long to measure.
        multiple: Channels that are kept or given up together.
        rows: Whether layers are wanted too, not whole networks alone.
    """
    anchors = anchor_architectures(space)
    planned = [Planned(space.workload(each), ANCHOR) for each in anchors]
    if rows:
        ops = dict.fromkeys(
            each for layer in space.prunable.layers for each in grid_of(layer, space, multiple).workloads
        )
        planned = [*(Planned(each, OP) for each in ops), *planned]
        others = dict.fromkeys(architecture_of(space, each) for each in sub_networks(space, multiple))
        planned += [Planned(space.workload(each), NETWORK) for each in others if each not in anchors]
    if named is not None:
        table = open_table(named, target)
        path, profiler = table.path, profiler_of(table)
    else:
        profiler = open_device(target.device or "cpu", runtime=target.runtime, threads=target.threads or 1)
        path = default_path(space.title, profiler.device, profiler.runtime, profiler.threads)
    there = LatencyTable.load(path) if path.is_file() and path.stat().st_size else None
    missing = [each for each in planned if there is None or each.workload.key not in there.measurements]
    noisy = there is not None and there.noise_floor > MAX_NOISE_FLOOR
    if missing or noisy:
        what = f"lacks {len(missing)} rows: measuring them" if missing else "is noisy: measuring on"
        yield Step("profile", 0, len(planned), f"{path.name} {what}")
        with profiler:
            for progress in fill(path, space.title, planned, profiler, rule, more=not missing):
                stage = f"{progress.stage} ({shown(progress.device)}, {profiler.runtime})"
                yield Step(stage, progress.done, progress.total, progress.note)
    table = LatencyTable.load(path)
    try:
        table.refuse_noise()
    except NoisyTableError as error:
        raise NoisyTableError(error.what, mend="close other programs and give the same command again") from error
    return table


def latency_of_shapes(space: SubsetSpace, table: LatencyTable, percentile: int, multiple: int) -> TableLatency:
    """Interpolated rows, calibrated by the table's whole networks."""
    prunable = space.prunable
    surfaces, inputs = [], []
    for layer in prunable.layers:
        found = grid_of(layer, space, multiple)
        ms = np.array([table.latency_ms(each.key) for each in found.workloads])
        surfaces.append(Surface(found.inputs, found.outputs, ms))
        inputs.append(found.workloads[-1].op.numel / found.inputs[-1])
    rows = TableLatency(prunable, surfaces, inputs)
    networks = _measured_networks(space, table, multiple)
    widths = [Widths.of(prunable, prunable.first(space.widths(each))) for each in networks]
    keys = [space.workload(each).key for each in networks]
    calibration = calibrate_parts(table, [(key, rows.parts(each)) for key, each in zip(keys, widths, strict=True)])
    return TableLatency(prunable, surfaces, inputs, calibration, table.tail_ratio(percentile))


def _measured_networks(space: SubsetSpace, table: LatencyTable, multiple: int) -> list[Architecture]:
    drawn = [*anchor_architectures(space), *(architecture_of(space, each) for each in sub_networks(space, multiple))]
    return [each for each in dict.fromkeys(drawn) if space.workload(each).key in table.measurements]
