"""CSV of one's own: a row an operation, columns by name."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from typing import final

from latency_tables.errors import ImportFileError
from latency_tables.importers.base import MAX_KEY, Entry, Importer, Source, named
from latency_tables.rows import ADAPTED, MEASURED, OP, PUBLISHED, REGRESSED
from profilers.errors import OpSpecError
from profilers.opspec import OpSpec

COLUMNS = ("key", "ms", "sd_ms", "origin", "source", "role")
"""What ``--column`` may map; key and ms have to be there. Of the same names as in our own exports, whose rows of
another role than ``op`` are whole networks: no operation, hence left out."""
_UNIT = re.compile(r"(?:^|.*[\W_])(ms|us|s)[)\]]?", re.IGNORECASE | re.ASCII)
_ORIGINS = {"": PUBLISHED, PUBLISHED: PUBLISHED, ADAPTED: ADAPTED, MEASURED: PUBLISHED, REGRESSED: PUBLISHED}
"""What was measured elsewhere, or regressed from it, is for this table what another published."""


@final
class CsvFile(Importer):
    """A key of ours stays the key; any other name becomes ``csv[row=NAME]``. The unit is that of the column's name."""

    name = "csv"
    summary = "CSV with the columns key and ms, or others mapped by --column; sd_ms, origin and source if there"

    def recognises(self, source: Source) -> bool:
        first = next(iter(_lines(source)), [])
        return all(column in first for column in _columns(source, first, needed=("key", "ms")).values())

    def unit(self, source: Source) -> str | None:
        match = _UNIT.fullmatch(source.columns.get("ms", "ms"))
        return match[1].lower() if match else None

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


def _lines(source: Source, strict: bool = False) -> list[list[str]]:
    reader = csv.reader(io.StringIO(source.text, newline=""), strict=strict)
    try:
        return [[cell.strip() for cell in line] if number == 0 else line for number, line in enumerate(reader) if line]
    except csv.Error:
        if strict:
            raise
        return []


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
    sd = math.nan if deviation.lower() in ("", "nan") else source.number(where, deviation)
    return Entry(
        where=where,
        name=name,
        key=key,
        time=source.positive(where, source.number(where, cells["ms"])),
        deviation=sd,
        origin=_ORIGINS[origin],
        source=cells.get("source", ""),
    )
