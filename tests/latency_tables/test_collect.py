"""A table is filled once, goes on after any interruption, and loses nothing that was measured."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from latency_tables.collect import fill
from latency_tables.sessions import reference_of
from latency_tables.table import LatencyTable
from profilers.devices.simulated import SimulatedProfiler
from profilers.errors import ConversionError, DeviceLostError
from profilers.timing import Sample
from profilers.workload import Workload
from tests.latency_tables.conftest import BLOCKS, PLAN, RULE, measure

KEYS = {planned.workload.key for planned in PLAN}


def counts(table: LatencyTable) -> Counter[str]:
    return Counter(s.key for samples in table.samples.values() for s in samples if not s.drifted and s.key in KEYS)


def test_everything_that_was_planned_is_there_and_calibrated(table: LatencyTable) -> None:
    assert table.measurements.keys() >= KEYS
    assert set(counts(table).values()) == {RULE.max_rounds}
    assert table.calibration.errors is not None
    assert table.calibration.errors.mape < 2
    assert table.noise_floor < 2


def test_a_full_table_is_not_measured_again(table: LatencyTable, path: Path) -> None:
    again = measure(path)
    assert counts(again) == counts(table)
    assert len(again.sessions) == 1


def test_samples_that_were_taken_while_the_machine_drifted_do_not_count(table: LatencyTable, path: Path) -> None:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    of_block = next(record for record in records if record.get("key") == BLOCKS[0].key)
    of_block["samples"] = [[session, tick, ms, tick % 2 == 0] for session, tick, ms, _ in of_block["samples"]]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    kept = counts(LatencyTable.load(path))[BLOCKS[0].key]
    assert kept < RULE.max_rounds
    assert counts(measure(path))[BLOCKS[0].key] == RULE.max_rounds


def test_the_speed_is_that_of_the_last_session_that_refreshed_the_table_or_of_the_longest() -> None:
    samples = {number: [Sample("a", 1.0, 1, tick, False) for tick in range(9 - number)] for number in range(4)}
    sessions = [{"session": number, "refresh": number in (1, 2)} for number in samples]
    assert reference_of(samples, sessions) == 2
    assert reference_of(samples, [{"session": number} for number in samples]) == 0


def test_more_adds_a_session(table: LatencyTable, path: Path) -> None:
    again = measure(path, more=True)
    assert len(again.sessions) == 2
    assert set(counts(again).values()) == {2 * RULE.max_rounds}
    for block in BLOCKS:
        assert again.latency_ms(block.key) == pytest.approx(table.latency_ms(block.key), rel=0.02)


def test_a_lost_connection_loses_nothing_and_no_sample_comes_twice(path: Path) -> None:
    kept: Counter[str] = Counter()
    for timings in (120, 150, 180):
        with pytest.raises(DeviceLostError):
            measure(path, f"phone?drop_after={timings}")
        now = counts(LatencyTable.load(path))
        assert kept <= now
        kept = now
    assert kept
    whole = counts(measure(path))
    assert set(whole) == KEYS
    blocks = {block.key for block in BLOCKS}
    assert {count for key, count in whole.items() if key in blocks} == {RULE.max_rounds}


def test_sessions_are_brought_to_one_speed_by_the_anchors(table: LatencyTable, path: Path) -> None:
    """As if another day's machine were 1.5 times slower: the samples of a second session, all times 1.5."""
    measure(path, more=True)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        record["samples"] = [[s, t, ms * (1.5 if s == 1 else 1), d] for s, t, ms, d in record.get("samples", [])]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    slow = LatencyTable.load(path)
    for block in BLOCKS:
        assert slow.latency_ms(block.key) == pytest.approx(table.latency_ms(block.key), rel=0.02)
        assert slow.measurements[block.key].raw_ms > 1.1 * table.measurements[block.key].raw_ms


def test_what_cannot_be_converted_leaves_no_table_and_an_old_one_as_it_was(table: LatencyTable, path: Path) -> None:
    class Refusing(SimulatedProfiler):  # type: ignore[misc]  # final for everybody else
        def _load(self, workload: Workload) -> None:
            raise ConversionError("no such precision", mend="another")

    before, new = path.read_bytes(), path.with_name("new.jsonl")
    for each in (new, path):
        with Refusing("phone", 1) as profiler, pytest.raises(ConversionError):
            list(fill(each, "small plan", PLAN, profiler, RULE, more=True))
    assert not new.exists()
    assert path.read_bytes() == before
