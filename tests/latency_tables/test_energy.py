"""Energy is measured in whole windows above idle, journalled like samples, and lies beside the latency."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest

from latency_tables.energy import WINDOWS, fill_energy
from latency_tables.errors import DamagedTableError, ForeignTableError
from latency_tables.export import rows
from latency_tables.merge import merge
from latency_tables.table import LatencyTable
from profilers.devices.simulated import SimulatedProfiler
from profilers.errors import DeviceLostError, MissingDeviceError
from profilers.profiler import Profiler
from tests.latency_tables.conftest import PLAN, RULE

KEYS = {planned.workload.key for planned in PLAN}


def measure(path: Path, device: str = "phone", window_s: float = 0.05) -> LatencyTable:
    with SimulatedProfiler(device, 1) as profiler, profiler.meter() as meter:
        for _ in fill_energy(path, PLAN, profiler, meter, RULE, window_s=window_s):
            pass
    return LatencyTable.load(path)


def test_a_row_has_the_energy_of_one_call_without_what_idling_costs(table: LatencyTable, path: Path) -> None:
    assert not table.energy_mj and table.frame.energy_mj.isna().all()
    found = measure(path)
    model = SimulatedProfiler("phone", 1).model
    assert found.energy_mj.keys() == KEYS
    for planned in PLAN:
        assert found.energy_mj[planned.workload.key] == pytest.approx(model.energy_mj(planned.workload))
    assert all(energy.idle_w == pytest.approx(model.idle_w) for energy in found.energies)
    assert {energy.meter for energy in found.energies} == {"simulated"}
    assert all(energy.window_s >= 0.05 for energy in found.energies)


def test_latencies_stay_what_they_were_and_both_are_exported(table: LatencyTable, path: Path) -> None:
    found = measure(path)
    assert found.hash == table.hash
    for line in rows(found):
        assert line["energy_mj"] == (found.energy_mj[line["key"]] if line["key"] in KEYS else None)
        assert line["peak_memory_bytes"] is None


def test_a_lost_device_loses_no_window_and_none_is_measured_twice(table: LatencyTable, path: Path) -> None:
    with pytest.raises(DeviceLostError):
        measure(path, "phone?drop_after=300")
    kept = LatencyTable.load(path).energies
    assert 0 < len(kept) < WINDOWS * len(KEYS)
    found = measure(path)
    assert set(kept) <= set(found.energies)
    assert set(Counter(energy.key for energy in found.energies).values()) == {WINDOWS}
    assert measure(path).energies == found.energies


def test_a_table_of_another_device_is_refused(table: LatencyTable, path: Path) -> None:
    with pytest.raises(ForeignTableError):
        measure(path, "gpu")


def test_a_damaged_energy_is_found(table: LatencyTable, path: Path) -> None:
    found = measure(path)
    record = {**found.energies[0].to_record(), "energy_mj": math.nan}
    path.write_text(path.read_text() + json.dumps(record) + "\n")
    with pytest.raises(DamagedTableError, match="an energy is nan"):
        LatencyTable.load(path)


def test_energies_of_two_tables_come_together_once(table: LatencyTable, path: Path, tmp_path: Path) -> None:
    found = measure(path)
    merged = merge([found, table, found], tmp_path / "merged.jsonl")
    assert merged.energies == found.energies


def test_a_device_without_a_meter_says_what_to_give(tmp_path: Path) -> None:
    class Mute(SimulatedProfiler):  # type: ignore[misc]  # final for everybody else
        _meter = Profiler._meter

    with pytest.raises(MissingDeviceError, match=r"no energy meter of sim:phone.*\n.*--power-command"):
        Mute("phone", 1).meter()


def test_a_command_is_a_meter_of_any_device(tmp_path: Path) -> None:
    (tmp_path / "watts").write_text("2.5W")
    profiler = SimulatedProfiler("phone", 1)
    with profiler.meter(str(tmp_path / "watts")) as meter:
        assert meter.name == f"command:{tmp_path}/watts"
