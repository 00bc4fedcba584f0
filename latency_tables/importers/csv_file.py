"""CSV of one's own: a row an operation, columns by name."""

from __future__ import annotations

import csv
import io
import math
import re
import shlex
from collections.abc import Mapping
from typing import final

from latency_tables.errors import ImportFileError
from latency_tables.importers.base import MAX_KEY, Entry, Importer, Source, named
from latency_tables.importers.columns import unit_of_column
from latency_tables.rows import ADAPTED, MEASURED, OP, PUBLISHED, REGRESSED
from profilers.errors import OpSpecError, UnitError
from profilers.opspec import OpSpec

COLUMNS = ("key", "ms", "sd_ms", "origin", "source", "role")
"""What ``--column`` may map; key and ms have to be there. Of the same names as in our own exports, whose rows of
another role than ``op`` are whole networks: no operation, hence left out."""
_ORIGINS = {"": PUBLISHED, PUBLISHED: PUBLISHED, ADAPTED: ADAPTED, MEASURED: PUBLISHED, REGRESSED: PUBLISHED}
"""What was measured elsewhere, or regressed from it, is for this table what another published."""


@final
class CsvFile(Importer):
    """A key of ours stays the key; any other name becomes ``csv[row=NAME]``. Units are those of the columns' names.

    Cells are parted by commas, semicolons or tabs; decimals are always parted by points.
    """

    name = "csv"
    summary = "CSV with the columns key and ms, or others mapped by --column; sd_ms, origin and source if there"

    def recognises(self, source: Source) -> bool:
        first = next(iter(_lines(source)), [])
        return all(column in first for column in _columns(source, first, needed=("key", "ms")).values())

    def unit(self, source: Source) -> str | None:
        return _unit(source, "ms")

    def deviation_unit(self, source: Source) -> str | None:
        return _unit(source, "sd_ms")

    def entries(self, source: Source) -> list[Entry]:
        try:
            lines = list(_lines(source, strict=True))
        except csv.Error as error:
            raise source.error("somewhere", str(error), "says CSV") from error
        first = lines[0] if lines else []
        places = {}
        for column, theirs in _columns(source, first, needed=("key", "ms")).items():
            if first.count(theirs) != 1:
                raise ImportFileError(
                    f"{source.path} has {first.count(theirs)} columns called {theirs!r}: {', '.join(first)[:200]!r}",
                    mend=f"say which it is: --column {column}=COLUMN",
                )
            places[column] = first.index(theirs)
        entries = []
        for number, cells in enumerate(lines[1:], 2):
            if len(cells) != len(first):
                raise source.error(f"row {number}", ",".join(cells), f"has {len(cells)} cells, not {len(first)}")
            ours = {name: cells[place].strip() for name, place in places.items()}
            if ours.get("role", OP) in ("", OP):
                entries.append(_entry(source, number, ours))
        return entries


def _delimiter(source: Source) -> str:
    """The one by which the first line has the columns that are needed; a comma where none has."""
    first = next(iter(source.text.lstrip().splitlines()), "")
    needed = {source.columns.get(name, name) for name in ("key", "ms")}
    for delimiter in ",;\t":
        if needed <= {cell.strip(' "') for cell in first.split(delimiter)}:
            return delimiter
    return ","


def _lines(source: Source, strict: bool = False) -> list[list[str]]:
    reader = csv.reader(io.StringIO(source.text, newline=""), strict=strict, delimiter=_delimiter(source))
    try:
        return [[cell.strip() for cell in line] if number == 0 else line for number, line in enumerate(reader) if line]
    except csv.Error:
        if strict:
            raise
        return []


def _unit(source: Source, column: str) -> str | None:
    try:
        return unit_of_column(source.columns.get(column, column))
    except UnitError as error:
        raise UnitError(f"{source.path}: {error.what}", mend=error.mend) from error


def _number(source: Source, where: str, text: str) -> float:
    if re.fullmatch(r"\d+,\d+", text) and _delimiter(source) != ",":
        pointed = rf"sed -E 's/([0-9]),([0-9])/\1.\2/g' {shlex.quote(str(source.path))} > mended"
        raise ImportFileError(
            f"{source.path}, {where}: {text!r} has a comma", mend=f"if it parts decimals, write points: {pointed}"
        )
    return source.number(where, text)


def _columns(source: Source, first: list[str], needed: tuple[str, ...]) -> Mapping[str, str]:
    """Our names of columns to theirs: what was told, what has to be there, and of the others those that are."""
    return {ours: ours for ours in COLUMNS if ours in needed or ours in first} | dict(source.columns)


def _entry(source: Source, number: int, cells: dict[str, str]) -> Entry:
    where, name, origin = f"row {number}", cells["key"], cells.get("origin", "")
    if not 0 < len(name) <= MAX_KEY:
        raise source.error(where, name, f"is not a name of 1 to {MAX_KEY} letters")
    if origin not in _ORIGINS:
        raise source.error(where, origin, f"is not an origin: {', '.join(filter(None, _ORIGINS))}")
    try:
        key = OpSpec.from_key(name).key
    except OpSpecError:
        key = named("csv", name)
    deviation = cells.get("sd_ms", "")
    sd = math.nan if deviation.lower() in ("", "nan") else _number(source, where, deviation)
    return Entry(
        where=where,
        name=name,
        key=key,
        time=source.positive(where, _number(source, where, cells["ms"])),
        deviation=sd,
        origin=_ORIGINS[origin],
        source=cells.get("source", ""),
    )
