"""Reading a table: what the lines of its file say, put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latency_tables import storage
from latency_tables.calibration import Calibration
from latency_tables.errors import DamagedTableError
from latency_tables.rows import EnergyRow, Row, Value
from profilers.timing import Sample


def read(path: Path) -> dict[str, Any]:
    """The content of a file, by the names that ``LatencyTable`` takes it by.

    Raises:
        FileError: If it cannot be read.
        DamagedTableError: If it is not a table.
    """
    content = storage.read(path)
    rows: dict[str, Row] = {}
    samples: dict[int, list[Sample]] = {}
    sessions, values, energies, calibration = [], [], [], None
    for record in content.records:
        kind = record["record"]
        if kind == "row":
            names = ("key", "role", "calls", "macs", "params")
            row = Row(
                **{name: record[name] for name in names},
                parts=tuple(record["parts"]),
                details=record.get("details", {}),
            )
            rows[row.key] = row
            for session, tick, ms, drifted in record.get("samples", ()):
                samples.setdefault(session, []).append(Sample(row.key, ms, row.calls, tick, drifted))
        elif kind == "sample":
            if record["key"] not in rows:
                raise DamagedTableError(
                    f"{path} has a sample of {record['key']} but no row before it",
                    mend=f"measure a new one: unas-hw profile --table {path.with_name('new.jsonl')}",
                )
            calls = rows[record["key"]].calls
            sample = Sample(record["key"], record["ms"], calls, record["tick"], record["drifted"])
            samples.setdefault(record["session"], []).append(sample)
        elif kind == "session":
            sessions.append(record)
        elif kind == "energy":
            energies.append(EnergyRow.from_record(record))
        elif kind == "value":
            values.append(Value.from_record(record))
        elif kind == "calibration":
            calibration = Calibration.from_record(record)
    sessions.sort(key=lambda session: session["session"])  # several devices begin theirs in any order
    for taken in samples.values():
        taken.sort(key=lambda sample: sample.tick)
    # In the order of the sessions, not of the rows: values must not change when a table is saved.
    return {
        "header": content.header,
        "rows": rows,
        "samples": dict(sorted(samples.items())),
        "sessions": sessions,
        "calibration": calibration,
        "values": values,
        "energies": energies,
    }
