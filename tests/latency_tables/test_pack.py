"""A packed table is the table; whatever else is in a file is one of our errors, and leaves nothing behind."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latency_tables import foreign, home, pack
from latency_tables.collect import describe
from latency_tables.errors import DamagedTableError
from latency_tables.export import FORMATS, export
from latency_tables.published import published_files
from latency_tables.table import LatencyTable
from profilers.errors import UnasError

Record = dict[str, Any]


def records(table: LatencyTable) -> list[Record]:
    return [json.loads(line) for line in table.path.read_text().splitlines()]


def plain(lines: list[Record]) -> bytes:
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()


def packed(lines: list[Record]) -> bytes:
    """As an attacker would: whatever the content, the hash is right."""
    header = {**lines[0], pack.FIELD: pack.sha256(plain(lines))}
    return gzip.compress(plain([header, *lines[1:]]))


def test_packed_and_read_it_is_the_same_table_byte_for_byte(table: LatencyTable, tmp_path: Path) -> None:
    path = foreign.admit(pack.pack(table), "shared", tmp_path / "cache")
    assert path.read_bytes() == table.path.read_bytes()
    assert path.stem == pack.sha256(table.path.read_bytes())
    read = LatencyTable.load(path)
    assert read.hash == table.hash
    assert pack.pack(read) == pack.pack(table)


def test_the_header_says_the_hash_of_everything_else(table: LatencyTable) -> None:
    header = json.loads(gzip.decompress(pack.pack(table)).partition(b"\n")[0])
    assert header.pop("content_sha256") == pack.sha256(table.path.read_bytes())
    assert header == table.header


def test_the_same_table_gives_the_same_bytes_without_time_or_name(table: LatencyTable, tmp_path: Path) -> None:
    copy = tmp_path / "copy.jsonl"
    shutil.copy(table.path, copy)
    data = pack.pack(LatencyTable.load(copy))
    assert data == pack.pack(table)
    assert data[3:8] == bytes(5)  # no flags, so no name, and no time


@pytest.mark.parametrize("path", published_files(), ids=lambda path: path.stem)
def test_tables_that_ship_can_be_shared(path: Path, tmp_path: Path) -> None:
    read = LatencyTable.load(foreign.admit(pack.pack(LatencyTable.load(path)), "shared", tmp_path))
    assert read.hash == LatencyTable.load(path).hash


def test_a_packed_table_is_opened_by_path_and_lies_in_the_cache(
    table: LatencyTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNAS_HW_HOME", str(tmp_path / "home"))
    shared = tmp_path / "phone.jsonl.gz"
    shared.write_bytes(pack.pack(table))
    opened = home.open_table(shared)
    assert opened.hash == table.hash
    assert opened.path.parent == tmp_path / "home" / "cache" / "tables"
    opened.path.write_bytes(b"damaged later")
    assert home.open_table(shared).hash == table.hash


Change = Callable[[list[Record]], object]
WRONG: dict[str, Change] = {
    "device": lambda t: t[0].update(device="cpu; reboot"),
    "device has": lambda t: t[0].update(device="cpu\x1b[2J"),
    "runtime": lambda t: t[0].update(runtime="$(reboot)"),
    "precision": lambda t: t[0].update(precision="float 32"),
    "subject": lambda t: t[0].update(subject="\x1b]0;gotcha\x07"),
    "subject has": lambda t: t[0].update(subject="x" * 3000),
    "threads": lambda t: t[0].update(threads=10**6),
    "units": lambda t: t[0].update(units={"time": "s"}),
    "fingerprint": lambda t: t[0].update(fingerprint={}),
    "Invalid isoformat": lambda t: t[0].update(created="yesterday"),
    "origin or licence": lambda t: t[0].update(licence=7),
    "not_priced": lambda t: t[0].update(not_priced="pool"),
    "nested": lambda t: t[0].update(environment={"a": [[[[[[[[[[]]]]]]]]]]}),
    "characters": lambda t: t[0].update(environment={"a\nb": 1}),
    "schema 2": lambda t: t[0].update(schema=2),
    "environment is": lambda t: t[0].update(environment={"a": 10**400}),
    "calls": lambda t: t[2].update(calls=0),
    "macs": lambda t: t[2].update(macs=-1),
    "params": lambda t: t[2].update(params=10**19),
    "role": lambda t: t[2].update(role="boss"),
    "not the key": lambda t: t[2].update(key="conv"),
    "elements": lambda t: t[2].update(key=f"conv[]@1x{10**16}:float32"),
    "a sample": lambda t: t[2]["samples"][0].__setitem__(2, 1e10),
    "a sample of": lambda t: t[2]["samples"][0].__setitem__(1, -5),
    "twice": lambda t: t.insert(3, t[2]),
    "scale": lambda t: t[-1].update(scale=-1.0),
    "errors are": lambda t: t[-1]["errors"].update(mape="small"),
    "factor": lambda t: t[-1].update(factors={"conv": -1}),
    "kind header": lambda t: t.append(t[0]),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_could_not_be_used_safely_is_refused_though_its_hash_is_right(
    table: LatencyTable, tmp_path: Path, what: str
) -> None:
    lines = records(table)
    WRONG[what](lines)
    for data in (packed(lines), plain(lines)):
        with pytest.raises(DamagedTableError, match=what) as caught:
            foreign.admit(data, "https://example.org/t", tmp_path / "cache")
        assert caught.value.what.startswith("https://example.org/t cannot be used: ")
        assert caught.value.what.isprintable()
        assert len(caught.value.what) < 500
    assert not (tmp_path / "cache").exists()


def test_a_gzip_file_cannot_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(b"{" + bytes(pack.MAX_PLAIN_BYTES), 6)
    assert len(bomb) < 2**20
    with pytest.raises(DamagedTableError, match="unpacks to more than"):
        foreign.admit(bomb, "bomb", tmp_path / "cache")
    monkeypatch.setattr(pack, "MAX_BYTES", 1000)
    with pytest.raises(DamagedTableError, match="more than 1,000"):
        foreign.admit(bomb, "bomb", tmp_path / "cache")


def test_too_much_of_anything_is_refused(table: LatencyTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack.pack(table)
    for name, limit, what in (
        ("MAX_PLAIN_BYTES", 100, "more than 100 bytes"),
        ("MAX_MARKS", 10, "more than 10 values"),
        ("MAX_LINE_BYTES", 50, "a line has more than 50"),
        ("MAX_RECORDS", {"row": 3}, "lines of kind row"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(foreign, name, limit)
            with pytest.raises(DamagedTableError, match=what):
                foreign.admit(data, "large", tmp_path / "cache")


def test_what_is_cut_off_followed_by_more_or_changed_is_refused(table: LatencyTable, tmp_path: Path) -> None:
    data, lines = pack.pack(table), records(table)
    forged = gzip.compress(gzip.decompress(data).replace(b"sim:phone", b"sim:other"))
    for wrong, what in (
        (data[:-30], "cut off"),
        (data + data, "follows its end"),
        (forged, "its header says"),
        (gzip.compress(plain(lines)), "content_sha256"),
        (gzip.compress(b""), "content_sha256"),
        (b"\x1f\x8bnothing", "not gzip"),
        (b"", "cut off"),
        (plain(lines)[:-5], "cut off"),
        (b"\xff\n", "not text"),
        (b"<html>404</html>\n", "not a record"),
    ):
        with pytest.raises(DamagedTableError, match=what):
            foreign.admit(wrong, "shared", tmp_path / "cache")
    with pytest.raises(DamagedTableError, match="was asked for"):
        foreign.admit(data, "shared", tmp_path / "cache", pin="0" * 64)
    assert not (tmp_path / "cache").exists()


def survives(data: bytes) -> None:
    """The outcome is a table that everything can be done with, or one of our errors and an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = foreign.admit(data, "shared", Path(folder) / "cache")
        except UnasError:  # any other error fails the test
            assert not any(Path(folder).iterdir())
            return
        read = LatencyTable.load(path)
        describe(read)
        for format_name in FORMATS:
            export(read, format_name)


FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@FUZZ
@given(data=st.binary(max_size=400))
def test_arbitrary_bytes(data: bytes) -> None:
    for content in (data, b"\x1f\x8b" + data, gzip.compress(data)):
        survives(content)


@FUZZ
@given(data=st.data())
def test_mutated_and_truncated_packs(table: LatencyTable, data: st.DataObject) -> None:
    content = bytearray(pack.pack(table))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    survives(bytes(content[: data.draw(st.integers(0, len(content)))]))


@FUZZ
@given(data=st.data())
def test_mutated_text_under_a_right_hash(table: LatencyTable, data: st.DataObject) -> None:
    content = bytearray(table.path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 9))] = data.draw(
            st.binary(max_size=9)
            | st.sampled_from([b"1e308", b"-1", b"NaN", b"null", b'"', b"9" * 400, b"\n", b"[[[["])
        )
    survives(bytes(content))


@FUZZ
@given(data=st.data())
def test_any_json_in_any_place_under_a_right_hash(table: LatencyTable, data: st.DataObject) -> None:
    lines = records(table)
    for _ in range(data.draw(st.integers(1, 3))):
        line = data.draw(st.sampled_from(lines))
        line[data.draw(st.sampled_from(sorted(line)) | st.sampled_from(["params", "key", "errors"]))] = data.draw(JSON)
    random.Random(data.draw(st.integers(0, 9))).shuffle(lines)
    survives(packed(sorted(lines, key=lambda line: line.get("record") != "header")))
