"""What is exported is read back with every number equal, in any format."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest

from latency_tables.errors import UnknownFormatError
from latency_tables.export import COLUMNS, FORMATS, export, rows
from latency_tables.importers.convert import import_table
from latency_tables.rows import MEASURED, OP, PUBLISHED, Value
from latency_tables.table import LatencyTable
from tests.latency_tables.conftest import BLOCKS


@pytest.fixture
def mixed(table: LatencyTable) -> LatencyTable:
    """Measured rows, and two values: one with a deviation and odd letters, one without."""
    values = [
        Value(key="pool[]@1x8x4x4:float32", ms=0.1 + 0.2, sd_ms=1e-17, origin=PUBLISHED, source='a "b", ;c'),
        Value(key="pool[]@1x8x8x8:float32", ms=1 / 3, sd_ms=math.nan, origin=PUBLISHED),
    ]
    return LatencyTable(
        table.path, table.header, table.rows, table.samples, table.sessions, table.calibration, values=values
    )


def test_the_frame_has_what_was_measured_and_what_was_not(mixed: LatencyTable) -> None:
    assert set(mixed.frame.index) == {*mixed.measurements, *mixed.values}
    assert set(mixed.frame.loc[list(mixed.values), "origin"]) == {PUBLISHED}
    assert set(mixed.frame.loc[list(mixed.measurements), "origin"]) == {MEASURED}
    for key, found in mixed.measurements.items():
        assert mixed.frame.loc[key, "sd_ms"] == pytest.approx(found.half_width / 1.96 * found.median_ms)


def test_rows_have_every_column_and_no_nan(mixed: LatencyTable) -> None:
    for row in rows(mixed):
        assert list(row) == list(COLUMNS)
        assert row["ms"] == mixed.latency_ms(row["key"])
        assert all(value is None or type(value) is COLUMNS[name] for name, value in row.items())
        assert not any(isinstance(value, float) and math.isnan(value) for value in row.values())


def test_csv_is_read_back_equal(mixed: LatencyTable) -> None:
    lines = list(csv.DictReader(io.StringIO(export(mixed, "csv").decode(), newline="")))
    assert len(lines) == len(rows(mixed))
    for line, row in zip(lines, rows(mixed), strict=True):
        read = {name: COLUMNS[name](cell) if cell else None for name, cell in line.items()}
        assert read == {name: value if value != "" else None for name, value in row.items()}


def test_json_is_read_back_equal_with_header_and_calibration(mixed: LatencyTable) -> None:
    def none(text: str) -> None:
        pytest.fail(f"{text} is not JSON")

    content = json.loads(export(mixed, "json"), parse_constant=none)
    assert content["rows"] == rows(mixed)
    assert content["header"] == {name: value for name, value in mixed.header.items() if name != "record"}
    assert content["calibration"]["scale"] == mixed.calibration.scale


def test_parquet_is_read_back_equal_with_header_and_calibration(mixed: LatencyTable, tmp_path: Path) -> None:
    from pyarrow import parquet

    path = tmp_path / "t.parquet"
    path.write_bytes(export(mixed, "parquet"))
    read = parquet.read_table(path)
    assert read.to_pylist() == rows(mixed)
    header, calibration = (json.loads(read.schema.metadata[f"unas_hw.{n}".encode()]) for n in ("header", "calibration"))
    assert header["device"] == mixed.header["device"]
    assert calibration["scale"] == mixed.calibration.scale


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_table_without_rows_is_exported_too(table: LatencyTable, format_name: str) -> None:
    assert export(LatencyTable(table.path, table.header, {}, {}), format_name)


def test_another_format_is_refused(table: LatencyTable) -> None:
    with pytest.raises(UnknownFormatError, match="'xlsx'") as caught:
        export(table, "xlsx")
    assert "--format parquet" in caught.value.mend


def test_exported_imported_and_exported_again_every_number_is_equal(mixed: LatencyTable, tmp_path: Path) -> None:
    source = tmp_path / "exported.csv"
    source.write_bytes(export(mixed, "csv"))
    imported = import_table(source, tmp_path / "imported.jsonl", device="phone")
    again = LatencyTable.load(imported.path)
    for key in (*(block.key for block in BLOCKS), *mixed.values):
        assert again.latency_ms(key) == mixed.latency_ms(key)
    assert {row["key"]: (row["ms"], row["sd_ms"]) for row in rows(again)} == {
        row["key"]: (row["ms"], row["sd_ms"]) for row in rows(mixed) if row["role"] == OP
    }  # whole networks are no operations
    source.write_bytes(export(again, "csv"))
    third = import_table(source, tmp_path / "third.jsonl", device="phone")
    assert third.hash == again.hash
