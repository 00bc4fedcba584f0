"""``unas-hw tables`` export, merge, diff and pack: tables for others, and of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import WithExample
from .sheets import diff_lines
from .streams import echo
from .terminal import emit, json_option, sheet, table_lines, which_table


@click.command(cls=WithExample, example="unas-hw tables export --device cpu --output cpu.csv")
@which_table
@click.option("--format", "format_name", metavar="NAME", help="csv, json or parquet; by default as --output ends.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Standard output by default.")
def export(name: str | None, format_name: str | None, output: Path | None, table: str | None, **target: Any) -> None:
    """Write a table's rows as CSV, JSON or Parquet, every number as it is; CSV by default."""
    from latency_tables.export import export as exported
    from latency_tables.home import Target, open_table
    from profilers.files import write_atomic

    format_name = format_name or (output.suffix[1:].lower() if output and output.suffix else "csv")
    if format_name == "parquet" and output is None:
        raise click.UsageError("Parquet is binary: say where with --output FILE.parquet")
    content = exported(open_table(name or table, Target(**target)), format_name)
    if output is None:
        echo(content)
    else:
        write_atomic(output, content)


@click.command(cls=WithExample, example="unas-hw tables merge monday.jsonl tuesday.jsonl --output both")
@click.argument("tables", nargs=-1, required=True, metavar="TABLE TABLE...")
@click.option("--output", required=True, metavar="TABLE", help="A path, or a name in the folder of tables.")
@click.option("--force", is_flag=True, help="Replace a table that is there.")
@json_option
def merge(tables: tuple[str, ...], output: str, force: bool, as_json: bool) -> None:
    """Make one table of several of the same device, runtime, threads and precision."""
    from latency_tables.collect import describe
    from latency_tables.home import imported_path, open_table
    from latency_tables.merge import merge as merged
    from profilers.errors import FileError

    path = imported_path(output)
    if path.exists() and not force:
        raise FileError(f"{path} is there already", mend="choose another --output, or add --force to replace it")
    found = merged([open_table(table) for table in tables], path)
    found.save()
    described = describe(found)
    emit(described, as_json, sheet(table_lines(described)))


@click.command(cls=WithExample, example="unas-hw tables diff monday.jsonl tuesday.jsonl")
@click.argument("left")
@click.argument("right")
@click.option("--all", "every", is_flag=True, help="Print every row, not only those that moved.")
@json_option
def diff(left: str, right: str, every: bool, as_json: bool) -> None:
    """Which rows differ between two tables by more than the machine's common factor and noise."""
    from latency_tables.diff import diff as compared
    from latency_tables.home import open_table

    first, second = open_table(left), open_table(right)
    found = compared(first, second)
    lines = "\n".join(diff_lines(found, first.path.name, second.path.name, every=every))
    emit({"left": first.path, "right": second.path, **found.to_json()}, as_json, lines)


@click.command(cls=WithExample, example="unas-hw tables pack --device cpu --output cpu.jsonl.gz")
@which_table
@click.option("--output", required=True, type=click.Path(path_type=Path), metavar="FILE", help="As phone.jsonl.gz.")
@json_option
def pack(name: str | None, output: Path, as_json: bool, table: str | None, **target: Any) -> None:
    """Make one file of a table to share, with the hash of its content; --table reads it, also from an address."""
    from latency_tables import foreign
    from latency_tables.home import Target, open_table
    from latency_tables.pack import pack as packed
    from latency_tables.pack import sha256, unpack
    from profilers.files import write_atomic

    content = packed(open_table(name or table, Target(**target)))
    plain = unpack(content, str(output))
    foreign.check(plain, str(output))  # nobody is given what their own command would refuse
    write_atomic(output, content)
    result = {"path": output, "bytes": len(content), "content_sha256": sha256(plain)}
    emit(result, as_json, sheet({**result, "to pin it": f"--table URL#sha256={result['content_sha256']}"}))


SHARING = (export, merge, diff, pack)
