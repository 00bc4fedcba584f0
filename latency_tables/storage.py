"""The file of a table: JSON lines, appended as measured, so that it is its own journal.

Records, one a line:

* ``header``: schema, subject, device, runtime, threads, precision, units, environment, creation time
* ``session``: a stretch of measuring without a break, with the state of the machine
* ``row``: one operation or network (key, role, calls, arithmetic, parts); in a finished table with its samples
* ``sample``: one timed block of a row, while measuring
* ``energy``: one window of an energy meter over a row
* ``value``: the latency of an operation that was not measured here: published, or adapted from other devices
* ``calibration``: whole networks against sums
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency_tables.calibration import Calibration
from latency_tables.errors import BusyTableError, DamagedTableError
from profilers.files import explained, read_text, write_atomic

SCHEMA = 1
Record = dict[str, Any]
FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "header": {"schema": int, "subject": str, "device": str, "fingerprint": dict, "runtime": str, "threads": int,
               "precision": str, "units": dict, "created": str, "environment": dict},
    "session": {"session": int, "label": str, "created": str, "environment": dict},
    "row": {"key": str, "role": str, "calls": int, "macs": int, "params": int, "parts": list},
    "sample": {"session": int, "key": str, "ms": (int, float), "tick": int, "drifted": bool},
    "energy": {"key": str, "energy_mj": (int, float), "calls": int, "window_s": (int, float), "idle_w": (int, float),
               "meter": str},
    "value": {"key": str, "ms": (int, float), "sd_ms": (int, float, type(None)), "origin": str, "source": str},
    "calibration": {"model": str, "scale": (int, float), "per_op_ms": (int, float), "intercept_ms": (int, float),
                    "residuals": list},
}  # fmt: skip
"""What a record of each kind has at least."""


@dataclass(frozen=True)
class Content:
    """A file as it was read: its header, and all other records in order.

    ``torn`` are the bytes of an unfinished last line, which a kill leaves; they are dropped when writing goes on.
    """

    header: Record
    records: tuple[Record, ...]
    torn: int


def read(path: Path) -> Content:
    """Reads a table; tolerates an unfinished last line and nothing else.

    Raises:
        FileError: If it cannot be read.
        DamagedTableError: If it is not a table.
    """
    text = read_text(path)
    whole, _, rest = text.rpartition("\n")
    records = [_record(path, number, line) for number, line in enumerate(whole.split("\n"), 1) if whole]
    if not records or records[0]["record"] != "header":
        raise DamagedTableError(
            f"{path} is not a latency table: it does not begin with a header",
            mend=f"measure a new one: unas-hw profile --table {path.with_name('new.jsonl')}",
        )
    if records[0]["schema"] != SCHEMA:
        raise DamagedTableError(
            f"{path} has schema {records[0]['schema']}, this version reads {SCHEMA}", mend="pip install -U unas-hw"
        )
    # In bytes of the file: decoding may have replaced some.
    return Content(records[0], tuple(records[1:]), len(path.read_bytes().rpartition(b"\n")[2]) if rest else 0)


def _record(path: Path, number: int, line: str) -> Record:
    try:
        record = json.loads(line)
        fields = FIELDS[record["record"]]
        wrong = [name for name, kind in fields.items() if not _is(record[name], kind)]
        if wrong:
            raise ValueError(f"{wrong[0]} is {record[wrong[0]]!r}")
        for sample in record.get("samples", ()):
            _check_sample(*sample)
        if record["record"] == "sample":
            _check_sample(record["session"], record["tick"], record["ms"], record["drifted"])
        if not all(isinstance(part, str) for part in record.get("parts", ())):
            raise ValueError(f"parts are {record['parts']!r}")
        if not isinstance(record.get("details", {}), dict):
            raise ValueError(f"details are {record['details']!r}")
        if record["record"] == "energy" and not all(_is_finite(record[n]) for n in ("energy_mj", "window_s", "idle_w")):
            raise ValueError(f"an energy is {record['energy_mj']!r} mJ")
        if record["record"] == "value":
            _check_value(record["ms"], record["sd_ms"])
        if record["record"] == "calibration":
            Calibration.from_record(record)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise DamagedTableError(
            f"{path}, line {number} is not a record of a latency table: {type(error).__name__} {error}",
            mend=f"keep what is before it: head -n {number - 1} {path} > rescued.jsonl"
            if number > 1
            else f"measure a new one: unas-hw profile --table {path.with_name('new.jsonl')}",
        ) from error
    checked: Record = record
    return checked


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))  # True is an int


def _check_sample(session: Any, tick: Any, ms: Any, drifted: Any) -> None:
    kinds = _is(session, int) and _is(tick, int) and _is(drifted, bool)
    if not (kinds and _is_finite(ms) and ms > 0):
        raise ValueError(f"a sample is {[session, tick, ms, drifted]!r}")


def _check_value(ms: Any, sd_ms: Any) -> None:
    if not (_is_finite(ms) and ms > 0) or not (sd_ms is None or (_is_finite(sd_ms) and sd_ms >= 0)):
        raise ValueError(f"a value is {ms!r}, give or take {sd_ms!r}")


def _is_finite(value: Any) -> bool:
    return _is(value, (int, float)) and math.isfinite(value)


def write(path: Path, header: Record, records: Iterable[Record]) -> None:
    """Writes a whole table at once."""
    write_atomic(path, text(header, records))


def text(header: Record, records: Iterable[Record]) -> str:
    """A whole table as it is in its file; equal tables give equal text."""
    return "".join(_line(record) for record in (header, *records))


def _line(record: Record) -> str:
    return json.dumps(record, separators=(",", ":")) + "\n"


class Journal:
    """A table that is open for appending."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._alone = threading.Lock()

    def append(self, record: Record) -> None:
        """One record, on disk when this returns as far as this process is concerned: a kill loses nothing."""
        data = _line(record).encode()
        with self._alone, explained(self._path):
            while data:
                data = data[os.write(self._descriptor, data) :]


@contextmanager
def journal(path: Path) -> Iterator[Journal]:
    """Opens a table for appending, alone; an unfinished last line is cut off first.

    Raises:
        FileError: If the folder or file cannot be written.
        BusyTableError: If another process has it open for appending.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyTableError(
                f"{path} is being written by another process", mend="wait for it, or give --table"
            ) from None
        with explained(path):
            size = os.fstat(descriptor).st_size
            if size and b"\n" not in path.read_bytes():  # killed within the header
                os.ftruncate(descriptor, 0)
                size = 0
            if size and (content := read(path)).torn:
                os.ftruncate(descriptor, size - content.torn)
        yield Journal(path, descriptor)
    finally:
        os.close(descriptor)
