"""A table's file is its own journal: torn ends are mended, damage is named, nothing else ever comes of bad content."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latency_tables import storage
from latency_tables.errors import BusyTableError, DamagedTableError
from latency_tables.table import LatencyTable
from profilers.errors import FileError, UnasError


def test_a_table_read_and_written_is_the_same_table(table: LatencyTable, path: Path) -> None:
    before = path.read_text()
    LatencyTable.load(path).save()
    assert path.read_text() == before
    assert LatencyTable.load(path).hash == table.hash


def test_a_torn_last_line_is_dropped_when_writing_goes_on(table: LatencyTable, path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"record":"sam')
    assert storage.read(path).torn == 14
    assert LatencyTable.load(path).hash == table.hash
    with storage.journal(path) as journal:
        journal.append({"record": "session", "session": 9, "label": "", "created": "", "environment": {}})
    assert path.read_bytes().startswith(whole)
    assert json.loads(path.read_bytes()[len(whole) :])["session"] == 9


@pytest.mark.parametrize("line", ["{", "[]", '{"record": "row"}', '{"record": "sample", "session": "one"}', "null"])
def test_a_damaged_line_is_named_with_the_way_to_what_is_before_it(table: LatencyTable, path: Path, line: str) -> None:
    lines = path.read_text().split("\n")
    lines[2] = line
    path.write_text("\n".join(lines))
    with pytest.raises(DamagedTableError, match="line 3") as caught:
        LatencyTable.load(path)
    assert "head -n 2" in caught.value.mend


def test_another_schema_is_refused(table: LatencyTable, path: Path) -> None:
    header, _, rest = path.read_text().partition("\n")
    path.write_text(json.dumps({**json.loads(header), "schema": 99}) + "\n" + rest)
    with pytest.raises(DamagedTableError, match="schema 99"):
        LatencyTable.load(path)


def test_only_one_process_writes(table: LatencyTable, path: Path) -> None:
    with storage.journal(path), pytest.raises(BusyTableError), storage.journal(path):
        pytest.fail("two writers")


def test_a_disk_that_fills_up_keeps_what_was_written(
    table: LatencyTable, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, write = path.read_bytes(), os.write
    record = {"record": "session", "session": 9, "label": "x" * 50, "created": "", "environment": {}}
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:20]) if len(data) > 60 else full())

    def full() -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with storage.journal(path) as journal, pytest.raises(FileError, match="the disk is full"):
        journal.append(record)
    monkeypatch.undo()
    assert path.read_bytes().startswith(before)
    assert LatencyTable.load(path).hash == table.hash


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(data=st.data())
def test_whatever_is_in_a_file_it_is_a_table_or_one_of_our_errors(
    table: LatencyTable, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(table.path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    path = tmp_path / "mutated.jsonl"
    path.write_bytes(data.draw(st.one_of(st.just(bytes(content)), st.binary(max_size=300))))
    try:
        LatencyTable.load(path).measurements  # noqa: B018 - all that can go wrong on the way
    except UnasError:  # any other error fails the test
        return


def test_a_torn_end_of_odd_bytes_costs_no_record_before_it(table: LatencyTable, path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + b"\xff" * 5)
    with storage.journal(path):
        pass
    assert path.read_bytes() == whole


def test_a_file_killed_within_its_header_begins_anew(path: Path) -> None:
    path.write_bytes(b'{"record":"hea')
    with storage.journal(path):
        pass
    assert path.read_bytes() == b""


def test_a_sample_without_a_row_is_named(table: LatencyTable, path: Path) -> None:
    record = {"record": "sample", "session": 0, "key": "elsewhere", "ms": 1.0, "tick": 0, "drifted": False}
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")
    with pytest.raises(DamagedTableError, match="a sample of elsewhere"):
        LatencyTable.load(path)
