"""An imported table says where it comes from, serves its rows like any other, and comes back from CSV as it was."""

from __future__ import annotations

import csv
import importlib.metadata
import math
from pathlib import Path

import pytest

from latency_tables import importers
from latency_tables.errors import TableError
from latency_tables.importers import find_importer, importer_names
from latency_tables.importers.convert import import_table
from latency_tables.importers.fbnet import FBNet
from latency_tables.rows import OP
from latency_tables.table import LatencyTable
from tests.latency_tables.importers.examples import CSV, EXAMPLES, FBNET_JSON, PROXYLESSNAS


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "pixel 9.yaml"
    path.write_text(PROXYLESSNAS.text)
    return path


def test_the_header_says_what_the_file_or_the_user_says_and_nothing_else(published: Path, tmp_path: Path) -> None:
    header = import_table(published, tmp_path / "out.jsonl").header
    assert header["device"] == "pixel-9"
    assert header["fingerprint"] == {"kind": "published", "name": "pixel-9"}
    assert (header["origin"], header["licence"]) == ("not stated", "not stated")
    assert (header["runtime"], header["threads"]) == ("published", 0)
    assert header["not_priced"] == ["pool"]
    assert header["units"] == {"time": "ms"}
    told = import_table(
        published, tmp_path / "out.jsonl", device="pixel9", origin="a paper", licence="MIT", not_priced=("add",)
    ).header
    assert (told["device"], told["origin"], told["licence"]) == ("pixel9", "a paper", "MIT")
    assert told["not_priced"] == ["pool", "add"]


def test_a_kind_that_has_a_row_is_priced(tmp_path: Path) -> None:
    path = tmp_path / "note.yaml"
    path.write_text(EXAMPLES["onceforall"].text)
    assert import_table(path, tmp_path / "out.jsonl").header["not_priced"] == []


def test_rows_are_served_from_the_file_that_was_written(published: Path, tmp_path: Path) -> None:
    made = import_table(published, tmp_path / "out.jsonl")
    table = LatencyTable.load(tmp_path / "out.jsonl")
    assert table.is_published
    assert table.hash == made.hash
    assert len(table.keys(OP)) == PROXYLESSNAS.rows
    key = "linear[classes=1000]@1x1280x1x1:float32"
    assert table.latency_ms(key) == 0.75
    assert table.origin(key) == "published"
    assert table.values[key].source == "Logits-input:7x7x1280-output:1000"
    assert math.isnan(table.noise_floor)
    table.refuse_noise()  # nothing is known of it


@pytest.mark.parametrize("name", EXAMPLES)
def test_import_export_import_changes_no_number(name: str, tmp_path: Path) -> None:
    path = tmp_path / "published"
    path.write_text(EXAMPLES[name].text)
    first = import_table(path, tmp_path / "first.jsonl", unit=EXAMPLES[name].unit)
    with (tmp_path / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "ms", "sd_ms", "origin", "source"])
        writer.writerows([v.key, v.ms, v.sd_ms, v.origin, v.source] for v in first.values.values())
    again = import_table(tmp_path / "table.csv", tmp_path / "again.jsonl")
    assert [value.to_record() for value in again.values.values()] == [v.to_record() for v in first.values.values()]


def test_what_was_measured_is_never_replaced_by_what_was_published(published: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    import_table(published, output)
    import_table(published, output)  # an imported one is
    text = output.read_text().replace('"kind":"published"', '"kind":"cpu"')
    output.write_text(text)
    with pytest.raises(TableError, match="was measured"):
        import_table(published, output)
    assert output.read_text() == text


def test_a_table_of_ours_is_not_imported(published: Path, tmp_path: Path) -> None:
    import_table(published, tmp_path / "out.jsonl")
    with pytest.raises(TableError, match="already") as caught:
        import_table(tmp_path / "out.jsonl", tmp_path / "other.jsonl")
    assert "--table" in caught.value.mend


def test_columns_of_ones_own_are_mapped(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("op;x,latency_us,note\nfirst,1500,a\n")
    columns = {"key": "op;x", "ms": "latency_us", "source": "note"}
    (value,) = import_table(path, tmp_path / "out.jsonl", columns=columns).values.values()
    assert (value.ms, value.source) == (1.5, "a")


def test_others_importers_are_found_by_their_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "theirs"

        def load(self) -> type[FBNet]:
            return FBNet

    def entry_points(*, group: str) -> list[Point]:
        return [Point()] if group == importers.ENTRY_POINTS else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert importer_names()[-1] == "theirs"
    assert isinstance(find_importer("theirs"), FBNet)
    assert importers.recognise(FBNET_JSON.source()).name == "fbnet"


def test_the_order_of_columns_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    lines = list(csv.reader(CSV.text.splitlines()))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(line[::-1] for line in lines)
    (first, *_) = import_table(path, tmp_path / "out.jsonl").values.values()
    assert (first.ms, first.source) == (4.5, "Conv, first")
