"""A table keeps every number that it is given, and a file that is no table says so in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_tables import storage
from latency_tables.calibration import Calibration, Errors
from latency_tables.collect import describe, fill
from latency_tables.errors import BusyTableError, DamagedTableError, ForeignTableError
from latency_tables.rows import ANCHOR, Row
from latency_tables.table import LatencyTable
from profilers.devices.simulated import SimulatedProfiler
from profilers.errors import FileError
from profilers.timing import Sample
from tests.latency_tables.conftest import NETWORKS, PLAN, RULE, measure

HEADER: dict[str, Any] = {
    "record": "header",
    "schema": storage.SCHEMA,
    "subject": "µ-networks",
    "device": "sim:phone",
    "fingerprint": {"kind": "simulated", "name": "sim:phone"},
    "runtime": "simulated",
    "threads": 1,
    "precision": "float32",
    "units": {"time": "ms"},
    "created": "2026-01-01T00:00:00+00:00",
    "environment": {"load": [0.1]},
}
SESSION: dict[str, Any] = {"record": "session", "session": 0, "label": "first", "created": "", "environment": {}}

times = st.floats(1e-9, 1e9)
numbers = st.floats(allow_nan=False, allow_infinity=False)
errors = st.builds(
    Errors,
    networks=st.integers(1, 60),
    **dict.fromkeys(("mape", "max_error", "within_5", "within_10", "bias", "spearman", "noise_floor"), numbers),
)
calibrations = st.builds(
    Calibration,
    model=st.sampled_from(["scale", "scale+per_op"]),
    scale=numbers,
    per_op_ms=numbers,
    intercept_ms=numbers,
    errors=st.none() | errors,
    residuals=st.lists(numbers, max_size=5).map(tuple),
)


@st.composite
def tables(draw: st.DrawFn) -> LatencyTable:
    """Some rows and some sessions of samples of them."""
    names = draw(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4, unique=True))
    counts = st.integers(0, 2**60)
    rows = {
        key: Row(key, draw(st.sampled_from(["op", "anchor", "network"])), draw(counts), draw(counts), draw(counts), ())
        for key in names
    }
    samples: dict[int, list[Sample]] = {}
    for session in range(draw(st.integers(0, 3))):
        sample = st.tuples(st.sampled_from(names), times, st.booleans())
        order = draw(st.lists(sample, min_size=4 * session + 1, max_size=4 * session + 4))
        samples[session] = [
            Sample(key, ms, rows[key].calls, tick, drifted) for tick, (key, ms, drifted) in enumerate(order)
        ]
    sessions = [{**SESSION, "session": session} for session in samples]
    return LatencyTable(Path("unwritten"), HEADER, rows, samples, sessions, draw(calibrations))


@settings(deadline=None, max_examples=60)
@given(table=tables())
def test_a_table_written_and_read_is_the_same_table_to_the_last_digit(
    tmp_path_factory: pytest.TempPathFactory, table: LatencyTable
) -> None:
    table.path = tmp_path_factory.mktemp("table") / "table.jsonl"
    table.save()
    read = LatencyTable.load(table.path)
    assert (read.header, read.rows, read.samples) == (table.header, table.rows, table.samples)
    assert (read.sessions, read.calibration) == (table.sessions, table.calibration)
    assert read.hash == table.hash


def _write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("content", [b"", b"\n", b"no table\n", b"\x00\xff\xfe", b"[]\n", b'{"record":"weather"}\n'])
def test_a_file_of_something_else_is_no_table(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.jsonl"
    path.write_bytes(content)
    with pytest.raises(DamagedTableError) as caught:
        LatencyTable.load(path)
    assert str(path) in caught.value.what
    assert "unas-hw profile --table" in caught.value.mend


def test_a_table_begins_with_its_header(tmp_path: Path) -> None:
    with pytest.raises(DamagedTableError, match="does not begin with a header"):
        storage.read(_write(tmp_path / "headless.jsonl", SESSION, HEADER))


@pytest.mark.parametrize("field", [field for field in HEADER if field != "record"])
def test_a_header_lacks_no_field_and_has_each_of_its_type(tmp_path: Path, field: str) -> None:
    missing = {name: value for name, value in HEADER.items() if name != field}
    for header in (missing, {**HEADER, field: None}):
        with pytest.raises(DamagedTableError, match=f"line 1 .*{field}"):
            storage.read(_write(tmp_path / "table.jsonl", header))


def test_a_table_that_is_not_there_or_is_a_folder_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        LatencyTable.load(tmp_path / "missing.jsonl")
    with pytest.raises(FileError, match="directory"):
        LatencyTable.load(tmp_path)


def test_what_was_opened_by_one_process_can_be_written_by_the_next(tmp_path: Path) -> None:
    path = _write(tmp_path / "table.jsonl", HEADER)
    for _ in range(2):
        with storage.journal(path) as journal:
            journal.append(SESSION)
            with pytest.raises(BusyTableError) as caught, storage.journal(path):
                pytest.fail("two writers")
            assert str(path) in caught.value.what
    assert len(storage.read(path).records) == 2


def test_a_table_of_another_device_is_refused_before_anything_is_measured_or_changed(tmp_path: Path) -> None:
    path = tmp_path / "phone.jsonl"
    measure(path)
    before = path.read_bytes()
    with SimulatedProfiler("gpu", 1) as gpu, pytest.raises(ForeignTableError, match="not simulated, sim:gpu"):
        next(fill(path, "small plan", PLAN, gpu, RULE))
    assert path.read_bytes() == before


def test_progress_ends_with_everything_done(tmp_path: Path) -> None:
    with SimulatedProfiler("phone", 1) as profiler:
        steps = list(fill(tmp_path / "phone.jsonl", "small plan", PLAN, profiler, RULE))
    convert = [step for step in steps if step.stage == "convert"]
    timed = [step for step in steps if step.stage == "measure"]
    assert [step.key for step in convert] == [planned.workload.key for planned in PLAN]
    assert [step.done for step in convert] == list(range(1, len(PLAN) + 1))
    assert [step.done for step in timed] == list(range(1, len(PLAN) * RULE.max_rounds + 1))
    assert timed[-1].total == timed[-1].done


def test_measurements_of_another_session_are_scaled_by_the_anchors(tmp_path: Path) -> None:
    table = measure(tmp_path / "phone.jsonl")
    slow = SimulatedProfiler("phone?macs_per_ms=1e12&bytes_per_ms=1e12&overhead_ms=1&isolation_ms=0&fusion=0", 1)
    with slow:
        found = slow.measure_all(NETWORKS[:2], RULE)
    ratios = [table.latency_ms(network.key) / found[network.key].median_ms for network in NETWORKS[:2]]
    assert {network.key for network in NETWORKS[:2]} == set(table.keys(ANCHOR))
    assert table.anchor_scale(found) == pytest.approx(sum(ratios) / 2)
    assert table.anchor_scale({}) == 1.0


def test_a_description_can_be_written_as_json_and_says_what_the_table_is_worth(tmp_path: Path) -> None:
    table = measure(tmp_path / "phone.jsonl")
    found = json.loads(json.dumps(describe(table)))
    assert found["device"] == "sim:phone" and found["hash"] == table.hash
    assert found["noise_floor"] == table.noise_floor
    assert found["calibration"]["errors"]["networks"] == len(NETWORKS)
