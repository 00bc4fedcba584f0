"""Tables lie in one folder that a variable moves, and a name that fits several or none is not guessed at."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from latency_tables import home
from latency_tables.collect import Planned, fill
from latency_tables.errors import TableError
from latency_tables.rows import OP
from profilers.devices.simulated import SimulatedProfiler
from profilers.testing import convolution
from profilers.timing import TimingRule
from profilers.workload import Workload


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of tables, empty."""
    monkeypatch.setenv("UNAS_HW_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tables").mkdir()
    return tmp_path / "tables"


def _touch(path: Path, when: int) -> Path:
    path.touch()
    os.utime(path, (when, when))
    return path


def test_without_the_variable_tables_lie_where_the_system_keeps_data_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", None):
        monkeypatch.delenv("UNAS_HW_HOME", raising=False)
        if value is not None:
            monkeypatch.setenv("UNAS_HW_HOME", value)
        assert home.home().is_absolute()
        assert home.home().name == "unas-hw"
        assert home.tables_folder() == home.home() / "tables"


def test_a_default_path_names_what_where_and_how_and_is_one_file(folder: Path) -> None:
    path = home.default_path("mbconv w=1.0", "sim:phone?noise=0.1/../x", "simulated", 2)
    assert path.parent == folder
    for part in ("sim", "phone", "simulated", "2t", "mbconv"):
        assert part in path.name
    others = {
        home.default_path("mbconv", "cpu", "onnxruntime", 1),
        home.default_path("darts", "cpu", "onnxruntime", 1),
        home.default_path("mbconv", "sim:phone", "onnxruntime", 1),
        home.default_path("mbconv", "cpu", "torch", 1),
        home.default_path("mbconv", "cpu", "onnxruntime", 2),
    }
    assert len(others) == 5


def test_the_last_profiled_table_comes_first(folder: Path) -> None:
    old, new = _touch(folder / "b.jsonl", 100), _touch(folder / "a.jsonl", 200)
    _touch(folder / "notes.txt", 300)
    assert home.table_files() == [new, old]
    _touch(old, 300)
    assert home.table_files() == [old, new]


def test_a_beginning_that_fits_several_is_refused_with_their_number(folder: Path) -> None:
    _touch(folder / "cpu-one.jsonl", 1)
    second = _touch(folder / "cpu-two.jsonl", 2)
    with pytest.raises(TableError, match="2 tables match 'cpu'") as caught:
        home.find_table("cpu")
    assert "unas-hw tables list" in caught.value.mend
    assert home.find_table("cpu-t") == second


def test_a_whole_name_wins_over_the_beginning_of_another_and_over_a_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, _ = _touch(folder / "cpu.jsonl", 1), _touch(folder / "cpu-two.jsonl", 2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cpu").mkdir()
    assert home.find_table("cpu") == short


def test_where_there_is_no_table_the_mend_is_to_measure_one(folder: Path) -> None:
    with pytest.raises(TableError, match="no tables match 'cpu'") as caught:
        home.find_table("cpu")
    assert caught.value.mend == "measure one: unas-hw profile"
    with pytest.raises(TableError, match="there is no table") as caught:
        home.open_table()
    assert caught.value.mend == "unas-hw profile makes one"
    with pytest.raises(TableError, match="for --device sim:gpu --threads 2") as caught:
        home.open_table(None, home.Target(device="sim:gpu", threads=2))
    assert caught.value.mend == "unas-hw profile --device sim:gpu --threads 2 makes one"


def test_a_path_is_taken_as_it_is_and_a_file_name_is_looked_for_in_the_folder(folder: Path, tmp_path: Path) -> None:
    here, there = _touch(tmp_path / "here.jsonl", 1), _touch(folder / "there.jsonl", 1)
    assert home.find_table(str(here)) == here
    assert home.find_table("here.jsonl") == Path("here.jsonl")
    assert home.find_table("there.jsonl") == there
    assert home.find_table("nowhere.jsonl") == Path("nowhere.jsonl")


def test_tables_of_every_precision_are_meant_unless_one_is_named(folder: Path) -> None:
    op = Planned(convolution(8), OP)
    half = Planned(Workload(replace(op.workload.op, dtype="float16"), op.workload.build), OP)
    rule = TimingRule(min_rounds=4, max_rounds=4, min_time_s=0)
    for number, (subject, planned) in enumerate({"space@1": op, "space@1:float16": half}.items()):
        path = folder / f"{number}.jsonl"
        with SimulatedProfiler("phone", 1) as profiler:
            list(fill(path, subject, [planned], profiler, rule))
        _touch(path, number)
    for precision, stem in ((None, "1"), ("float16", "1"), ("float32", "0")):
        found = home.last_table(home.Target(precision=precision), [op.workload.key])
        assert found is not None and found.path.stem == stem
    assert home.last_table(home.Target(precision="int8"), [op.workload.key]) is None
    begun = home.last_table(home.ANY, ["other[]@1x1:float32"], "space@1")
    assert begun is not None and begun.path.stem == "1"
