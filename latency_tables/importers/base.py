"""Importer: from a published file, as it is, to rows of ours. Nothing is ever unpickled."""

from __future__ import annotations

import codecs
import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from latency_tables.errors import ImportFileError
from latency_tables.rows import PUBLISHED, Value
from profilers.errors import UnitError
from profilers.files import explained
from profilers.opspec import OpSpec
from profilers.units import UNITS, time_unit, to_ms

MAX_BYTES = 2 * 2**20
"""Of a published table; those known have at most 16 KiB."""
MAX_KEY = 1000
MAX_COUNT = 10**9
"""Of the measurements behind a published mean."""
MAX_TIME = 1e300
"""Beyond it sums overflow."""
_NEARLY = {
    r"[\d.,]+\s*[a-zA-Zµμ]+": "write plain numbers, all in the unit that the column's name or --unit says",
    r"\d{1,3}(,\d{3})+\.\d*": "write plain numbers, without commas between thousands",
    r"\d+,\d+": "write decimal points",
}
"""How cells are mended that are numbers to people."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One published row, in the unit of its file.

    Attributes:
        where: In the file, in words: ``line 12``.
        name: What the publisher calls it, word for word.
        key: Of the OpSpec that it is.
        time: Its latency.
        deviation: Standard deviation of that value, in ``Importer.deviation_unit``; NaN where the file says nothing.
        origin, source: As in ``Value``; the source is the name where nothing else is given.
    """

    where: str
    name: str
    key: str
    time: float
    deviation: float = math.nan
    origin: str = PUBLISHED
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A published file, read.

    ``columns`` is what the user says of columns, our name to theirs, and ``unit`` of the unit of time; None leaves it
    to the file.
    """

    path: Path
    text: str
    columns: Mapping[str, str] = field(default_factory=dict)
    unit: str | None = None

    def error(self, where: str, value: object, why: str) -> ImportFileError:
        """What is wrong, with file, row and value."""
        shown = repr(value)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        return ImportFileError(
            f"{self.path}, {where}: {shown} {why}", mend=f"mend or remove that row in a copy: cp {self.path} mended"
        )

    def number(self, where: str, text: str) -> float:
        """A plain finite number as written; neither ``nan`` nor ``0x10`` nor ``1_000``, nor ``3.4 ms`` or ``3,4``."""
        number = float(text) if len(text) <= 60 and _NUMBER.fullmatch(text.strip()) else math.nan
        if not math.isfinite(number):
            error = self.error(where, text, "is not a number")
            mend = next((mend for form, mend in _NEARLY.items() if re.fullmatch(form, text.strip())), error.mend)
            raise ImportFileError(error.what, mend=mend)
        return number

    def positive(self, where: str, number: object) -> float:
        """A latency: finite and above zero."""
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise self.error(where, number, "is not a number")
        if not 0 < number < MAX_TIME:  # false for NaN too
            raise self.error(where, number, "is not a positive latency")
        return float(number)


class Importer(ABC):
    """One format of published latency tables, named as in ``--format``, with a line for lists.

    ``lacks`` are kinds of operation that networks of this publisher run; those without any row are listed in the header
    as ``not_priced``.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    lacks: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def recognises(self, source: Source) -> bool:
        """Whether the file looks like this format; raises nothing."""

    @abstractmethod
    def entries(self, source: Source) -> list[Entry]:
        """Every row of the file; raises ``ImportFileError`` for one that cannot be a latency."""

    def unit(self, source: Source) -> str | None:
        """One of ``UNITS`` where the file or its format says it; None where it cannot be known.

        Raises ``UnitError`` where it says that its numbers are no latencies.
        """
        del source
        return None

    def deviation_unit(self, source: Source) -> str | None:
        """Likewise of the deviations, where they may have another unit than the latencies."""
        del source
        return None

    def values(self, source: Source) -> list[Value]:
        """Every row in milliseconds, under keys that are all different.

        Raises:
            ImportFileError: If the file has no rows, or one that cannot be a latency.
            UnitError: If the unit is nowhere said, or the user says another than the file.
        """
        entries = _distinct(source, self.name, self.entries(source))
        said, unit = self.unit(source), time_unit(source.unit) if source.unit else None
        if said and unit and said != unit:
            raise UnitError(
                f"{source.path}: its latencies are in {said}, as the {self.name} file says, not in {unit}",
                mend=f"leave out --unit {source.unit}; where the file is wrong, mend it in a copy",
            )
        unit = unit or said
        if unit is None:
            raise UnitError(
                f"{source.path}: nothing in a {self.name} file says which unit its latencies have",
                mend=f"add --unit {', --unit '.join(UNITS)}, as its publisher says",
            )
        deviation_unit = self.deviation_unit(source) or unit
        if not entries:
            raise ImportFileError(f"{source.path} has no rows", mend=f"head {source.path} shows what it has")
        return [_value(source, entry, unit, deviation_unit) for entry in entries]


def _value(source: Source, entry: Entry, unit: str, deviation_unit: str) -> Value:
    ms = source.positive(entry.where, to_ms(entry.time, unit))
    sd_ms = to_ms(entry.deviation, deviation_unit)
    if sd_ms < 0 or sd_ms > MAX_TIME:
        raise source.error(entry.where, entry.deviation, "is not a standard deviation")
    return Value(key=entry.key, ms=ms, sd_ms=sd_ms, origin=entry.origin, source=entry.source or entry.name)


def _distinct(source: Source, format_name: str, entries: Sequence[Entry]) -> list[Entry]:
    """Rows that would have one key keep their own names as keys, all of them: none is lost and none prices for another.

    Raises:
        ImportFileError: If two rows have the same name.
    """
    counts = Counter(entry.key for entry in entries)
    found: dict[str, Entry] = {}
    for entry in entries:
        own = replace(entry, key=named(format_name, entry.name)) if counts[entry.key] > 1 else entry
        if own.key in found:
            raise source.error(entry.where, entry.name, f"is there already, in {found[own.key].where}")
        found[own.key] = own
    return list(found.values())


def named(kind: str, name: str) -> str:
    """The key of a row of which only the name is known."""
    return OpSpec(kind, {"row": quote(name, safe=" -_.:/+()")}, (1,)).key


def read_source(path: Path, columns: Mapping[str, str], unit: str | None) -> tuple[Source, bytes]:
    """The file's text, and its bytes.

    Raises:
        FileError: If it cannot be read.
        ImportFileError: If it is too large, or not text.
    """
    with explained(path), path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ImportFileError(
            f"{path} has more than {MAX_BYTES:,} bytes: no published latency table is that large",
            mend=f"split it: head -n 10000 {path} > part",
        )
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _not_text(path, f"byte {error.start} is {content[error.start]:#04x}") from error
    if not text.strip():
        raise ImportFileError(f"{path} is empty", mend="check the path")
    if "\0" in text:
        raise _not_text(path, "it has a zero byte")
    return Source(path=path, text=text, columns=columns, unit=unit), content


def _not_text(path: Path, why: str) -> ImportFileError:
    return ImportFileError(
        f"{path} is not text: {why}",
        mend="save it as UTF-8, with the columns key and ms as CSV; pickles and archives are never opened",
    )
