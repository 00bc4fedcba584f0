"""``unas-hw tables``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..options import GroupWithExample
from ..sharing import SHARING
from ..sheets import row_lines
from ..terminal import (
    batch_option,
    emit,
    follow,
    image_size_option,
    json_option,
    rounds_option,
    runtime_option,
    sheet,
    space_option,
    table_lines,
    which_table,
)


@click.group(cls=GroupWithExample, example="unas-hw tables validate pixel1")
def command() -> None:
    """List, show, compare, merge, validate, import, export and share latency tables."""


for each in SHARING:
    command.add_command(each)


@command.command("list", example="unas-hw tables list")
@json_option
def list_(as_json: bool) -> None:
    """All tables, the last profiled first; then those that ship."""
    from latency_tables.collect import describe
    from latency_tables.errors import TableError
    from latency_tables.home import table_files, tables_folder
    from latency_tables.published import published_files
    from latency_tables.table import LatencyTable
    from profilers.text import one_line

    found: list[dict[str, Any]] = []
    own = table_files()
    for path in (*own, *published_files()):
        try:
            found.append(describe(LatencyTable.load(path)))
        except TableError as error:  # the others are there all the same
            found.append({"path": str(path), "error": error.what})
    lines = "\n".join(
        one_line(each.get("error") or f"{each['subject']:<28} {each['device']:<12} {_how(each)}  {each['path']}")
        for each in found
    )
    none = "" if own else f"no tables in {tables_folder()}: unas-hw profile makes one\n"
    emit(found, as_json, none + lines)


def _how(described: dict[str, Any]) -> str:
    if described["fingerprint"].get("kind") == "published":
        return f"published, {described['rows_not_measured']} rows, {described.get('licence', 'licence not stated')}"
    return (
        f"{described['runtime']:<12} {described['threads']} thread(s)  noise {described['noise_floor']:.1f}%  "
        f"{described['created']}"
    )


@command.command(example="unas-hw tables show --device cpu")
@which_table
@json_option
def show(name: str | None, as_json: bool, table: str | None, **target: Any) -> None:
    """What a table holds and how far it can be trusted; the last profiled by default."""
    from latency_tables.collect import describe
    from latency_tables.home import Target, open_table

    found = open_table(name or table, Target(**target))
    rows = found.frame.reset_index().to_dict("records")
    described = describe(found)
    lines = "\n".join((sheet(table_lines(described)), "", *row_lines(rows)))
    emit({**described, "rows": rows}, as_json, lines)


@command.command(example="unas-hw tables validate --networks 20")
@which_table
@click.option("--networks", type=click.IntRange(3), default=30, show_default=True, help="Fresh networks to measure.")
@rounds_option
@json_option
def validate(
    name: str | None, networks: int, rounds: int | None, as_json: bool, table: str | None, **target: Any
) -> None:
    """Measure networks that the table has never seen, and compare; the last profiled table by default."""
    from latency_tables.coverage import profiler_of
    from latency_tables.home import Target, open_table
    from profilers.timing import timing_rule
    from unas_hw.jobs.tables import space_of
    from unas_hw.jobs.validate import validate as measure

    found = open_table(name or table, Target(**target))
    profiler = profiler_of(found)
    result = follow(measure(space_of(found), found, profiler, networks=networks, rule=timing_rule(rounds)))
    lines = {
        "table": result["table"],
        "networks": f"{result['networks']}, none of them seen before",
        "mean error": f"{result['mape']:.2f}% (noise floor {result['noise_floor']:.2f}%, bias {result['bias']:+.2f}%)",
        "worst error": f"{result['max_error']:.2f}%",
        "within 5%, 10%": f"{result['within_5']:.0f}%, {result['within_10']:.0f}% of the networks",
        "90% intervals": f"hold {result['interval_90_covers']:.0%} of the networks",
        "Spearman": f"{result['spearman']:.4f}",
    }
    emit(result, as_json, sheet(lines))


@command.command("import", example="unas-hw tables import lut.csv --device myphone --output myphone")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "format_name", metavar="NAME", help="Of the file; recognised by default.")
@click.option("--output", required=True, metavar="TABLE", help="A path, or a name in the folder of tables.")
@click.option("--unit", metavar="UNIT", help="ms, us, ns or s: of the latencies, where the file does not say.")
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="Of CSV: key=COLUMN, ms=COLUMN, ...")
@click.option("--device", metavar="NAME", help="What was measured, as in --device of other commands.")
@click.option("--origin", metavar="TEXT", help="Who measured and published it.")
@click.option("--licence", metavar="NAME", help="Of the published file.")
@click.option("--not-priced", multiple=True, metavar="KIND", help="Operations that the publisher prices nowhere.")
@json_option
def import_(file: Path, output: str, columns: tuple[str, ...], as_json: bool, **told: Any) -> None:
    """Take over a published table: ProxylessNAS, Once-for-All, FBNet, single-path-nas or CSV.

    Every row is kept, with the name that its publisher gave it.
    """
    from latency_tables.collect import describe
    from latency_tables.home import imported_path
    from latency_tables.importers.convert import import_table
    from latency_tables.importers.csv_file import COLUMNS

    pairs = [pair.partition("=") for pair in columns]
    for ours, equals, theirs in pairs:
        if ours not in COLUMNS or not equals or not theirs:
            raise click.BadParameter(
                f"{ours + equals + theirs!r} is not one of {', '.join(f'{name}=COLUMN' for name in COLUMNS)}",
                param_hint="--column",
            )
    mapped = {ours: theirs for ours, _, theirs in pairs}
    described = describe(import_table(file, imported_path(output), columns=mapped, **told))
    emit(described, as_json, sheet(table_lines(described)))


@command.command("calibrate", example="unas-hw tables calibrate --networks 60")
@which_table
@click.option("--networks", type=click.IntRange(4), default=30, show_default=True, help="To calibrate with.")
@rounds_option
@json_option
def calibrate(
    name: str | None, networks: int, rounds: int | None, as_json: bool, table: str | None, **target: Any
) -> None:
    """Measure whole networks and fit the table to them, its single rows too; the last profiled table by default."""
    from latency_tables.collect import describe
    from latency_tables.coverage import profiler_of
    from latency_tables.home import Target, open_table
    from profilers.timing import timing_rule
    from unas_hw.jobs.profile import calibrate as measure

    found = open_table(name or table, Target(**target))
    described = describe(follow(measure(found, profiler_of(found), networks=networks, rule=timing_rule(rounds))))
    emit(described, as_json, sheet(table_lines(described)))


@command.command("adapt", example="unas-hw tables adapt --from cpu-onnxruntime --device ssh://pi@raspberrypi")
@click.option("--from", "sources", multiple=True, required=True, metavar="TABLE", help="Of another device; repeatable.")
@click.option("--device", required=True, metavar="DEVICE", help="The new one: cpu, gpu or sim:NAME.")
@runtime_option
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads a network may use.")
@click.option("--output", metavar="PATH", help="Of the new table; by default the one for space, device and runtime.")
@space_option
@image_size_option
@batch_option
@click.option("--networks", type=click.IntRange(5), default=30, show_default=True, help="Networks to measure.")
@rounds_option
@json_option
def adapt(
    sources: tuple[str, ...],
    device: str,
    runtime: str | None,
    threads: int,
    output: str | None,
    space: str | None,
    image_size: int | None,
    batch: int,
    networks: int,
    rounds: int | None,
    as_json: bool,
) -> None:
    """A table of a new device from tables of others and a few networks measured on it.

    `profile` replaces its rows by measured ones. The space is that of the first table by default.
    """
    from latency_tables.collect import describe
    from latency_tables.home import default_path, open_table, own_path
    from latency_tables.published import open_device
    from profilers.timing import timing_rule
    from unas_hw.jobs.adapt import adapt_table
    from unas_hw.jobs.profile import space_for
    from unas_hw.jobs.tables import space_of

    tables = [open_table(source) for source in sources]
    found = space_for(space, image_size=image_size, batch=batch) if space else space_of(tables[0])
    profiler = open_device(device, runtime=runtime, threads=threads)
    path = own_path(output or default_path(found.title, profiler.device, profiler.runtime, profiler.threads))
    job = adapt_table(found, tables, profiler, path=path, networks=networks, rule=timing_rule(rounds))
    described = describe(follow(job))
    emit(described, as_json, sheet(table_lines(described)))


@command.command("plan", example="unas-hw tables plan --device gpu")
@space_option
@click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu, gpu or sim:NAME.")
@runtime_option
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads an operation may use.")
@image_size_option
@batch_option
@rounds_option
@json_option
@click.pass_context
def plan(ctx: click.Context, /, **told: Any) -> None:
    """What a profile would measure and how long it takes; as `profile --dry-run`."""
    from .profile import command as profile

    ctx.invoke(profile, dry_run=True, **told)
