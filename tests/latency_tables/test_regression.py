"""Operations that a table lacks are predicted from its rows, or refused by name; never taken for zero."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from latency_tables.collect import Planned, fill
from latency_tables.errors import MissingEntryError
from latency_tables.regression import complete
from latency_tables.rows import OP, REGRESSED
from latency_tables.table import LatencyTable
from profilers.devices.simulated import SimulatedProfiler, find_simulated
from profilers.testing import convolution
from tests.latency_tables.conftest import RULE

KNOWN = [convolution(width) for width in range(8, 104, 6)]
UNKNOWN = [convolution(width) for width in (35, 59, 83)]


@pytest.fixture
def table(tmp_path: Path) -> LatencyTable:
    with SimulatedProfiler("phone?macs_per_ms=2e5", 1) as profiler:
        for _ in fill(tmp_path / "t.jsonl", "rows", [Planned(each, OP) for each in KNOWN], profiler, RULE):
            pass
    return LatencyTable.load(tmp_path / "t.jsonl")


def test_unknown_rows_are_near_the_truth_and_as_near_as_is_said(table: LatencyTable) -> None:
    found = complete(table, [*KNOWN, *UNKNOWN])
    phone = find_simulated("phone?macs_per_ms=2e5")
    for workload in UNKNOWN:
        assert found.origin(workload.key) == REGRESSED
        error = np.log(found.latency_ms(workload.key) / phone.latency_ms(workload))
        assert abs(error) < 4 * found.deviation(workload.key)
        assert 0.02 < found.deviation(workload.key) < 0.4  # kernels fit the device by factors of 0.75 to 1.25


def test_known_rows_stay_and_the_file_gets_no_guesses(table: LatencyTable) -> None:
    assert complete(table, KNOWN) is table
    found = complete(table, [*KNOWN, *UNKNOWN])
    assert all(found.latency_ms(each.key) == table.latency_ms(each.key) for each in KNOWN)
    found.save()
    assert set(LatencyTable.load(table.path).keys(OP)) == {each.key for each in KNOWN}


def test_too_few_rows_predict_nothing(table: LatencyTable) -> None:
    few = {key: row for key, row in table.rows.items() if key in {each.key for each in KNOWN[:5]}}
    poor = LatencyTable(table.path, table.header, few, table.samples)
    with pytest.raises(MissingEntryError, match="5 rows of kind 'conv' are too few") as caught:
        complete(poor, UNKNOWN)
    assert UNKNOWN[0].key in caught.value.what
    assert "the nearest is conv[" in caught.value.what
    assert "unas-hw profile --device 'sim:phone?macs_per_ms=2e5'" in caught.value.mend


def test_rows_that_do_not_predict_each_other_predict_nothing(table: LatencyTable) -> None:
    rng = np.random.default_rng(0)
    noise = dict(zip(table.rows, np.exp(rng.normal(0, 2, len(table.rows))), strict=True))
    samples = {
        session: [type(each)(each.key, each.ms * noise[each.key], each.calls, each.tick) for each in taken]
        for session, taken in table.samples.items()
    }
    with pytest.raises(MissingEntryError, match="predict each other with"):
        complete(LatencyTable(table.path, table.header, table.rows, samples), UNKNOWN)
