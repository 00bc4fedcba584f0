"""Tables are made with little time, brought to today's machine, calibrated further, and adapted from other devices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latency_tables.errors import TableError
from latency_tables.rows import ADAPTED, ANCHOR, MEASURED, OP
from latency_tables.table import LatencyTable
from profilers.devices.simulated import SimulatedProfiler, find_simulated
from profilers.profiler import Profiler
from profilers.registry import open_profiler
from profilers.timing import TimingRule
from tests.unas_hw.conftest import PHONE
from unas_hw.jobs.adapt import adapt_table, quick_profile
from unas_hw.jobs.predict import predict_network
from unas_hw.jobs.profile import calibrate, estimated, measured_where_possible, profile, refresh
from unas_hw.latency_model import predict
from unas_hw.meter import anchor_architectures
from unas_hw.progress import Job, Step, finish
from unas_hw.spaces import find_space

SMALL = find_space("mbconv-small")
SLOWER = PHONE.replace("2e5", "1e5").replace("1e6", "5e5").replace("0.001", "0.002")
"""The same phone at half the speed; its fingerprint is the same."""
OTHER = "sim:gpu?macs_per_ms=1e6&bytes_per_ms=4e6&overhead_ms=0.003"


def _copy(table: LatencyTable, path: Path) -> LatencyTable:
    path.write_bytes(table.path.read_bytes())
    return LatencyTable.load(path)


def _notes(job: Job[LatencyTable]) -> tuple[LatencyTable, list[Step]]:
    steps = []
    while True:
        try:
            steps.append(next(job))
        except StopIteration as end:
            return end.value, steps


def _profiler(device: str = PHONE) -> Profiler:
    return open_profiler(device)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> LatencyTable:
    """A whole table of the small space on the phone."""
    rule = TimingRule(min_rounds=8, max_rounds=8, min_time_s=0, warmup_s=0, warmup_calls=1)
    return finish(profile(SMALL, _profiler(), path=tmp_path_factory.mktemp("small") / "phone.jsonl", rule=rule))


def test_anchors_alone_bring_a_table_to_a_machine_of_half_the_speed(
    small: LatencyTable, rule: TimingRule, tmp_path: Path
) -> None:
    table = _copy(small, tmp_path / "t.jsonl")
    path = SMALL.architecture([1] * 9)
    before_ms = predict(SMALL, table, path).predicted_ms
    now = finish(refresh(table, _profiler(SLOWER), rule))
    assert predict(SMALL, now, path).predicted_ms == pytest.approx(2 * before_ms, rel=0.02)
    assert len(now.sessions) == len(table.sessions) + 1
    taken = {sample.key for sample in now.samples[now.sessions[-1]["session"]]}
    assert len(taken) == len(table.keys(ANCHOR)) + 1  # and the sentinel
    back = finish(refresh(now, _profiler(), rule))
    assert predict(SMALL, back, path).predicted_ms == pytest.approx(before_ms, rel=0.02)


def test_one_anchor_that_is_off_brings_a_table_nowhere(
    small: LatencyTable, rule: TimingRule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = _copy(small, tmp_path / "t.jsonl")
    table.calibration = replace(table.calibration, intercept_ms=1.0)
    table.save()
    first, time_s = SMALL.workload(anchor_architectures(SMALL)[0]).key, SimulatedProfiler._time_s

    def off(profiler: SimulatedProfiler, key: str, calls: int) -> float:
        return time_s(profiler, key, calls) * (1.6 if key == first else 1)

    monkeypatch.setattr(SimulatedProfiler, "_time_s", off)
    now = finish(refresh(LatencyTable.load(table.path), _profiler(), rule))
    assert now.calibration.intercept_ms == pytest.approx(1.0, rel=0.02)


def test_a_table_without_anchors_cannot_be_refreshed(small: LatencyTable, rule: TimingRule, tmp_path: Path) -> None:
    table = _copy(small, tmp_path / "t.jsonl")
    table.rows = {key: row for key, row in table.rows.items() if row.role == OP}
    table.samples = {n: [each for each in taken if each.key in table.rows] for n, taken in table.samples.items()}
    table.save()
    with pytest.raises(TableError, match="no anchor networks"):
        finish(refresh(LatencyTable.load(table.path), _profiler(), rule))


def test_with_little_time_a_table_has_what_cannot_be_guessed_and_predicts_the_rest(
    rule: TimingRule, tmp_path: Path
) -> None:
    path = tmp_path / "t.jsonl"
    whole = estimated(SMALL, _profiler(), path=path, rule=rule, networks=0)
    most_ms = 800 * whole.seconds
    job = profile(SMALL, _profiler(), path=path, rule=rule, networks=0, time_budget_ms=most_ms)
    table, steps = _notes(job)
    assert any(f"of {len(whole.rows)} rows in" in step.note for step in steps)
    known, everything = set(table.keys(OP)), {workload.key for workload in SMALL.workloads()}
    assert known < everything
    assert {key for key in everything if not key.startswith("mbconv")} <= known
    found = predict(SMALL, table, SMALL.architecture([1] * 9))
    true_ms = find_simulated(PHONE.partition(":")[2]).latency_ms(SMALL.workload(SMALL.architecture([1] * 9)))
    assert found.predicted_ms == pytest.approx(true_ms, rel=0.15)


def test_more_networks_calibrate_a_table_further(small: LatencyTable, rule: TimingRule, tmp_path: Path) -> None:
    table = _copy(small, tmp_path / "t.jsonl")
    more = finish(calibrate(table, _profiler(), networks=30, rule=rule))
    assert more.calibration.errors is not None and table.calibration.errors is not None
    assert more.calibration.errors.networks > table.calibration.errors.networks + 10
    assert more.keys(OP) == table.keys(OP)


def test_missing_rows_are_measured_where_the_device_is_at_hand(
    small: LatencyTable, rule: TimingRule, tmp_path: Path
) -> None:
    table = _copy(small, tmp_path / "t.jsonl")
    lost = SMALL.workloads()[5]
    del table.rows[lost.key]
    table.samples = {n: [each for each in taken if each.key != lost.key] for n, taken in table.samples.items()}
    table.save()
    table = LatencyTable.load(table.path)
    found, steps = _notes(measured_where_possible(table, SMALL.workloads(), rule))
    assert found.origin(lost.key) == MEASURED
    assert found.latency_ms(lost.key) == pytest.approx(small.latency_ms(lost.key), rel=0.03)
    assert "lacks 1 rows" in steps[0].note
    table.header["device"] = "no-such-phone"
    same, steps = _notes(measured_where_possible(table, SMALL.workloads(), rule))
    assert same is table
    assert "not measured: no device is called" in steps[0].note


@pytest.fixture(scope="module")
def sources(small: LatencyTable, tmp_path_factory: pytest.TempPathFactory) -> list[LatencyTable]:
    rule = TimingRule(min_rounds=8, max_rounds=8, min_time_s=0, warmup_s=0, warmup_calls=1)
    path = tmp_path_factory.mktemp("gpu") / "gpu.jsonl"
    return [small, finish(profile(SMALL, _profiler(OTHER), path=path, rule=rule))]


NEW = "sim:phone?macs_per_ms=4e5&bytes_per_ms=8e5&overhead_ms=0.004"


def test_thirty_networks_make_a_table_of_a_new_device(
    sources: list[LatencyTable], rule: TimingRule, tmp_path: Path
) -> None:
    table = finish(adapt_table(SMALL, sources, _profiler(NEW), path=tmp_path / "new.jsonl", rule=rule))
    assert {table.origin(key) for key in table.keys(OP)} == {ADAPTED}
    assert table.calibration.errors is not None and table.calibration.errors.networks == 30
    device, errors, covered = find_simulated(NEW.partition(":")[2]), [], []
    for indices in np.random.default_rng(0).integers(0, 6, (40, 9)):
        architecture = SMALL.architecture(indices.tolist())
        true_ms, found = device.latency_ms(SMALL.workload(architecture)), predict(SMALL, table, architecture)
        errors.append(abs(found.predicted_ms / true_ms - 1))
        covered.append(found.low_ms <= true_ms <= found.high_ms)
    assert np.mean(errors) < 0.03
    assert np.mean(covered) > 0.7
    assert LatencyTable.load(table.path).hash == table.hash


@pytest.mark.slow
def test_a_full_profile_replaces_adapted_rows(sources: list[LatencyTable], rule: TimingRule, tmp_path: Path) -> None:
    path = tmp_path / "new.jsonl"
    finish(adapt_table(SMALL, sources, _profiler(NEW), path=path, networks=12, rule=rule))
    table = finish(profile(SMALL, _profiler(NEW), path=path, rule=rule))
    assert {table.origin(key) for key in table.keys(OP)} == {MEASURED}
    assert not table.calibration.model.startswith("adapted")
    table = finish(adapt_table(SMALL, sources, _profiler(NEW), path=path, rule=rule))
    assert {table.origin(key) for key in table.keys(OP)} == {MEASURED}  # nothing measured is given up


def test_a_source_has_to_have_every_row(
    sources: list[LatencyTable], table: LatencyTable, rule: TimingRule, tmp_path: Path
) -> None:
    with pytest.raises(TableError, match=r"lacks \d+ operations of mbconv-small"):
        finish(adapt_table(SMALL, [sources[0], table], _profiler(NEW), path=tmp_path / "n.jsonl", rule=rule))
    with pytest.raises(TableError, match="nothing to adapt"):
        finish(quick_profile(SMALL, _profiler(NEW), path=tmp_path / "n.jsonl", rule=rule))


def test_a_quick_profile_finds_the_tables_that_there_are(
    sources: list[LatencyTable], rule: TimingRule, tmp_path: Path
) -> None:
    folder = tmp_path / "home" / "tables"
    folder.mkdir(parents=True)
    for source in sources:
        _copy(source, folder / source.path.name)
    (folder / "broken.jsonl").write_text("{}\n")
    table, steps = _notes(quick_profile(SMALL, _profiler(NEW), path=folder / "new.jsonl", rule=rule))
    assert table.calibration.model == "adapted from 2 tables"
    assert any("broken.jsonl" in step.note for step in steps)


def test_a_prediction_takes_a_table_that_was_begun_and_adds_what_it_lacks(small: LatencyTable, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "tables"
    folder.mkdir(parents=True)
    table, lost = _copy(small, folder / "begun.jsonl"), SMALL.workloads()[2]
    del table.rows[lost.key]
    table.samples = {n: [each for each in taken if each.key != lost.key] for n, taken in table.samples.items()}
    table.save()
    text = next(str(each) for each in map(SMALL.architecture, np.ndindex(*[2] * 9)) if lost in SMALL.parts(each))
    guessed = finish(predict_network(text, measure=False))
    assert (guessed["regressed"], guessed["coverage"] < 1) == ((lost.key,), True)
    measured = finish(predict_network(text))
    assert (measured["regressed"], measured["coverage"]) == ((), 1)
    assert measured["predicted_ms"] == pytest.approx(predict(SMALL, small, SMALL.parse(text)).predicted_ms, rel=0.05)
