"""What differs between two tables: the machine as a whole, single rows, or nothing but noise."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latency_tables.collect import Planned, fill
from latency_tables.diff import _rank, diff
from latency_tables.rows import ANCHOR, OP, PUBLISHED, Value
from latency_tables.table import LatencyTable
from profilers.devices.simulated import SimulatedProfiler
from profilers.opspec import OpSpec
from profilers.testing import convolution
from profilers.timing import Sample, TimingRule
from profilers.workload import Workload

BLOCKS = [convolution(channels) for channels in range(8, 56, 2)]
RULE = TimingRule(min_rounds=20, max_rounds=20, min_time_s=0)


def network(number: int) -> Workload:
    parts = tuple(random.Random(number).choices(BLOCKS, k=6))
    return Workload(OpSpec("network", {"number": number}, (1, 8, 32, 32)), lambda: pytest.fail("not built"), parts)


PLAN = [*(Planned(block, OP) for block in BLOCKS), *(Planned(network(number), ANCHOR) for number in range(4))]


def profiled(folder: Path, device: str) -> LatencyTable:
    path = folder / f"{abs(hash(device))}.jsonl"
    with SimulatedProfiler(device, 1) as profiler:
        for _ in fill(path, "many blocks", PLAN, profiler, RULE):
            pass
    return LatencyTable.load(path)


def times(table: LatencyTable, factors: dict[str, float], default: float = 1.0) -> LatencyTable:
    """The same table as if these rows had taken so many times as long."""
    samples: dict[int, list[Sample]] = {
        session: [replace(sample, ms=sample.ms * factors.get(sample.key, default)) for sample in taken]
        for session, taken in table.samples.items()
    }
    return LatencyTable(table.path, table.header, table.rows, samples, table.sessions, table.calibration)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def left(folder: Path) -> LatencyTable:
    return profiled(folder, "phone?seed=0")


@pytest.fixture(scope="module")
def right(folder: Path) -> LatencyTable:
    return profiled(folder, "phone?seed=1")


@pytest.mark.parametrize("trouble", ["", "&two_speed=1.8&period_s=0.05", "&noise=0.05&outliers=0.02"])
def test_one_machine_measured_twice_moves_no_more_rows_than_the_nominal_share(folder: Path, trouble: str) -> None:
    tables = [profiled(folder, f"phone?seed={seed}{trouble}") for seed in range(6)]
    found = [diff(*pair) for pair in itertools.combinations(tables, 2)]
    assert sum(each.count(True) > 0 for each in found) <= 0.05 * len(found)
    assert all(each.count(None) == 0 for each in found)
    single = [change.ratio for each in found for change in each.changes]
    if not trouble:  # the machine's common factor is 1 then, so single intervals have their level too
        assert np.mean([ratio.excludes_one for ratio in single]) <= 0.05


def test_a_device_1_3_times_as_slow_is_one_factor_and_no_row(left: LatencyTable, folder: Path) -> None:
    slow = profiled(
        folder, "phone?seed=5&macs_per_ms=6153846&bytes_per_ms=4615385&overhead_ms=0.013&isolation_ms=0.0065"
    )
    found = diff(left, slow)
    assert found.common is not None
    assert found.common.low <= 1.3 <= found.common.high
    assert found.common.high - found.common.low < 0.02
    assert found.count(True) == 0


@pytest.mark.parametrize("factor", [1.1, 0.9])
def test_one_operation_that_changed_by_a_tenth_is_found_and_no_other(
    left: LatencyTable, right: LatencyTable, factor: float
) -> None:
    changed = BLOCKS[7].key
    found = diff(left, times(right, {changed: 1.3 * factor}, default=1.3))
    assert found.common is not None
    assert found.common.value == pytest.approx(1.3, rel=0.01)
    (moved,) = [change for change in found.changes if change.moved]
    assert moved.key == changed
    assert moved.ratio.low <= 1.3 * factor <= moved.ratio.high
    assert moved.relative.low <= factor <= moved.relative.high


def test_the_other_way_round_ratios_are_their_inverses(left: LatencyTable, right: LatencyTable) -> None:
    there, back = diff(left, right), diff(right, left)
    for one, other in zip(there.changes, sorted(back.changes, key=lambda c: list(left.rows).index(c.key)), strict=True):
        assert one.key == other.key
        assert one.ratio.value == pytest.approx(1 / other.ratio.value)
        assert one.relative.low == pytest.approx(1 / other.relative.high)


def test_a_table_does_not_differ_from_itself(left: LatencyTable) -> None:
    found = diff(left, left)
    assert found.common is not None
    assert found.common.value == 1
    assert found.count(False) == len(found.changes) == len(left.measurements)


def test_two_campaigns_that_scatter_more_than_their_samples_tell_widen_the_intervals(
    left: LatencyTable, right: LatencyTable
) -> None:
    """As where each campaign places memory anew: every row 3% off, by chance, in all of its samples."""
    rng = random.Random(0)
    moody = times(right, {key: math.exp(rng.gauss(0, 0.03)) for key in right.rows})
    found = diff(left, moody)
    assert found.scatter == pytest.approx(0.03, rel=0.5)
    assert found.count(True) == 0
    other = LatencyTable(moody.path, {**moody.header, "threads": 2}, moody.rows, moody.samples)
    assert diff(left, other).scatter == 0  # two devices: operations differ, and that is no noise
    assert diff(left, other).count(True) > 5


def test_what_nothing_is_known_of_is_not_judged(left: LatencyTable) -> None:
    def published(sd_ms: float, factor: float) -> LatencyTable:
        values = [
            Value(key=block.key, ms=left.latency_ms(block.key) * factor, sd_ms=sd_ms, origin=PUBLISHED)
            for block in BLOCKS[:12]
        ]
        return LatencyTable(left.path, left.header, {}, {}, values=values)

    found = diff(left, published(math.nan, 1.0))
    assert found.count(None) == len(found.changes) == 12
    assert all(change.ratio.high == math.inf for change in found.changes)
    assert set(found.only_left) == set(left.measurements) - {block.key for block in BLOCKS[:12]}
    known = diff(left, published(1e-6, 1.2))
    assert known.count(None) == known.count(True) == 0
    assert known.common is not None
    assert known.common.value == pytest.approx(1.2)


def test_tables_without_a_common_row_have_no_factor(left: LatencyTable) -> None:
    nothing = LatencyTable(left.path, left.header, {}, {})
    found = diff(left, nothing)
    assert (found.common, found.changes) == (None, ())
    assert len(found.only_left) == len(left.measurements)


def test_ranks_are_those_of_the_binomial() -> None:
    # Conover 1999, "Practical nonparametric statistics", table A3: n = 20, p = 0.5, P(B <= 5) = 0.0207.
    assert _rank(20, 0.95) == 5
    assert _rank(5, 0.95) is None
    assert _rank(6, 0.95) == 0
    exact, approximate = _rank(1000, 0.95), _rank(1001, 0.95)
    assert exact is not None and approximate is not None
    assert abs(exact - approximate) <= 1
