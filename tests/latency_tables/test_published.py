"""Tables that ship: each says where it comes from, is found by name or device, and never goes before a user's own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from latency_tables import home
from latency_tables.coverage import not_covered, priced, profiler_of
from latency_tables.errors import MissingEntryError, PublishedTableError, TableError
from latency_tables.published import find_published, open_device, published_devices, published_files
from latency_tables.rows import OP
from latency_tables.table import LatencyTable
from profilers.errors import UnknownNameError

ROWS = {"note10-160": 96, "note10-192": 96, "note10-224": 96, "pixel1": 72}
LICENCES = {"note10": "Apache-2.0", "pixel1": "MIT"}
POOL, FIRST = "pool[]@1x1280x7x7:float32", "conv[kernel=3,out=32,stride=2]@1x3x224x224:float32"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's tables, empty."""
    monkeypatch.setenv("UNAS_HW_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tables").mkdir()
    return tmp_path / "tables"


def test_what_ships_is_whole_and_says_whose_it_is() -> None:
    tables = {path.stem: LatencyTable.load(path) for path in published_files()}
    assert {name: len(table.keys(OP)) for name, table in tables.items()} == ROWS
    for table in tables.values():
        assert table.is_published
        assert table.header["licence"] == LICENCES[table.header["device"]]
        assert "github.com/" in table.header["origin"]
        assert len({value.source for value in table.values.values()}) == len(table.values)
        assert all(value.sd_ms > 0 for value in table.values.values())
        assert not any("row=" in key or "idskip=" in key for key in table.values)  # all are operations as we have them
    assert published_devices() == {"note10": "Samsung Note 10", "pixel1": "Google Pixel 1"}


@pytest.mark.parametrize("name", ROWS)
def test_a_table_that_ships_is_found_by_its_name(name: str) -> None:
    assert home.open_table(name).path.stem == name


def test_a_device_with_one_table_is_enough_and_one_with_several_asks_which() -> None:
    assert home.open_table(None, home.Target(device="pixel1")).path.stem == "pixel1"
    assert home.find_table("pixel1").stem == "pixel1"
    with pytest.raises(TableError, match="3 published tables are of note10") as caught:
        home.open_table(None, home.Target(device="note10"))
    assert "--table note10-192" in caught.value.mend
    with pytest.raises(TableError, match="3 tables match 'note10'"):
        home.find_table("note10")


def test_a_users_own_table_of_that_name_or_device_comes_first(folder: Path) -> None:
    (shipped,) = find_published("pixel1")
    own = Path(shutil.copy(shipped, folder / "pixel1.jsonl"))
    assert home.find_table("pixel1") == own
    found = home.last_table(home.Target(device="pixel1"), [FIRST])
    assert found is not None
    assert found.path == own


def test_nobody_gets_a_published_table_without_asking_for_its_device() -> None:
    assert home.last_table(home.ANY, [FIRST]) is None
    assert home.last_table(home.Target(device="pixel1"), [FIRST, POOL]) is not None
    assert home.last_table(home.Target(device="pixel1"), ["conv[kernel=9]@1x3x8x8:float32"]) is None


def test_only_kinds_that_the_publisher_prices_nowhere_are_left_out() -> None:
    table = home.open_table("pixel1")
    other = "conv[kernel=9,out=32,stride=2]@1x3x224x224:float32"
    assert priced(table, [FIRST, POOL, other, FIRST]) == (FIRST, other, FIRST)
    assert not_covered(table, [FIRST, POOL, other, POOL]) == (POOL, POOL)
    with pytest.raises(MissingEntryError) as caught:
        table.latency_ms(other)
    assert "--device pixel1" not in caught.value.mend  # there is nothing to profile
    once_for_all = home.open_table("note10-224")
    pool = "pool[]@1x1152x7x7:float32"
    assert priced(once_for_all, [pool]) == (pool,)


def test_there_is_no_device_to_measure() -> None:
    with pytest.raises(PublishedTableError, match="pixel1 is a published table"):
        open_device("pixel1")
    with pytest.raises(PublishedTableError, match="Google Pixel 1"):
        profiler_of(home.open_table("pixel1"))
    with pytest.raises(UnknownNameError):
        open_device("pixel7")


def test_a_name_without_a_folder_is_a_table_of_the_user(folder: Path) -> None:
    assert home.imported_path("mine") == folder / "mine.jsonl"
    assert home.imported_path("mine.jsonl") == Path("mine.jsonl")
    assert home.imported_path(os.path.join("here", "mine")) == Path("here/mine")
