"""``unas-hw profile``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..configuring import configurable
from ..options import WithExample
from ..terminal import (
    batch_option,
    dataset_option,
    emit,
    follow,
    image_size_option,
    json_option,
    precision_option,
    rounds_option,
    runtime_option,
    sheet,
    space_option,
    table_lines,
)

if TYPE_CHECKING:
    from latency_tables.planning import Estimate
    from unas_hw.jobs.devices import Profiled


@click.command(cls=WithExample, example="unas-hw profile --space mbconv --device gpu --dry-run")
@configurable()
@space_option
@click.option(
    "--device",
    "devices",
    multiple=True,
    default=("cpu",),
    show_default="cpu",
    metavar="DEVICE",
    help="cpu, gpu, ssh://[user@]host, adb://SERIAL, sim:NAME, or a name of devices add; several share the work.",
)
@runtime_option
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads an operation may use.")
@precision_option
@click.option("--table", metavar="PATH", help="Table to complete; by default the one for space, device and runtime.")
@batch_option
@dataset_option("For images like these")
@image_size_option
@click.option("--networks", type=click.IntRange(0), default=25, show_default=True, help="Networks to calibrate with.")
@rounds_option
@click.option("--time-budget", metavar="TIME", help="Measure what is most useful in so much time, such as 10m.")
@click.option("--more", is_flag=True, help="Measure what the table has again, in addition.")
@click.option("--refresh", "refreshing", is_flag=True, help="Measure the anchors only, and rescale the table by them.")
@click.option("--quick", is_flag=True, help="Whole networks only; rows come from tables of other devices.")
@click.option("--energy", is_flag=True, help="Measure energy too, by the device's own meter: NVML, RAPL.")
@click.option("--power-command", metavar="COMMAND", help="Energy by a command or file that prints 3.2W or 12.5J.")
@click.option("--dry-run", is_flag=True, help="Only say what would be measured, and how long it takes.")
@json_option
def command(
    space: str | None,
    devices: tuple[str, ...],
    precision: str | None,
    table: str | None,
    rounds: int | None,
    time_budget: str | None,
    refreshing: bool,
    quick: bool,
    energy: bool,
    dry_run: bool,
    as_json: bool,
    **told: Any,
) -> None:
    """Measure the operations of a search space that the device's table does not have yet.

    Interrupted or killed, the same command goes on where it was.
    """
    from latency_tables.home import default_path, own_path
    from latency_tables.published import open_device
    from latency_tables.table import LatencyTable
    from profilers.timing import timing_rule
    from profilers.units import parse_ms
    from unas_hw.jobs.adapt import quick_profile
    from unas_hw.jobs.devices import Profiled, profile_devices
    from unas_hw.jobs.profile import estimated, refresh, space_for

    budget_ms = parse_ms(time_budget) if time_budget else None
    images = {name: told.pop(name) for name in ("dataset", "image_size", "batch")}
    how = {name: told.pop(name) for name in ("runtime", "threads")}
    found = space_for(space, precision=precision or "float32", **images)
    own = own_path(table) if table else None
    rule = timing_rule(rounds)
    if not (dry_run or refreshing or quick):
        told |= {"rule": rule, "time_budget_ms": budget_ms, "energy": energy or told["power_command"] is not None}
        job = profile_devices(found, devices, path=own, **how, **told)
        emit_tables(follow(job), as_json)
        return
    if len(devices) != 1:
        raise click.UsageError("--dry-run, --refresh and --quick are for one --device at a time")
    (device,) = devices
    profiler = open_device(device, **how)
    path = own or default_path(found.title, profiler.device, profiler.runtime, profiler.threads)
    if dry_run:
        emit_estimate(estimated(found, profiler, path=path, rule=rule, networks=told["networks"]), path, as_json)
        return
    if refreshing:
        done = follow(refresh(LatencyTable.load(path), profiler, rule))
    else:
        done = follow(quick_profile(found, profiler, path=path, rule=rule))
    emit_tables(Profiled([done]), as_json)


def emit_tables(done: Profiled, as_json: bool) -> None:
    """One sheet a table; exits 1 where a device was lost, naming it."""
    from latency_tables.collect import describe

    described = [describe(table) for table in done.tables]
    sheets = "\n\n".join(sheet(table_lines(each)) for each in described)
    emit(described[0] if len(described) == 1 else described, as_json, sheets)
    if done.lost:
        raise click.ClickException("\n".join(str(error) for error in done.lost))


def emit_estimate(found: Estimate, path: Path, as_json: bool) -> None:
    """What a profile would measure."""
    from dataclasses import asdict

    from profilers.units import format_ms

    roles = ("op", "anchor", "network")
    due = {role: sum(row.role == role for row in found.due) for role in roles}
    have = {role: sum(row.role == role for row in found.rows) - due[role] for role in roles}
    width = max((len(row.key) for row in found.due if row.role == "op"), default=0)
    rows = "\n".join(
        f"{row.key:<{width}}  {row.samples:4d} samples  {format_ms(row.seconds * 1e3)}"
        for row in found.due
        if row.role == "op"
    )
    lines: dict[str, Any] = {
        "table": path,
        "to measure": ", ".join(f"{count} {role}s" for role, count in due.items()),
        "measured": ", ".join(f"{count} {role}s" for role, count in have.items()),
        "takes": f"{format_ms(found.seconds * 1e3)} on a steady machine, {format_ms(found.most_seconds * 1e3)} at most",
    }
    emit({"table": str(path), **asdict(found)}, as_json, f"{rows}\n\n{sheet(lines)}".lstrip())
