"""A table's rows for other programs: CSV, JSON and Parquet, every number as it is.

Numbers are written so that they are read back equal (CSV and JSON with ``repr``, the shortest text that is the same
float; Parquet in binary). What has no value is an empty cell, or null.
"""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd

from latency_tables.errors import UnknownFormatError
from latency_tables.table import LatencyTable
from profilers.files import as_plain

COLUMNS: dict[str, type] = {
    "key": str, "role": str, "ms": float, "sd_ms": float, "origin": str, "source": str, "raw_ms": float,
    "p10_ms": float, "p90_ms": float, "min_ms": float, "spread": float, "half_width": float, "samples": int,
    "calls": int, "flags": str, "macs": int, "params": int, "energy_mj": float, "peak_memory_bytes": int,
}  # fmt: skip
"""Of every format, in this order; ``ms`` is ``LatencyTable.latency_ms``, the others are as in its ``frame``."""
FORMATS = ("csv", "json", "parquet")


def rows(table: LatencyTable) -> list[dict[str, Any]]:
    """One mapping a row, by the names of ``COLUMNS``; None where there is no value."""
    lines = table.frame.reset_index().rename(columns={"latency_ms": "ms"}).to_dict("records")
    return [{name: _cell(line.get(name), kind) for name, kind in COLUMNS.items()} for line in lines]


def export(table: LatencyTable, format_name: str) -> bytes:
    """The table in one of ``FORMATS``; raises ``UnknownFormatError`` for any other."""
    writers = {"csv": _csv, "json": _json, "parquet": _parquet}
    if format_name not in writers:
        raise UnknownFormatError(
            f"tables are not exported as {format_name!r}", mend=f"add --format {', --format '.join(FORMATS)}"
        )
    return writers[format_name](table)


def _cell(value: Any, kind: type) -> Any:
    missing = value is None or (isinstance(value, float) and not math.isfinite(value))
    return None if missing else kind(value)


def _csv(table: LatencyTable) -> bytes:
    frame = pd.DataFrame(rows(table), columns=list(COLUMNS), dtype=object)  # else counts become floats beside None
    return frame.to_csv(index=False, lineterminator="\n").encode("utf-8", "backslashreplace")


def _json(table: LatencyTable) -> bytes:
    content = {**_about(table), "rows": rows(table)}
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def _parquet(table: LatencyTable) -> bytes:
    """Header and calibration are JSON in the schema's metadata, under ``unas_hw.header`` and ``.calibration``."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {str: pa.string(), float: pa.float64(), int: pa.int64()}
    metadata = {f"unas_hw.{name}": json.dumps(content, allow_nan=False) for name, content in _about(table).items()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()], metadata=metadata)
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(rows(table), schema), sink)
    return bytes(sink.getvalue())


def _about(table: LatencyTable) -> dict[str, Any]:
    about = {"header": table.header, "calibration": table.calibration.to_record()}
    return {
        name: {field: as_plain(value) for field, value in content.items() if field != "record"}
        for name, content in about.items()
    }
