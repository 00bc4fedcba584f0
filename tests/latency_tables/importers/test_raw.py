"""The published files themselves, where they are at hand: ``UNAS_HW_DATA`` names the folder that holds ``lut/raw``."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from latency_tables.importers.convert import import_table
from latency_tables.published import FOLDER
from latency_tables.table import LatencyTable

FILES = [
    ("proxylessnas_pixel_trim.yaml", None, 72, "pixel1"),
    ("ofa_note10/160_lookup_table.yaml", None, 96, "note10-160"),
    ("ofa_note10/192_lookup_table.yaml", None, 96, "note10-192"),
    ("ofa_note10/224_lookup_table.yaml", None, 96, "note10-224"),
    ("fbnet_jh88_raspi4_us.json", "us", 192, None),
    ("fbnet_araslanova_lookup_table_us.txt", "us", 198, None),
    ("single_path_nas_pixel1_runtime_model.json", "ms", 88, None),
]


@pytest.mark.parametrize(("name", "unit", "rows", "shipped"), FILES)
def test_every_row_of_the_published_file_is_kept(
    name: str, unit: str | None, rows: int, shipped: str | None, tmp_path: Path
) -> None:
    folder = os.environ.get("UNAS_HW_DATA")
    path = Path(folder or ".") / "lut" / "raw" / name
    if folder is None or not path.is_file():
        pytest.skip(f"UNAS_HW_DATA names no folder with lut/raw/{name}")
    table = import_table(path, tmp_path / "out.jsonl", unit=unit)
    assert len(table.values) == rows
    assert table.header["licence"] in ("MIT", "Apache-2.0")
    numbers = {f"{float(number):.9g}" for number in re.findall(r"\d+\.\d+(?:e-?\d+)?", path.read_text())}
    scale = 1000 if unit == "us" else 1
    assert {f"{value.ms * scale:.9g}" for value in table.values.values()} <= numbers
    if shipped is not None:
        ours = LatencyTable.load(FOLDER / f"{shipped}.jsonl")
        assert [value.to_record() for value in ours.values.values()] == [v.to_record() for v in table.values.values()]
        differing = {name for name in ours.header if ours.header[name] != table.header[name]}
        assert differing <= {"created"}
