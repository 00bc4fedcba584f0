"""Several devices that are alike fill one table; one that is lost stops nobody."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_tables.collect import Progress, fill
from latency_tables.errors import ForeignTableError
from latency_tables.parallel import in_parallel
from latency_tables.rows import ANCHOR
from latency_tables.table import LatencyTable
from profilers.devices.simulated import SimulatedProfiler
from profilers.errors import DeviceLostError
from tests.latency_tables.conftest import PLAN, RULE

SHARED = {planned.workload.key for planned in PLAN if planned.role != ANCHOR}
ANCHORS = {planned.workload.key for planned in PLAN if planned.role == ANCHOR}


def share(path: Path, *devices: str) -> list[Progress]:
    team = [SimulatedProfiler(device, 1) for device in devices]
    for profiler in team:
        profiler.__enter__()
    return list(fill(path, "small plan", PLAN, team, RULE))


def sessions_of(table: LatencyTable) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for session, samples in table.samples.items():
        for sample in samples:
            found.setdefault(sample.key, set()).add(session)
    return found


def test_each_row_is_measured_by_one_device_and_the_anchors_by_all(path: Path) -> None:
    share(path, "phone?seed=1", "phone?seed=2", "phone?seed=3")
    share(path.with_name("one.jsonl"), "phone")
    table, one = LatencyTable.load(path), LatencyTable.load(path.with_name("one.jsonl"))
    assert [record["device"] for record in table.sessions[:3]] == [f"sim:phone?seed={n}" for n in (1, 2, 3)]
    where = sessions_of(table)
    assert {key: where[key] for key in ANCHORS} == {key: {0, 1, 2} for key in ANCHORS}
    assert all(len(where[key] & {0, 1, 2}) == 1 for key in SHARED)
    assert Counter(next(iter(where[key])) for key in SHARED).keys() == {0, 1, 2}
    for key in SHARED:
        assert table.latency_ms(key) == pytest.approx(one.latency_ms(key), rel=0.03)


def test_a_device_that_is_half_as_fast_today_is_brought_to_the_speed_of_the_other(path: Path, tmp_path: Path) -> None:
    share(path, "phone?noise=0.001")
    share(tmp_path / "two.jsonl", "phone?noise=0.001", "phone?noise=0.001&two_speed=2&period_s=0.000001")
    one, two = LatencyTable.load(path), LatencyTable.load(tmp_path / "two.jsonl")
    for key in SHARED:
        assert two.latency_ms(key) == pytest.approx(one.latency_ms(key), rel=0.1)


def test_what_a_lost_device_has_not_measured_the_others_do(path: Path) -> None:
    said = share(path, "phone?seed=1", "phone?seed=2&drop_after=130")
    (note,) = {progress.note for progress in said if progress.note}
    assert note.startswith("sim:phone?seed=2&drop_after=130 dropped the connection") and "the other devices" in note
    table = LatencyTable.load(path)
    counts = Counter(s.key for samples in table.samples.values() for s in samples if not s.drifted)
    assert all(counts[key] >= RULE.min_rounds for key in SHARED | ANCHORS)
    assert len(table.sessions) >= 3


def test_a_device_that_is_lost_while_it_is_made_ready_is_left_out(path: Path) -> None:
    said = share(path, "phone?seed=1&drop_after=1", "phone?seed=2")
    assert any(progress.note for progress in said)
    assert {record["device"] for record in LatencyTable.load(path).sessions} == {"sim:phone?seed=2"}


def test_the_last_device_s_loss_is_the_error_and_what_was_measured_is_kept(path: Path) -> None:
    with pytest.raises(DeviceLostError):
        share(path, "phone?seed=1&drop_after=150", "phone?seed=2&drop_after=150")
    assert LatencyTable.load(path).samples


def test_devices_that_differ_do_not_share_a_table(path: Path) -> None:
    with pytest.raises(ForeignTableError):
        share(path, "phone", "gpu")


def test_iterators_run_at_the_same_time_and_an_exception_ends_one_of_them() -> None:
    both = threading.Barrier(2)

    def numbers(fail: bool) -> Iterator[int]:
        both.wait(10)  # would break if one of them waited for the other to end
        yield 1
        if fail:
            raise ValueError("lost")
        yield 2

    found = list(in_parallel({"a": numbers(fail=False), "b": numbers(fail=True)}))
    assert [item for name, item in found if name == "a"] == [1, 2]
    first, error = (item for name, item in found if name == "b")
    assert first == 1 and isinstance(error, ValueError)


def test_closing_it_stops_all_of_them() -> None:
    made = 0

    def endless() -> Iterator[int]:
        nonlocal made
        while True:
            made += 1
            time.sleep(0.001)
            yield made

    running = in_parallel({"a": endless()})
    next(running)
    running.close()  # type: ignore[attr-defined]  # it is a generator
    before = made
    time.sleep(0.05)
    assert made == before
