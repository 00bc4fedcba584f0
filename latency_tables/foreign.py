"""Tables of somebody else: checked as a whole before anything of them is used, then kept by the hash of their content.

What is accepted can be read, priced and printed: sizes, ranges and names are limited, no text has control characters
(a terminal obeys them), and device and runtime are plain words, because messages put them into commands to paste.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from latency_tables import storage
from latency_tables.collect import describe
from latency_tables.errors import TableError
from latency_tables.pack import MAX_BYTES, MAX_PLAIN_BYTES, is_packed, refusal, sha256, unpack
from latency_tables.rows import ADAPTED, ANCHOR, NETWORK, OP, PUBLISHED
from latency_tables.storage import Record
from latency_tables.table import LatencyTable
from profilers.errors import UnasError
from profilers.files import explained, write_atomic
from profilers.opspec import OpSpec

MAX_LINE_BYTES = 16 * 2**20
MAX_MARKS = 10_000_000
"""Commas and brackets: every value that Python makes of JSON costs one. Two million samples."""
MAX_RECORDS = {
    "header": 1,
    "session": 10_000,
    "row": 10_000,
    "sample": 1_000_000,
    "value": 100_000,
    "energy": 1_000_000,
    "calibration": 1000,
}
MAX_TEXT, MAX_DEPTH = 2000, 8
MAX_NUMBER, MAX_MS, MIN_MS = 1e18, 1e9, 1e-9
MAX_ELEMENTS = 10**15
"""Of an operation's input."""
RANGES = {"threads": (0, 4096), "calls": (1, 10**9), "session": (0, 10**6), "tick": (0, 10**9), "ms": (MIN_MS, MAX_MS),
          "sd_ms": (0, MAX_MS), "macs": (0, 10**18), "params": (0, 10**18), "scale": (1e-9, 1e9)}  # fmt: skip
CHOICES = {"role": (OP, ANCHOR, NETWORK, "sentinel"), "origin": (PUBLISHED, ADAPTED)}
_WORD = r"[A-Za-z0-9_.:+][A-Za-z0-9_.:+-]*"
WORDS = {"device": re.compile(rf"{_WORD}( {_WORD})*(\?\w+=[\w.+-]+(&\w+=[\w.+-]+)*)?", re.ASCII),
         "runtime": re.compile(_WORD), "precision": re.compile(r"\w+", re.ASCII)}  # fmt: skip


def local(path: Path, folder: Path) -> Path:
    """A file as it is, or what was packed into it, from the cache in ``folder``.

    Raises:
        FileError: If it cannot be read.
        DamagedTableError: If it is packed and cannot be used.
    """
    with explained(path), path.open("rb") as file:
        if not is_packed(file.read(2)):
            return path
        file.seek(0)
        data = file.read(MAX_BYTES + 1)
    return admit(data, str(path), folder)


def admit(data: bytes, name: str, folder: Path, pin: str | None = None) -> Path:
    """Checks a table, packed or plain, and keeps it as ``folder/HASH.jsonl``; nothing is written where it is refused.

    ``name`` says in messages where it came from; ``pin`` is the hash that its content has to have.

    Raises:
        DamagedTableError: If it is not a table, was damaged, or goes beyond the limits of this module.
    """
    plain = unpack(data, name) if is_packed(data) else data
    digest = sha256(plain)
    if pin not in (None, digest):
        raise refusal(name, f"its content is {digest}, {pin} was asked for")
    if cached(digest, folder) is None:
        check(plain, name)
        write_atomic(folder / f"{digest}.jsonl", plain)
    return folder / f"{digest}.jsonl"


def cached(digest: str, folder: Path) -> Path | None:
    """What was admitted before, if it still is what it was."""
    path = folder / f"{digest}.jsonl"
    if not path.is_file():
        return None
    with explained(path):
        return path if sha256(path.read_bytes()) == digest else None


def check(plain: bytes, name: str) -> None:
    """Raises ``DamagedTableError`` unless this is the file of a table within all limits."""
    _check_size(plain, name)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "table.jsonl"
        path.write_bytes(plain)
        try:
            content = storage.read(path)
            _check_records([content.header, *content.records])
            describe(LatencyTable.load(path))
        except (ValueError, TableError) as error:
            what = error.what if isinstance(error, UnasError) else str(error)
            raise refusal(name, what.replace(str(path), "the table")[:300]) from error


def _check_size(plain: bytes, name: str) -> None:
    if len(plain) > MAX_PLAIN_BYTES:
        raise refusal(name, f"it has more than {MAX_PLAIN_BYTES:,} bytes")
    if not plain.endswith(b"\n"):
        raise refusal(name, "its last line is cut off")
    try:
        plain.decode()
    except UnicodeDecodeError as error:
        raise refusal(name, f"byte {error.start} is not text") from error
    if plain.count(b",") + plain.count(b"[") + plain.count(b"{") > MAX_MARKS:
        raise refusal(name, f"it has more than {MAX_MARKS:,} values")
    if max(map(len, plain.split(b"\n"))) > MAX_LINE_BYTES:
        raise refusal(name, f"a line has more than {MAX_LINE_BYTES:,} bytes")


def _check_records(records: list[Record]) -> None:
    kinds = Counter(record["record"] for record in records)
    for kind, most in MAX_RECORDS.items():
        if kinds[kind] > most:
            raise ValueError(f"it has {kinds[kind]:,} lines of kind {kind}, more than {most:,}")
    for record in records:
        kind = record["record"]
        # The errors of a calibration may be NaN (a rank correlation of two networks is none).
        inexact = record.get("errors") if kind == "calibration" else None
        for name, value in record.items():
            _check_json(value, name, 0, exact=value is not inexact)
        for name, (low, high) in RANGES.items():
            value = record.get(name)
            if value is not None and not (isinstance(value, int | float) and low <= value <= high):
                raise ValueError(f"{name} is {value!r}, not between {low:g} and {high:g}")
        if kind in ("row", "value"):
            _check_operation(record, kind)
    twice = Counter((record["record"], record["key"]) for record in records if record["record"] in ("row", "value"))
    if repeated := [key for (_, key), count in twice.items() if count > 1]:
        raise ValueError(f"{repeated[0]} is there twice")
    _check_header(records[0])
    for record in records:
        if record["record"] == "calibration":
            _check_calibration(record)


def _check_json(value: Any, name: str, depth: int, *, exact: bool) -> None:
    """Every text, number and level of nesting."""
    if depth > MAX_DEPTH:
        raise ValueError(f"{name} is nested more than {MAX_DEPTH} levels deep")
    for each in _inner(value):
        _check_json(each, name, depth + 1, exact=exact)
    if isinstance(value, str) and not (len(value) <= MAX_TEXT and value.isprintable()):
        raise ValueError(f"{name} has {len(value)} characters, or some that are none: {value[:40]!r}")
    if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER and (exact or value == value):  # NaN is not
        raise ValueError(f"{name} is {str(value)[:40]}")


def _inner(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _check_operation(record: Record, kind: str) -> None:
    for name in ("role",) if kind == "row" else ("origin",):
        if record[name] not in CHOICES[name]:
            raise ValueError(f"{name} is {record[name]!r}, none of {', '.join(CHOICES[name])}")
    for key in (record["key"], *record.get("parts", ())):
        if OpSpec.from_key(key).numel > MAX_ELEMENTS:
            raise ValueError(f"{key} has an input of more than {MAX_ELEMENTS:.0e} elements")
    if not isinstance(record.get("params", 0), int):
        raise ValueError(f"params are {record['params']!r}")
    for _, tick, ms, _ in record.get("samples", ()):
        if not (MIN_MS <= ms <= MAX_MS and 0 <= tick <= RANGES["tick"][1]):
            raise ValueError(f"a sample of {record['key']} took {ms!r} ms at {tick}")


def _check_header(header: Record) -> None:
    for name, words in WORDS.items():
        if not words.fullmatch(header[name]):
            raise ValueError(f"{name} is {header[name][:80]!r}")
    if header["units"] != {"time": "ms"}:
        raise ValueError(f"units are {str(header['units'])[:80]}, not milliseconds")
    if not all(isinstance(header["fingerprint"].get(name), str) for name in ("kind", "name")):
        raise ValueError(f"fingerprint is {str(header['fingerprint'])[:80]}")
    if not all(isinstance(header.get(name, ""), str) for name in ("origin", "licence")):
        raise ValueError("origin or licence is no text")
    unpriced = header.get("not_priced", [])
    if not (isinstance(unpriced, list) and all(isinstance(kind, str) for kind in unpriced)):
        raise ValueError(f"not_priced is {str(unpriced)[:80]}")
    datetime.fromisoformat(header["created"])


def _check_calibration(record: Record) -> None:
    numbers = (record.get("errors") or {}).values()
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise ValueError(f"errors are {str(record['errors'])[:80]}")
    if not all(MIN_MS <= factor <= 1e9 for factor in record.get("factors", {}).values()):
        raise ValueError("a factor is out of range")
