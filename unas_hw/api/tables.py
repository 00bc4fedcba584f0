"""Latency tables: measured, opened, and asked what a network takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from latency_tables import storage
from latency_tables.collect import describe
from latency_tables.home import Target, default_path, open_table, own_path
from latency_tables.published import open_device
from latency_tables.rows import ANCHOR, OP
from latency_tables.table import LatencyTable
from profilers.files import as_plain
from profilers.precision import parse_precision
from profilers.profiler import Profiler
from profilers.timing import TimingRule, timing_rule
from profilers.units import parse_ms
from unas_hw.api.results import Predicted, axes, html_of
from unas_hw.api.running import Callback, follow
from unas_hw.api.told import refuse_fractions, shared_out
from unas_hw.jobs.adapt import quick_profile
from unas_hw.jobs.predict import predict_network
from unas_hw.jobs.profile import NETWORKS, space_for
from unas_hw.jobs.profile import profile as measured
from unas_hw.jobs.profile import refresh as measured_again
from unas_hw.jobs.tables import space_of
from unas_hw.progress import Job, finish
from unas_hw.space import Architecture, SearchSpace

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@final
@dataclass(frozen=True)
class Table:
    """What a device takes for each operation of a space.

    Attributes:
        latencies: The rows, and all that can be done with them.
        told: The space that it is for, where the table does not say it itself: published ones do not.
    """

    latencies: LatencyTable
    told: SearchSpace | None = None

    def __post_init__(self) -> None:
        _ = self.path  # now, so that it is found from another folder, too

    @cached_property
    def path(self) -> Path:
        """Its file."""
        return self.latencies.path.resolve()

    @cached_property
    def space(self) -> SearchSpace:
        """That it is for; raises ``TableError`` where nothing says which: ``load_table(..., space=NAME)`` does."""
        return self.told or space_of(self.latencies)

    def predict(self, architecture: Architecture | str) -> Predicted:
        """What a network would take; nothing is measured.

        Args:
            architecture: Of the space: an object, choices such as ``k3e3,id,...``, or a file that a search wrote.

        Raises:
            ArchitectureError: If it is of another space, or cannot be read.
            MissingEntryError: If an operation can neither be looked up nor predicted from other rows.
        """
        knows = self.told is not None or self.latencies.keys(ANCHOR)
        job = predict_network(
            str(architecture), space=self.space if knows else None, table=self.latencies, measure=False
        )
        return Predicted(finish(job))

    def to_pandas(self) -> pd.DataFrame:
        """A row for every operation, and every whole network that calibrates them: ``latency_ms``, ``origin``, ..."""
        return self.latencies.frame

    def to_json(self) -> dict[str, Any]:
        """What ``unas-hw profile --json`` prints."""
        plain: dict[str, Any] = as_plain(describe(self.latencies))
        return plain

    def save(self, path: str | Path) -> Path:
        """Writes a copy, which ``load_table`` reads."""
        storage.write(own_path(path), self.latencies.header, self.latencies.records())
        return Path(path)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Latencies of the operations, the slowest last, in a colour for each kind; needs matplotlib."""
        ax, frame = axes(ax), self.to_pandas()
        frame = frame[frame["role"] == OP].sort_values("latency_ms")
        order = range(len(frame))
        kinds = frame.index.str.partition("[").get_level_values(0)
        for kind in dict.fromkeys(kinds):
            shown = [place for place in order if kinds[place] == kind]
            ax.plot(shown, frame["latency_ms"].iloc[shown], "o", markersize=4, label=kind)
        ax.set(xlabel="operation", ylabel="latency_ms", yscale="log", title=self.path.stem)
        ax.legend(fontsize="small")
        return ax

    def _summary(self) -> dict[str, object]:
        header, errors = self.latencies.header, self.latencies.calibration.errors
        return {
            "for": header["subject"],
            **{name: header[name] for name in Target.__dataclass_fields__},
            "operations": len(self.latencies.keys(OP)),
            "held-out error": errors and f"{errors.mape:.2f}% of {errors.networks} networks",
            "file": self.path,
        }

    def __repr__(self) -> str:
        return f"Table({self.path})"

    def _repr_html_(self) -> str:
        return html_of("LatencyTable", self._summary())


def target_of(*, precision: str | None = None, **told: Any) -> Target:
    """Which tables are meant, by ``device``, ``runtime``, ``threads`` and ``precision`` as people write it."""
    return Target(precision=precision and parse_precision(precision), **told)


def load_table(path: str | Path | None = None, *, space: str | SearchSpace | None = None, **settings: Any) -> Table:
    """A latency table that there is.

    Args:
        path: Of its file, the beginning of its name, an address, or a published one: ``pixel1``; by default the last
            that was profiled.
        space: That it is for; a table that was measured knows it.
        settings: ``device``, ``runtime``, ``threads`` and ``precision`` that it has to be of.

    Raises:
        TableError: If there is none, or it is of another device.
    """
    (target,) = shared_out(settings, Target)
    found = open_table(path, target_of(**target))
    return Table(found, space_for(space, precision=found.header["precision"]) if isinstance(space, str) else space)


def profile(
    space: str | SearchSpace | None = None,
    *,
    device: str = "cpu",
    runtime: str | None = None,
    threads: int = 1,
    precision: str | None = None,
    table: str | Path | None = None,
    batch: int = 1,
    dataset: str | None = None,
    image_size: int | None = None,
    networks: int = NETWORKS,
    rounds: int | None = None,
    time_budget: str | None = None,
    more: bool = False,
    refresh: bool = False,
    quick: bool = False,
    energy: bool = False,
    power_command: str | None = None,
    callbacks: Iterable[Callback] = (),
    progress: bool | None = None,
) -> Table:
    """Measures the operations of a space that the device's table does not have yet; a call that was stopped goes on.

    Args:
        space: Its name, with options or without, the path of your own, or a space; by default what suits the images.
        device: ``cpu``, ``gpu``, ``ssh://HOST``, ``adb://SERIAL``, ``sim:NAME``, or a name of ``unas-hw devices add``.
        runtime: By default what suits the device.
        threads: That an operation may use.
        precision: ``fp32``, ``fp16``, ``bf16``, ``int8`` or ``tf32``.
        table: Path of the table to complete; by default the one for space, device and runtime.
        batch: Images at a time.
        dataset: For the images of this data set.
        image_size: Pixels, instead of those of the data set or the space.
        networks: Whole networks to calibrate with, besides five anchors.
        rounds: Samples per operation at most; more on noisy machines.
        time_budget: Measure what is most useful in so much time, such as ``10m``.
        more: Measure what the table has again, in addition.
        refresh: Measure the anchors only, and rescale the table by them.
        quick: Measure whole networks only; rows come from tables of other devices.
        energy: Measure energy too, by the device's own meter, or by
        power_command: A command or file that prints ``3.2W`` or ``12.5J``.
        callbacks: What is told of it.
        progress: Whether there is a bar; by default in a terminal and in a notebook.

    Raises:
        UnasError: If there is no such space, device or runtime, or the device is lost; what was measured is kept.
    """
    refuse_fractions(threads=threads, batch=batch, image_size=image_size, networks=networks, rounds=rounds)
    rule, time_budget_ms = timing_rule(rounds), parse_ms(time_budget) if time_budget else None
    found = space if isinstance(space, SearchSpace) else space_for(
        space, dataset=dataset, image_size=image_size, batch=batch, precision=parse_precision(precision or "fp32")
    )  # fmt: skip
    profiler = open_device(device, runtime=runtime, threads=threads)
    path = own_path(table or default_path(found.title, profiler.device, profiler.runtime, profiler.threads))
    job = _measuring(
        found, profiler, path, rule, refresh=refresh, quick=quick, networks=networks, more=more,
        time_budget_ms=time_budget_ms, energy=energy or power_command is not None, power_command=power_command,
    )  # fmt: skip
    told = space if isinstance(space, SearchSpace) else None
    return follow(job, lambda latencies: Table(latencies, told), callbacks, progress)


def _measuring(
    space: SearchSpace, profiler: Profiler, path: Path, rule: TimingRule, *, refresh: bool, quick: bool, **told: Any
) -> Job[LatencyTable]:
    """What was asked for: anchors alone, whole networks alone, or rows."""
    if refresh:
        return measured_again(LatencyTable.load(path), profiler, rule)
    if quick:
        return quick_profile(space, profiler, path=path, rule=rule)
    return measured(space, profiler, path=path, rule=rule, **told)


def predict(
    architecture: Architecture | str,
    *,
    space: str | SearchSpace | None = None,
    table: Table | str | Path | None = None,
    dataset: str | None = None,
    image_size: int | None = None,
    batch: int = 1,
    measure: bool = True,
    callbacks: Iterable[Callback] = (),
    progress: bool | None = None,
    **settings: Any,
) -> Predicted:
    """Latency with its interval, parameters and multiply-accumulates of one network.

    Args:
        architecture: An object, a file that a search wrote, or choices: ``k3e3,id,...``.
        space: By default the one that the architecture names.
        table: By default the last profiled that has the network's operations.
        dataset: For the images of this data set.
        image_size: Pixels.
        batch: Images at a time.
        measure: Whether operations that the table lacks are measured, if its device is at hand.
        callbacks: What is told of it.
        progress: Whether there is a bar; by default in a terminal and in a notebook.
        settings: ``device``, ``runtime``, ``threads`` and ``precision`` that the table has to be of.

    Raises:
        ArchitectureError: If it cannot be read, or is of another space.
    """
    refuse_fractions(batch=batch, image_size=image_size)
    (target,) = shared_out(settings, Target)
    job = predict_network(
        str(architecture),
        space=space,
        table=table.latencies if isinstance(table, Table) else str(table) if table else None,
        target=target_of(**target),
        dataset=dataset,
        image_size=image_size,
        batch=batch,
        measure=measure,
    )
    return follow(job, Predicted, callbacks, progress)
