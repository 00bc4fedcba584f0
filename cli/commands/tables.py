"""``unas-hw tables``."""

from __future__ import annotations

from typing import Any

import click

from ..terminal import Command, emit, follow, json_option, rounds_option, sheet, table_lines, table_options


@click.group()
def command() -> None:
    """List, show and validate latency tables."""


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """All tables, the last profiled first."""
    from latency_tables.collect import describe
    from latency_tables.errors import TableError
    from latency_tables.home import table_files, tables_folder
    from latency_tables.table import LatencyTable

    found: list[dict[str, Any]] = []
    for path in table_files():
        try:
            found.append(describe(LatencyTable.load(path)))
        except TableError as error:  # the others are there all the same
            found.append({"path": str(path), "error": error.what})
    lines = "\n".join(
        each.get("error")
        or f"{each['subject']:<28} {each['device']:<12} {each['runtime']:<12} {each['threads']} thread(s)  "
        f"noise {each['noise_floor']:.1f}%  {each['created']}  {each['path']}"
        for each in found
    )
    emit(found, as_json, lines or f"no tables in {tables_folder()}: unas-hw profile makes one")


def which_table(command: Command) -> Command:
    """``TABLE`` or ``--table``, or the last profiled of a device, runtime and number of threads."""
    return click.argument("name", metavar="[TABLE]", required=False)(table_options(command))


@command.command()
@which_table
@json_option
def show(name: str | None, as_json: bool, table: str | None, **target: Any) -> None:
    """What a table holds and how far it can be trusted; the last profiled by default."""
    from latency_tables.collect import describe
    from latency_tables.home import Target, open_table

    found = open_table(name or table, Target(**target))
    rows = found.frame.reset_index().to_dict("records")
    described = describe(found)
    width = max((len(row["key"]) for row in rows if row["role"] == "op"), default=0)
    lines = "\n".join(
        f"{row['key']:<{width}}  {row['latency_ms']:9.4f} ms  +-{row['half_width']:5.1%}  {row['flags']}"
        for row in rows
        if row["role"] == "op"
    )
    emit({**described, "rows": rows}, as_json, f"{sheet(table_lines(described))}\n\n{lines}")


@command.command()
@which_table
@click.option("--networks", type=click.IntRange(3), default=30, show_default=True, help="Fresh networks to measure.")
@rounds_option
@json_option
def validate(
    name: str | None, networks: int, rounds: int | None, as_json: bool, table: str | None, **target: Any
) -> None:
    """Measure networks that the table has never seen, and compare; the last profiled table by default."""
    from latency_tables.home import Target, open_table
    from profilers.registry import open_profiler
    from profilers.timing import timing_rule
    from unas_hw.jobs.tables import space_of
    from unas_hw.jobs.validate import validate as measure

    found = open_table(name or table, Target(**target))
    header = found.header
    profiler = open_profiler(header["device"], runtime=header["runtime"], threads=header["threads"])
    result = follow(measure(space_of(found), found, profiler, networks=networks, rule=timing_rule(rounds)))
    lines = {
        "table": result["table"],
        "networks": f"{result['networks']}, none of them seen before",
        "mean error": f"{result['mape']:.2f}% (noise floor {result['noise_floor']:.2f}%, bias {result['bias']:+.2f}%)",
        "worst error": f"{result['max_error']:.2f}%",
        "within 5%, 10%": f"{result['within_5']:.0f}%, {result['within_10']:.0f}% of the networks",
        "Spearman": f"{result['spearman']:.4f}",
    }
    emit(result, as_json, sheet(lines))
