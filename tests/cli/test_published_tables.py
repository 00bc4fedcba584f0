"""Published tables by the commands: imported, listed, predicted with, searched with; never profiled."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path

import pytest

from tests.cli.conftest import QUICK, Run, read
from tests.cli.test_bad_input import refused
from tests.latency_tables.importers.examples import FBNET_JSON, PROXYLESSNAS
from unas_hw.spaces import find_space

SHIPPED = ["note10", "note10", "note10", "pixel1"]


@pytest.fixture
def small(unas_hw: Run, folder: Path) -> str:
    """A published table of ``mbconv-small`` for 8 pixels and ten classes, in the folder of tables."""
    workloads = find_space("mbconv-small").workloads()
    with (folder / "small.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["operation", "time_us"])
        writer.writerows([work.key, 20 + 10 * index] for index, work in enumerate(workloads))
    words = ("--column", "key=operation", "--column", "ms=time_us", "--device", "phone9", "--licence", "MIT")
    result = unas_hw("tables", "import", "small.csv", "--output", "small", *words)
    assert result.exit_code == 0, result.output
    assert f"{len(workloads)} rows, published" in result.stdout
    return "small"


def test_what_ships_is_listed_after_ones_own_tables(unas_hw: Run, small: str) -> None:
    tables = read(unas_hw("tables", "list", "--json"))
    assert [table["device"] for table in tables] == ["phone9", *SHIPPED]
    assert tables[0]["licence"] == "MIT"
    assert "published, 72 rows, MIT" in unas_hw("tables", "list").stdout
    shown = read(unas_hw("tables", "show", "pixel1", "--json"))
    assert len(shown["rows"]) == 72
    assert {"key", "role", "latency_ms", "sd_ms", "origin", "source"} <= shown["rows"][0].keys()
    assert "Logits" in {row["source"].partition("-")[0] for row in shown["rows"]}
    assert "0.9348 ms" in unas_hw("tables", "show", "pixel1").stdout


def test_published_devices_are_listed_as_such_and_cannot_be_profiled_or_validated(unas_hw: Run, small: str) -> None:
    devices = {device["device"]: device for device in read(unas_hw("devices", "--json"))}
    assert "published" in devices["pixel1"]["missing"]
    assert "published" in unas_hw("devices").stdout
    refused(unas_hw("profile", "--device", "pixel1"), 1, "published table", "unas-hw tables show pixel1")
    refused(unas_hw("tables", "validate", "pixel1"), 1, "published table", "--device cpu")
    refused(unas_hw("profile", "--table", "home/tables/small.jsonl", "--device", "sim:phone"), 1, "another device")


def test_prediction_names_what_no_row_covers(unas_hw: Run) -> None:
    choices = "k5e3,k3e3,id,id,k7e3,k3e3,k5e3,k5e3,k7e6,k5e3,k5e3,k5e3,k5e6,k5e3,k5e3,k5e3,k7e6,k7e6,k7e3,k7e3,k7e6"
    words = ("predict", "--space", "mbconv-mobile", "--device", "pixel1", "--architecture", choices)
    told = unas_hw(*words).stdout
    assert "no interval: no whole networks were measured" in told
    assert "not covered   pool[]@1x1280x7x7:float32" in told
    found = read(unas_hw(*words, "--json"))
    assert found["not_covered"] == ["pool[]@1x1280x7x7:float32"]
    assert (found["low_ms"], found["high_ms"]) == (0, None)
    assert found["predicted_ms"] == pytest.approx(86.43, abs=0.1)


@pytest.mark.slow
def test_a_search_with_a_published_table_measures_nothing_and_says_so(unas_hw: Run, small: str, images: str) -> None:
    words = ("search", "--table", small, "--dataset", images, "--latency-budget", "50%", *QUICK)
    searched = unas_hw(*words, "--json")
    assert searched.exit_code == 0, searched.stderr
    assert "networks are not measured" in searched.stderr
    assert "1x1x8x8 with 3 classes" in searched.stderr
    found = read(searched)
    assert (found["measured_ms"], found["latency_from"]) == (None, "table")
    assert found["feasible"] is True
    assert 0.95 * found["budget_ms"] <= found["predicted_ms"] <= found["budget_ms"]
    assert (found["classes"], found["priced_classes"]) == (3, 10)
    assert "not measured (published table of phone9)" in unas_hw(*words).stdout

    exported = unas_hw("export", "--json")
    report = read(exported)
    assert exported.exit_code == 0, report
    assert "not measured" in exported.stderr
    assert (report["passed"], report["measured_ms"], report["latency_from"]) == (True, None, "table")
    assert report["max_abs_error"] <= 1e-4
    assert any("nothing was measured" in check["name"] for check in report["checks"])
    assert "not measured (published table of phone9)" in unas_hw("verify").stdout

    predicted = read(
        unas_hw("predict", "--table", small, "--architecture", f"{found['run']}/architecture.json", "--json")
    )
    assert predicted["predicted_ms"] == pytest.approx(found["predicted_ms"])


def test_a_budget_that_nothing_meets_and_a_percentile_are_answered_before_training(unas_hw: Run, folder: Path) -> None:
    words = ("search", "--space", "mbconv-mobile", "--device", "pixel1", "--json")
    result = unas_hw(*words, "--latency-budget", "30ms")
    assert result.exit_code == 3
    assert 32 < read(result)["space_min_ms"] < 33
    result = unas_hw(*words, "--latency-budget", "80ms@p90")
    refused(result, 2, "90th percentile", "80ms")
    assert not (folder / "runs").exists()


def test_a_published_device_without_its_space_is_told_the_space(unas_hw: Run) -> None:
    refused(unas_hw("search", "--device", "pixel1", "--latency-budget", "80ms"), 1, "--space mbconv-mobile")
    words = ("search", "--device", "pixel1", "--space", "mbconv", "--latency-budget", "80ms")
    refused(unas_hw(*words), 1, "mbconv", "--space mbconv-mobile")


def test_files_that_cannot_be_imported_are_refused_with_the_mend(unas_hw: Run, folder: Path) -> None:
    (folder / "table.pkl").write_bytes(pickle.dumps({"a": 1.5}))
    (folder / "fbnet.json").write_text(FBNET_JSON.text)
    (folder / "notes.md").write_text("# notes\n")
    (folder / "pixel.yaml").write_text(PROXYLESSNAS.text.replace("mean: 5.6", "mean: -5.6"))
    out = ("--output", "out")
    refused(unas_hw("tables", "import", "fbnet.json", *out), 2, "which unit", "--unit us")
    refused(unas_hw("tables", "import", "table.pkl", *out), 1, "not text", "CSV")
    refused(unas_hw("tables", "import", "notes.md", *out), 1, "no format that is known", "--format")
    refused(unas_hw("tables", "import", ".", *out), 1, "is a directory")
    refused(unas_hw("tables", "import", "none.csv", *out), 1, "no such file")
    refused(unas_hw("tables", "import", "notes.md", "--format", "pikle", *out), 2, "'pikle'", "csv")
    refused(unas_hw("tables", "import", "pixel.yaml", *out), 1, "pixel.yaml, line 13", "-5.6", "idskip:0")
    assert unas_hw("tables", "import", "notes.md", "--column", "name=x", *out).exit_code == 2
    assert not (folder / "home").exists()
    done = unas_hw("tables", "import", "fbnet.json", "--unit", "us", *out, "--json")
    assert read(done)["rows_not_measured"] == FBNET_JSON.rows
    assert (folder / "home" / "tables" / "out.jsonl").is_file()


def test_an_import_never_replaces_what_was_measured(unas_hw: Run, folder: Path) -> None:
    unas_hw("profile", "--device", "sim:phone", "--table", "mine.jsonl", "--rounds", "8", "--networks", "0")
    before = (folder / "mine.jsonl").read_bytes()
    (folder / "pixel.yaml").write_text(PROXYLESSNAS.text)
    refused(unas_hw("tables", "import", "pixel.yaml", "--output", "mine.jsonl"), 1, "was measured", "--output")
    assert (folder / "mine.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("head", "words", "exit_code", "told"),
    [
        ("op,images/s", ("ms=images/s",), 2, "lut.csv: 'images/s' is no column of times"),
        (
            "op,latency_ms",
            ("ms=latency_ms", "--unit", "us"),
            2,
            "its latencies are in ms, as the csv file says, not in us",
        ),
        ("op,latency", ("ms=latency", "--unit", "parsec"), 2, "'parsec' is no unit of latencies"),
        ("op;latency_ms", ("ms=latency_ms",), 1, "has a comma"),
    ],
)
def test_columns_that_are_no_latencies_are_one_line_and_an_exit_code(
    unas_hw: Run, folder: Path, head: str, words: tuple[str, ...], exit_code: int, told: str
) -> None:
    (folder / "lut.csv").write_text(f"{head}\na{head[2]}{'1,5' if head[2] == ';' else '1500'}\n")
    columns = ("--column", "key=op", "--column", *words)
    refused(unas_hw("tables", "import", "lut.csv", "--output", "out", *columns), exit_code, told)


def test_microseconds_are_microseconds_and_a_spread_has_its_own_unit(unas_hw: Run, folder: Path) -> None:
    (folder / "lut.csv").write_text("op,latency (µs),sd_ms\na,1500,0.25\n", encoding="utf-8")
    columns = ("--column", "key=op", "--column", "ms=latency (µs)")
    read(unas_hw("tables", "import", "lut.csv", "--output", "out", *columns, "--json"))
    (row,) = read(unas_hw("tables", "show", "out", "--json"))["rows"]
    assert (row["latency_ms"], row["sd_ms"]) == (1.5, 0.25)
