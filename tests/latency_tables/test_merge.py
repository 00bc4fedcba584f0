"""Several tables of one device become one, that says nothing which none of them said."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from latency_tables.errors import ConflictError, ForeignTableError, TableError
from latency_tables.merge import merge
from latency_tables.rows import ADAPTED, ANCHOR, PUBLISHED, Value
from latency_tables.table import LatencyTable
from tests.latency_tables.conftest import BLOCKS, measure


def changed(table: LatencyTable, path: Path, **fields: object) -> LatencyTable:
    path.write_text("".join(json.dumps(record) + "\n" for record in ({**table.header, **fields}, *table.records())))
    return LatencyTable.load(path)


def valued(table: LatencyTable, path: Path, value: Value, created: str = "2026-01-01T00:00:00+00:00") -> LatencyTable:
    return LatencyTable(path, {**table.header, "created": created}, {}, {}, values=[value])


def value(ms: float, origin: str = PUBLISHED) -> Value:
    return Value(key=BLOCKS[0].key, ms=ms, sd_ms=math.nan, origin=origin)


def test_all_samples_are_there_once_under_sessions_numbered_anew(table: LatencyTable, tmp_path: Path) -> None:
    other = measure(tmp_path / "other.jsonl", "phone?seed=1")
    merged = merge([table, other], tmp_path / "merged.jsonl")
    assert not merged.path.exists()
    merged.save()
    loaded = LatencyTable.load(merged.path)
    assert [record["session"] for record in loaded.sessions] == [0, 1]
    assert loaded.samples == {0: table.samples[0], 1: other.samples[0]}
    assert loaded.hash == merged.hash
    for block in BLOCKS:
        both = sorted((table.latency_ms(block.key), other.latency_ms(block.key)))
        assert 0.995 * both[0] <= loaded.latency_ms(block.key) <= 1.005 * both[1]
        assert loaded.measurements[block.key].half_width < 2 * table.measurements[block.key].half_width
    assert loaded.calibration.errors is not None
    assert loaded.calibration.errors.mape < 2
    assert loaded.keys(ANCHOR) == table.keys(ANCHOR)


def test_a_copy_counts_once_and_so_does_the_beginning_of_a_session(table: LatencyTable, tmp_path: Path) -> None:
    assert merge([table, table], tmp_path / "m.jsonl").samples == table.samples
    part = LatencyTable(table.path, table.header, table.rows, {4: table.samples[0][:30]}, table.sessions)
    for order in ([table, part], [part, table]):
        assert list(merge(order, tmp_path / "m.jsonl").samples.values()) == [table.samples[0]]


def test_samples_without_a_session_of_their_own_get_one(table: LatencyTable, tmp_path: Path) -> None:
    bare = LatencyTable(table.path, table.header, table.rows, table.samples)
    (session,) = merge([bare], tmp_path / "m.jsonl").sessions
    assert session["created"] == table.header["created"]


def test_of_the_calls_behind_a_sample_the_smallest_number_is_kept(table: LatencyTable, tmp_path: Path) -> None:
    slow = measure(tmp_path / "slow.jsonl", "phone?seed=1&macs_per_ms=8e5")
    calls = [each.rows[BLOCKS[2].key].calls for each in (table, slow)]
    assert calls[0] != calls[1]
    assert merge([table, slow], tmp_path / "m.jsonl").rows[BLOCKS[2].key].calls == min(calls)


def test_another_device_runtime_thread_count_or_precision_is_refused(table: LatencyTable, tmp_path: Path) -> None:
    for name, seen in (("runtime", "torch"), ("threads", 2), ("precision", "float16")):
        with pytest.raises(ForeignTableError, match=f"another {name}: {seen}"):
            merge([table, changed(table, tmp_path / "other.jsonl", **{name: seen})], tmp_path / "m.jsonl")
    with pytest.raises(ForeignTableError, match="another device"):
        merge([table, measure(tmp_path / "gpu.jsonl", "gpu")], tmp_path / "m.jsonl")
    with pytest.raises(TableError, match="nothing to merge"):
        merge([], tmp_path / "m.jsonl")


def test_subjects_are_joined_and_the_first_date_stays(table: LatencyTable, tmp_path: Path) -> None:
    other = changed(table, tmp_path / "other.jsonl", subject="other plan", created="2001-01-01T00:00:00+00:00")
    header = merge([table, other, table], tmp_path / "m.jsonl").header
    assert header["subject"] == "small plan + other plan"
    assert header["created"] == "2001-01-01T00:00:00+00:00"


def test_equal_values_are_one_and_published_ones_that_differ_are_named(table: LatencyTable, tmp_path: Path) -> None:
    one, same, other = (valued(table, tmp_path / f"{n}.jsonl", value(ms)) for n, ms in enumerate((1.5, 1.5, 1.25)))
    assert merge([one, same], tmp_path / "m.jsonl").values == one.values
    with pytest.raises(ConflictError) as caught:
        merge([one, other], tmp_path / "m.jsonl")
    for word in (BLOCKS[0].key, "1.5 ms", "1.25 ms", "0.jsonl", "2.jsonl"):
        assert word in caught.value.what


def test_an_adapted_value_gives_way_to_a_newer_one_and_to_a_published_one(table: LatencyTable, tmp_path: Path) -> None:
    old = valued(table, tmp_path / "old.jsonl", value(1.0, ADAPTED), "2026-01-01T00:00:00+00:00")
    new = valued(table, tmp_path / "new.jsonl", value(2.0, ADAPTED), "2026-02-01T00:00:00+00:00")
    published = valued(table, tmp_path / "published.jsonl", value(3.0), "2026-01-15T00:00:00+00:00")
    for tables, ms in (([new, old], 2.0), ([old, new], 2.0), ([new, published, old], 3.0), ([published, new], 3.0)):
        assert merge(tables, tmp_path / "m.jsonl").latency_ms(BLOCKS[0].key) == ms


def test_a_measurement_wins_over_any_value(table: LatencyTable, tmp_path: Path) -> None:
    merged = merge([valued(table, tmp_path / "v.jsonl", value(100.0)), table], tmp_path / "m.jsonl")
    assert merged.latency_ms(BLOCKS[0].key) == table.latency_ms(BLOCKS[0].key)
    assert merged.calibration.errors is not None


def test_one_key_with_two_meanings_is_refused(table: LatencyTable, tmp_path: Path) -> None:
    records = [{**record, "macs": 1} if record.get("role") == "op" else record for record in table.records()]
    path = tmp_path / "other.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in (table.header, *records)))
    with pytest.raises(ConflictError, match="has macs 1 for conv"):
        merge([table, LatencyTable.load(path)], tmp_path / "m.jsonl")
