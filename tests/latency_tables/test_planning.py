"""A plan says what is missing and how long it takes; with little time the most useful rows come first."""

from __future__ import annotations

from pathlib import Path

import pytest

from latency_tables.planning import Estimate, affordable, estimate
from latency_tables.rows import ANCHOR
from latency_tables.table import LatencyTable
from profilers.devices.simulated import SimulatedProfiler
from tests.latency_tables.conftest import BLOCKS, PLAN, RULE, measure

USEFUL = {block.key: float(place) for place, block in enumerate(BLOCKS, 1)}


def _estimate(path: Path) -> Estimate:
    with SimulatedProfiler("phone", 1) as profiler:
        return estimate(path, PLAN, profiler, RULE, USEFUL)


def test_nothing_is_written_by_asking(path: Path) -> None:
    found = _estimate(path)
    assert not path.exists()
    assert {row.key for row in found.due} == {planned.workload.key for planned in PLAN}
    assert found.rows[0].key == BLOCKS[-1].key


def test_the_time_is_that_of_the_measurement(path: Path) -> None:
    found = _estimate(path)
    with SimulatedProfiler("phone", 1) as profiler:
        from latency_tables.collect import fill

        for _ in fill(path, "small plan", PLAN, profiler, RULE):
            pass
        took_s = profiler.clock_s()
    assert 0.5 * took_s < found.seconds < 2 * took_s  # the clock began anew with the session
    assert found.seconds <= found.most_seconds


def test_what_is_there_takes_no_time(table: LatencyTable) -> None:
    found = _estimate(table.path)
    assert found.seconds == found.most_seconds == 0
    assert found.due == ()
    assert all(row.samples >= RULE.min_rounds for row in found.rows)


@pytest.mark.parametrize("share", [0.0, 0.4, 0.8, 1.0])
def test_with_little_time_anchors_come_first_then_the_most_useful(path: Path, share: float) -> None:
    found = _estimate(path)
    chosen = affordable(found, share * found.seconds * (1 + 1e-9))
    seconds = {row.key: row.seconds for row in found.rows}
    assert sum(seconds[key] for key in chosen) <= share * found.seconds * (1 + 1e-6)
    assert (len(chosen) == len(found.rows)) == (share == 1)
    anchors = {planned.workload.key for planned in PLAN if planned.role == ANCHOR}
    if chosen - anchors:
        assert anchors <= chosen
    worth = [USEFUL[key] for key in chosen if key in USEFUL]
    left = [USEFUL[key] for key in USEFUL.keys() - chosen]
    assert not worth or not left or min(worth) > max(left)


def test_the_table_is_not_changed_by_measuring_a_machine_that_stayed_as_it_was(table: LatencyTable) -> None:
    again = measure(table.path)
    assert again.hash == table.hash
