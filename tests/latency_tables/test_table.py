"""A table gives what was measured, says what it lacks, and refuses to be used for what it is not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from latency_tables import home
from latency_tables.errors import ForeignTableError, MissingEntryError, NoisyTableError, TableError
from latency_tables.rows import OP
from latency_tables.table import LatencyTable
from profilers.devices.simulated import find_simulated
from profilers.testing import convolution
from tests.latency_tables.conftest import BLOCKS, measure


def test_rows_are_the_devices_latencies(table: LatencyTable) -> None:
    for block in BLOCKS:
        assert table.latency_ms(block.key) == pytest.approx(find_simulated("phone").latency_ms(block), rel=0.02)


def test_a_machine_of_two_speeds_gives_the_same_ratios(table: LatencyTable, tmp_path: Path) -> None:
    moody = measure(tmp_path / "moody.jsonl", "phone?two_speed=1.8&period_s=0.2")
    reference, *others = BLOCKS
    for block in others:
        ratio = table.latency_ms(block.key) / table.latency_ms(reference.key)
        assert moody.latency_ms(block.key) / moody.latency_ms(reference.key) == pytest.approx(ratio, rel=0.04)


def test_a_missing_row_names_the_nearest_and_the_command_that_adds_it(table: LatencyTable) -> None:
    with pytest.raises(MissingEntryError) as caught:
        table.latency_ms(convolution(64).key)
    assert "the nearest is conv[" in caught.value.what
    assert "unas-hw profile --device sim:phone" in caught.value.mend


def test_another_device_runtime_or_thread_count_is_refused(table: LatencyTable) -> None:
    ours = table.header["fingerprint"]
    table.refuse_foreign(ours, "simulated", 1)
    for device, runtime, threads, what in (
        ({**ours, "name": "sim:gpu"}, "simulated", 1, "device"),
        (ours, "torch", 1, "runtime"),
        (ours, "simulated", 2, "threads"),
    ):
        with pytest.raises(ForeignTableError, match=f"another {what}"):
            table.refuse_foreign(device, runtime, threads)


def test_a_table_too_noisy_to_keep_a_budget_is_refused(table: LatencyTable, tmp_path: Path) -> None:
    table.refuse_noise()
    noisy = measure(tmp_path / "noisy.jsonl", "phone?noise=0.5")
    with pytest.raises(NoisyTableError, match="differ by") as caught:
        noisy.refuse_noise()
    assert "--more" in caught.value.mend


def test_a_table_whose_noise_nothing_tells_is_refused(table: LatencyTable) -> None:
    table.rows = {key: row for key, row in table.rows.items() if row.role == OP}
    table.samples = {n: [each for each in taken if each.key in table.rows] for n, taken in table.samples.items()}
    with pytest.raises(NoisyTableError, match="no whole network") as caught:
        table.refuse_noise()
    assert caught.value.mend == f"unas-hw tables calibrate {table.path}"


def test_a_row_of_few_samples_is_not_taken_for_exact(table: LatencyTable) -> None:
    kept = [each for each in table.samples[0] if each.key != BLOCKS[0].key]
    table.samples[0] = kept + [each for each in table.samples[0] if each.key == BLOCKS[0].key][:5]
    few, many = (table.measurements[block.key] for block in BLOCKS[:2])
    assert few.half_width == math.inf and many.half_width < math.inf
    assert 0 < table.deviation(few.key) == few.deviation < 0.1
    assert table.deviation(many.key) == many.half_width / 1.96


def test_the_hash_depends_on_the_rows_and_not_on_the_path(table: LatencyTable, tmp_path: Path) -> None:
    assert measure(tmp_path / "elsewhere.jsonl").hash == table.hash
    assert measure(tmp_path / "other.jsonl", "phone?seed=1").hash != table.hash


def test_the_frame_has_a_line_for_every_row(table: LatencyTable) -> None:
    frame = table.frame
    assert set(frame.index) == set(table.measurements)
    assert set(frame.index[frame["role"] == OP]) == {block.key for block in BLOCKS}
    assert (frame["p10_ms"] <= frame["p90_ms"]).all()


def test_a_tail_is_longer_where_times_scatter(table: LatencyTable, tmp_path: Path) -> None:
    assert table.tail_ratio(50) == 1
    wide = measure(tmp_path / "wide.jsonl", "phone?noise=0.1")
    assert 1 < table.tail_ratio(90) < wide.tail_ratio(90)


def test_tables_are_found_by_path_by_name_and_by_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNAS_HW_HOME", str(tmp_path))
    path = home.default_path("small plan", "sim:phone", "simulated", 1)
    assert path.parent == tmp_path / "tables"
    measure(path)
    for name in (str(path), path.name, "sim_phone"):
        assert home.find_table(name) == path
    assert home.open_table().path == path
    with pytest.raises(TableError, match="no tables match 'gpu'"):
        home.find_table("gpu")
