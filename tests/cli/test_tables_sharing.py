"""``unas-hw tables`` show, export, merge, diff and pack, as at the terminal."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from tests.cli.conftest import Run, read
from tests.cli.test_bad_input import refused


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two campaigns on one simulated device."""
    folder = tmp_path_factory.mktemp("profiled")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("UNAS_HW_HOME", str(folder / "home"))
        for seed in (1, 2):
            words = ["profile", "--device", f"sim:phone?seed={seed}", "--rounds", "20", "--table", f"{seed}.jsonl"]
            assert CliRunner().invoke(main, words).exit_code == 0
    return folder


@pytest.fixture
def tables(profiled: Path, folder: Path) -> tuple[str, str]:
    """Copies of both."""
    for name in ("1.jsonl", "2.jsonl"):
        shutil.copy(profiled / name, folder)
    return "1.jsonl", "2.jsonl"


def test_show_is_a_sheet_with_spread_samples_origin_and_flags(unas_hw: Run, tables: tuple[str, str]) -> None:
    shown = unas_hw("tables", "show", tables[0]).stdout
    for word in (
        "device",
        "runtime",
        "measured",
        "noise floor",
        "held-out error",
        "+-95%",
        "IQR/med",
        "samples",
        "flags",
    ):
        assert word in shown
    rows = [line.split() for line in shown.splitlines() if line.startswith("mbconv[")]
    assert rows
    assert all(row[2] == "ms" and row[3].endswith("%") and row[4].endswith("%") for row in rows)
    assert {row[6] for row in rows} == {"measured"}
    json_rows = read(unas_hw("tables", "show", tables[0], "--json"))["rows"]
    assert {"latency_ms", "sd_ms", "origin", "source", "spread", "samples", "flags"} <= json_rows[0].keys()


def test_show_of_a_published_table_says_what_is_known_of_each_row(unas_hw: Run) -> None:
    shown = unas_hw("tables", "show", "pixel1").stdout
    assert "published" in shown
    assert all(line.rstrip().endswith("published") for line in shown.splitlines() if line.startswith("conv["))


def test_export_goes_to_standard_output_or_to_a_file_of_the_format_it_is_called_by(
    unas_hw: Run, tables: tuple[str, str]
) -> None:
    from pyarrow import parquet

    shown = {row["key"]: row["latency_ms"] for row in read(unas_hw("tables", "show", tables[0], "--json"))["rows"]}
    lines = csv.DictReader(io.StringIO(unas_hw("tables", "export", tables[0]).stdout))
    assert {line["key"]: float(line["ms"]) for line in lines} == shown
    content = read(unas_hw("tables", "export", tables[0], "--format", "json"))
    assert {row["key"]: row["ms"] for row in content["rows"]} == shown
    assert content["header"]["device"] == "sim:phone?seed=1"
    assert unas_hw("tables", "export", tables[0], "--output", "out.parquet").stdout == ""
    assert {row["key"]: row["ms"] for row in parquet.read_table("out.parquet").to_pylist()} == shown
    unas_hw("tables", "export", "--table", tables[0], "--format", "json", "--output", "out.txt")
    assert json.loads(Path("out.txt").read_text()) == content


def test_merge_makes_one_table_and_replaces_none_unasked(unas_hw: Run, tables: tuple[str, str]) -> None:
    merged = read(unas_hw("tables", "merge", *tables, "--output", "both.jsonl", "--json"))
    one = read(unas_hw("tables", "show", tables[0], "--json"))
    assert merged["sessions"] == 2
    assert merged["rows_measured"] == one["rows_measured"]
    before = Path("both.jsonl").read_bytes()
    refused(
        unas_hw("tables", "merge", tables[0], "--output", "both.jsonl"), 1, "both.jsonl is there already", "--force"
    )
    assert Path("both.jsonl").read_bytes() == before
    assert read(unas_hw("tables", "merge", tables[0], "--output", "both.jsonl", "--force", "--json"))["sessions"] == 1
    assert "held-out error" in unas_hw("tables", "merge", *tables, "--output", "named").stdout
    assert Path("home", "tables", "named.jsonl").exists()


def test_merge_refuses_another_device_and_writes_nothing(unas_hw: Run, tables: tuple[str, str]) -> None:
    unas_hw("profile", "--device", "sim:gpu", "--rounds", "20", "--table", "gpu.jsonl")
    result = unas_hw("tables", "merge", tables[0], "gpu.jsonl", "--output", "both.jsonl")
    refused(result, 1, "gpu.jsonl is a table of another device", "sim:gpu")
    assert not Path("both.jsonl").exists()


def test_diff_says_the_common_factor_then_what_moved_then_how_many(unas_hw: Run, tables: tuple[str, str]) -> None:
    left, right = tables
    first, *_, last = unas_hw("tables", "diff", left, right).stdout.splitlines()
    assert first.startswith("2.jsonl is 1.00") or first.startswith("2.jsonl is 0.99")
    assert "times as slow as 1.jsonl" in first
    assert last.startswith("0 of ")
    every = unas_hw("tables", "diff", left, right, "--all").stdout
    assert every.count("mbconv[") > 10
    found = read(unas_hw("tables", "diff", left, right, "--json"))
    assert found["moved"] == 0
    assert found["not_moved"] == len(found["changes"])
    assert found["correction"] == "bonferroni"
    assert found["common"]["low"] < found["common"]["value"] < found["common"]["high"]


def test_diff_names_the_row_that_changed_and_keys_of_one_side(unas_hw: Run, tables: tuple[str, str]) -> None:
    left, right = tables
    lines = [json.loads(line) for line in Path(right).read_text().splitlines()]
    changed, dropped = [line for line in lines if line.get("role") == "op"][:2]
    for sample in changed["samples"]:
        sample[2] *= 1.1
    lines.remove(dropped)
    Path(right).write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = unas_hw("tables", "diff", left, right).stdout
    assert f"{changed['key']} " in told
    assert "1 of " in told
    assert "1 rows only in 1.jsonl" in told
    assert dropped["key"] not in told
    assert dropped["key"] in unas_hw("tables", "diff", left, right, "--all").stdout


def test_diff_of_tables_that_share_nothing(unas_hw: Run, tables: tuple[str, str]) -> None:
    told = unas_hw("tables", "diff", tables[0], "pixel1")
    assert told.exit_code == 0
    assert "no row in common" in told.stdout
    found = read(unas_hw("tables", "diff", tables[0], "pixel1", "--json"))
    assert (found["common"], found["changes"]) == (None, [])


def test_a_packed_table_is_a_table_everywhere(unas_hw: Run, tables: tuple[str, str]) -> None:
    result = read(unas_hw("tables", "pack", tables[0], "--output", "phone.jsonl.gz", "--json"))
    assert result["bytes"] == Path("phone.jsonl.gz").stat().st_size
    shown = read(unas_hw("tables", "show", "--table", "phone.jsonl.gz", "--json"))
    assert shown["hash"] == read(unas_hw("tables", "show", tables[0], "--json"))["hash"]
    assert Path(shown["path"]).stem == result["content_sha256"]
    choices = ",".join(["k3e3"] * 9)
    words = ("predict", "--space", "mbconv-small", "--architecture", choices, "--json", "--table")
    assert (
        read(unas_hw(*words, "phone.jsonl.gz"))["predicted_ms"] == read(unas_hw(*words, tables[0]))["predicted_ms"] > 0
    )
    assert "0 of " in unas_hw("tables", "diff", "phone.jsonl.gz", tables[0]).stdout
    assert result["content_sha256"] in unas_hw("tables", "pack", tables[0], "--output", "again.gz").stdout
    assert Path("again.gz").read_bytes() == Path("phone.jsonl.gz").read_bytes()


def test_bad_input_is_one_message_with_the_mend(unas_hw: Run, tables: tuple[str, str]) -> None:
    Path("cut.jsonl.gz").write_bytes(b"\x1f\x8b\x08nothing")
    Path("folder").mkdir()
    show = ("tables", "show", "--table")
    refused(unas_hw(*show, "cut.jsonl.gz"), 1, "cut.jsonl.gz cannot be used", "unas-hw tables pack")
    refused(unas_hw(*show, "ftp://example.org/t"), 2, "ftp:// is not supported", "https://HOST/PATH")
    refused(unas_hw(*show, "http://example.org/t"), 2, "use https")
    refused(unas_hw(*show, "hf://me"), 2, "hf://[datasets/]OWNER/REPO/PATH")
    refused(unas_hw(*show, "http://127.0.0.1:9/t"), 1, "cannot be reached")
    refused(unas_hw("tables", "diff", tables[0], "nowhere"), 1, "no tables match 'nowhere'")
    refused(
        unas_hw("tables", "merge", "nowhere.jsonl", "--output", "m.jsonl"), 1, "nowhere.jsonl: there is no such file"
    )
    refused(unas_hw("tables", "export", tables[0], "--format", "xlsx"), 2, "'xlsx'", "--format csv")
    refused(unas_hw("tables", "export", tables[0], "--output", "t.xlsx"), 2, "'xlsx'")
    refused(unas_hw("tables", "export", tables[0], "--output", "folder/x/../../1.jsonl/t.csv"), 1, "1.jsonl")
    result = unas_hw("tables", "export", tables[0], "--format", "parquet")
    assert result.exit_code == 2
    assert "--output FILE.parquet" in result.stderr
    for words in (("merge", "--output", "m.jsonl"), ("diff", tables[0]), ("pack", tables[0]), ("merge", tables[0])):
        result = unas_hw("tables", *words)
        assert result.exit_code == 2
        assert result.stdout == ""
    assert not Path("home", "cache").exists()
