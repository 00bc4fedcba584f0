"""One table of several that were measured on the same device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from latency_tables.calibration import Calibration
from latency_tables.collect import calibrate
from latency_tables.errors import ConflictError, ForeignTableError, TableError
from latency_tables.rows import ADAPTED, ANCHOR, NETWORK, Row, Value
from latency_tables.storage import Record
from latency_tables.table import LatencyTable
from profilers.timing import Sample


def merge(tables: Sequence[LatencyTable], path: Path) -> LatencyTable:
    """Joins sessions, rows and values, and fits the calibration again; nothing is written yet.

    Samples of one key come together: the anchors bring sessions to one speed (``LatencyTable.measurements``). A session
    that several tables hold, because one is a copy of another, counts once. Of the calls behind a sample the smallest
    number of all tables is kept, so that no sample claims to be a mean of more calls than it is. The header is that of
    the first table.

    Raises:
        ForeignTableError: If they differ in device, runtime, threads or precision.
        ConflictError: If one key has two meanings, or two published values.
    """
    if not tables:
        raise TableError("there is nothing to merge", mend="unas-hw tables merge TABLE TABLE --output FILE")
    first = tables[0]
    for table in tables[1:]:
        table.refuse_foreign(first.header["fingerprint"], first.header["runtime"], first.header["threads"])
        if table.header["precision"] != first.header["precision"]:
            raise ForeignTableError(
                f"{table.path.name} is a table of another precision: {table.header['precision']}, "
                f"not {first.header['precision']}",
                mend="merge tables of one precision; unas-hw tables list names the tables there are",
            )
    subjects = dict.fromkeys(table.header["subject"] for table in tables)
    header = {**first.header, "subject": " + ".join(subjects), "created": min(t.header["created"] for t in tables)}
    sessions, samples = _sessions(tables)
    before = _common_calibration(tables)
    energies = dict.fromkeys(energy for table in tables for energy in table.energies)
    merged = LatencyTable(path, header, _rows(tables), samples, sessions, before, _values(tables), energies)
    calibrate(merged)
    return merged


def _rows(tables: Sequence[LatencyTable]) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for table in tables:
        for key, row in table.rows.items():
            known = rows.get(key, row)
            # What is an anchor in one table is known to be comparable, so it is one in all.
            role = ANCHOR if {known.role, row.role} == {ANCHOR, NETWORK} else known.role
            for name, ours, theirs in (
                ("macs", known.macs, row.macs),
                ("params", known.params, row.params),
                ("parts", known.parts, row.parts),
                ("role", role, ANCHOR if role == ANCHOR and row.role == NETWORK else row.role),
            ):
                if ours != theirs:
                    raise ConflictError(
                        f"{table.path.name} has {name} {theirs} for {key}, a table before it has {ours}",
                        mend=f"leave {table.path.name} out: the tables were made for different operations",
                    )
            rows[key] = replace(known, role=role, calls=min(known.calls, row.calls))
    return rows


def _sessions(tables: Sequence[LatencyTable]) -> tuple[list[Record], dict[int, list[Sample]]]:
    """All sessions, numbered anew; of two of which one is the beginning of the other, only the longer."""
    found: list[tuple[Record, list[Sample], set[tuple[str, int, float]]]] = []
    for table in tables:
        records = {record["session"]: record for record in table.sessions}
        for number in sorted(records.keys() | table.samples.keys()):
            taken = table.samples.get(number, [])
            record = records.get(number) or _unnamed(table, number)
            content = {(sample.key, sample.tick, sample.ms) for sample in taken}
            if content and any(content <= known for _, _, known in found):
                continue
            found = [each for each in found if not each[2] or not each[2] <= content]
            found.append((record, taken, content))
    sessions = [{**record, "session": number} for number, (record, _, _) in enumerate(found)]
    return sessions, {number: taken for number, (_, taken, _) in enumerate(found) if taken}


def _unnamed(table: LatencyTable, number: int) -> Record:
    """For samples whose session has no line of its own."""
    header = table.header
    label = f"{header['subject']} session {number}"
    return {
        "record": "session",
        "session": number,
        "label": label,
        "created": header["created"],
        "environment": header["environment"],
    }


def _values(tables: Sequence[LatencyTable]) -> list[Value]:
    """Of an adapted value and another number the other one stays, of two adapted ones that of the newer table."""
    values: dict[str, tuple[Value, LatencyTable]] = {}
    for table in sorted(tables, key=lambda table: str(table.header["created"])):
        for key, value in table.values.items():
            known, of = values.get(key, (value, table))
            if known.ms == value.ms or value.origin == ADAPTED != known.origin:
                values.setdefault(key, (value, table))
            elif known.origin == ADAPTED:
                values[key] = value, table
            else:
                raise ConflictError(
                    f"{key} is {known.ms!r} ms in {of.path.name} ({known.origin}) "
                    f"and {value.ms!r} ms in {table.path.name} ({value.origin})",
                    mend=f"remove the value that is wrong from one of them, or leave {table.path.name} out",
                )
    return [value for value, _ in values.values()]


def _common_calibration(tables: Sequence[LatencyTable]) -> Calibration:
    """Where there is nothing to fit, the one that all tables share; identity where they have several."""
    found = [table.calibration for table in tables]
    return found[0] if all(each == found[0] for each in found) else Calibration()
