"""A network is measured once for each purpose, a kill included; a reading is judged at the speed the table was made at
only where the anchors show that the machine is not what it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest

from latency_tables.errors import ForeignTableError
from latency_tables.rows import ANCHOR
from latency_tables.table import LatencyTable
from profilers.profiler import Profiler
from profilers.registry import open_profiler
from profilers.timing import TimingRule
from unas_hw.meter import Meter, Reading, anchor_architectures
from unas_hw.runs import RUNS, Run
from unas_hw.space import Architecture
from unas_hw.spaces.chain import ChainSpace


@pytest.fixture
def profiler(table: LatencyTable) -> Iterator[Profiler]:
    with open_profiler(table.header["device"]) as opened:
        yield opened


@pytest.fixture
def run() -> Run:
    return Run.begin(RUNS / "one", {})


ONE, OTHER = Architecture("toy", ("k3e3", "id", "k5e3")), Architecture("toy", ("k7e6", "k7e6", "k7e6"))


class Counted:
    """How often a profiler was asked to time something."""

    def __init__(self, profiler: Profiler, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        time_s = profiler._time_s

        def counted(key: str, calls: int) -> float:
            self.calls += 1
            return time_s(key, calls)

        monkeypatch.setattr(profiler, "_time_s", counted)


def test_a_reading_on_the_tables_device_is_near_the_prediction(
    space: ChainSpace, table: LatencyTable, profiler: Profiler, rule: TimingRule
) -> None:
    (reading,) = Meter(space, table, profiler).measure([OTHER], label="final", rule=rule)
    expected = table.predict_ms(part.key for part in space.parts(OTHER))
    assert reading.raw_ms == pytest.approx(expected, rel=0.03)
    assert reading.anchor_scale == pytest.approx(1, abs=0.02)
    assert not reading.anchors_moved
    assert reading.judged_ms == reading.raw_ms


def test_a_network_is_measured_once_per_label(
    space: ChainSpace, table: LatencyTable, profiler: Profiler, rule: TimingRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter, counted = Meter(space, table, profiler), Counted(profiler, monkeypatch)
    first = meter.measure([ONE, OTHER, ONE], label="search", rule=rule)
    assert first[0] == first[2] != first[1]
    after_first = counted.calls
    assert meter.measure([OTHER, ONE], label="search", rule=rule) == [first[1], first[0]]
    assert counted.calls == after_first
    assert meter.measure([ONE], label="final", rule=rule) != [first[0]]
    assert counted.calls > after_first


def test_what_was_measured_before_a_restart_is_not_measured_again(
    space: ChainSpace,
    table: LatencyTable,
    profiler: Profiler,
    run: Run,
    rule: TimingRule,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = Meter(space, table, profiler, run=run).measure([ONE, OTHER], label="search", rule=rule)
    counted = Counted(profiler, monkeypatch)
    again = Meter(space, table, profiler, run=Run.open(run.path)).measure([OTHER, ONE], label="search", rule=rule)
    assert again == [first[1], first[0]]
    assert counted.calls == 0
    assert [line["architecture"] for line in run.lines(Meter.JOURNAL)] == [str(ONE), str(OTHER)]


def test_without_a_run_nothing_is_written(
    space: ChainSpace, table: LatencyTable, profiler: Profiler, rule: TimingRule, run: Run
) -> None:
    Meter(space, table, profiler).measure([ONE], label="search", rule=rule)
    assert run.lines(Meter.JOURNAL) == []


def _reading(**changes: Any) -> Reading:
    return Reading(**{"raw_ms": 10.0, "scaled_ms": 10.0, "margin": 0.01, "anchor_scale": 1.0, **changes})


@pytest.mark.parametrize("scale", [0.5, 0.94, 0.96, 1.0, 1.04, 1.06, 2.0])
def test_a_reading_is_judged_scaled_only_where_the_anchors_moved_by_more_than_a_twentieth(scale: float) -> None:
    reading = _reading(scaled_ms=10.0 * scale, anchor_scale=scale)
    moved = scale in (0.5, 0.94, 1.06, 2.0)
    assert reading.anchors_moved == moved
    assert reading.judged_ms == (10.0 * scale if moved else 10.0)
    assert reading.upper_ms == pytest.approx(1.01 * reading.judged_ms)


def test_without_an_interval_nothing_is_below_a_budget() -> None:
    assert _reading(margin=math.inf).upper_ms == math.inf


def test_a_machine_that_became_slower_is_seen_by_its_anchors(
    space: ChainSpace, table: LatencyTable, rule: TimingRule
) -> None:
    slower = str(table.header["device"]).replace("macs_per_ms=2e5", "macs_per_ms=1e5")
    slower = slower.replace("bytes_per_ms=1e6", "bytes_per_ms=5e5").replace("overhead_ms=0.001", "overhead_ms=0.002")
    with open_profiler(table.header["device"]) as same, open_profiler(slower) as half:
        (then,) = Meter(space, table, same).measure([ONE], label="final", rule=rule)
        (now,) = Meter(space, table, half).measure([ONE], label="final", rule=rule)
    assert now.raw_ms == pytest.approx(2 * then.raw_ms, rel=0.03)
    assert now.anchor_scale == pytest.approx(0.5, rel=0.03)
    assert now.judged_ms == now.scaled_ms == pytest.approx(then.judged_ms, rel=0.03)


def test_a_percentile_is_of_single_calls_as_the_clock_said(
    space: ChainSpace, table: LatencyTable, rule: TimingRule
) -> None:
    with open_profiler(f"{table.header['device']}&noise=0.2&seed=1") as noisy:
        tails = [Meter(space, table, noisy, percentile=p).measure([ONE], label="final", rule=rule)[0] for p in (50, 90)]
    assert tails[1].raw_ms > 1.1 * tails[0].raw_ms


def _seen(run: Run, drifts: list[float], label: str = "search") -> None:
    """Readings of a search so far, each at another moment."""
    for number, drift in enumerate(drifts):
        reading = _reading(anchor_scale=1 + drift * (-1) ** number)
        run.append(Meter.JOURNAL, {"label": label, "architecture": str(number), **asdict(reading)})


STEADY, DRIFTING = [1e-4 * number for number in range(19)], [0.03 * number / 18 for number in range(19)]


@pytest.mark.parametrize(
    ("drifts", "headroom"),
    [
        ([], 0.05),
        (STEADY[:7], 0.05),  # too few to tell
        (STEADY[:8], 0.01),
        ([0.0] * 8, 0.01),  # a device that repeats itself
        (STEADY, 0.01),
        ([*STEADY[:8], 0.02], 0.02),  # no less than what was seen
        ([0.01] * 10, 0.0223),  # Student's t: ten moments may have missed the worst
        (DRIFTING, 0.03),
        ([*(4 * STEADY)[:60], 0.04], 0.01),  # one moment in sixty is within the confidence
        ([0.2 + drift for drift in STEADY], 0.05),  # the scaled value is judged
    ],
)
def test_the_headroom_is_how_far_the_device_was_seen_to_drift(
    space: ChainSpace, table: LatencyTable, profiler: Profiler, run: Run, drifts: list[float], headroom: float
) -> None:
    _seen(run, drifts)
    assert Meter(space, table, profiler, run=run).headroom == pytest.approx(headroom, abs=1e-4)


def test_candidates_do_not_change_the_headroom_that_they_were_chosen_with(
    space: ChainSpace, table: LatencyTable, profiler: Profiler, run: Run
) -> None:
    _seen(run, STEADY)
    _seen(run, [0.04] * 19, label="final")  # of a search that was killed then
    assert Meter(space, table, profiler, run=run).headroom == pytest.approx(0.01)


def test_the_headroom_holds_with_the_confidence_that_was_asked_for(
    space: ChainSpace, table: LatencyTable, profiler: Profiler, run: Run
) -> None:
    _seen(run, DRIFTING)
    assert Meter(space, table, profiler, confidence=0.5, run=run).headroom == pytest.approx(0.015)
    assert Meter(space, table, profiler, confidence=0.99, run=run).headroom == 0.05


def test_sessions_of_the_table_tell_of_its_devices_drift_too(
    space: ChainSpace, table: LatencyTable, profiler: Profiler, run: Run
) -> None:
    (session, samples), *_ = table.samples.items()
    slower = [replace(sample, ms=1.04 * sample.ms) for sample in samples]
    drifted = LatencyTable(table.path, table.header, table.rows, {session: samples, 77: slower}, table.sessions)
    assert table.session_scales == ()
    assert drifted.session_scales == pytest.approx([1 / 1.04])
    _seen(run, STEADY[:-1])
    assert Meter(space, drifted, profiler, run=run).headroom == pytest.approx(0.04 / 1.04)  # the nineteenth moment


def test_another_device_than_the_tables_is_refused(space: ChainSpace, table: LatencyTable) -> None:
    with open_profiler("sim:gpu") as other, pytest.raises(ForeignTableError, match="another device"):
        Meter(space, table, other)
    with (
        open_profiler(table.header["device"], threads=2) as other,
        pytest.raises(ForeignTableError, match="another threads"),
    ):
        Meter(space, table, other)


def test_anchors_are_the_same_networks_in_every_table_of_a_space(space: ChainSpace, table: LatencyTable) -> None:
    anchors = anchor_architectures(space)
    assert len(set(anchors)) == len(anchors) == 5
    assert anchors == anchor_architectures(space)
    assert {space.workload(each).key for each in anchors} == set(table.keys(ANCHOR))
