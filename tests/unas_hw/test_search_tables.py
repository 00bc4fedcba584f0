"""Which table prices a search: what is missing is measured, what cannot be trusted is refused or told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from latency_tables.errors import MissingEntryError, NoisyTableError, TableError
from latency_tables.home import Target, default_path
from latency_tables.table import LatencyTable
from profilers.registry import open_profiler
from profilers.timing import TimingRule
from tests.unas_hw.searches import UNTRAINED, until
from unas_hw.jobs import search as jobs_search
from unas_hw.jobs.profile import profile
from unas_hw.jobs.search import search
from unas_hw.latency_model import LatencyModel
from unas_hw.progress import finish
from unas_hw.search.settings import SearchSettings
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space


@pytest.fixture(autouse=True)
def _remembered(monkeypatch: pytest.MonkeyPatch, remembered_spaces: Callable[..., SearchSpace]) -> None:
    monkeypatch.setattr(jobs_search, "find_space", remembered_spaces)


@pytest.fixture(scope="module")
def settings(npz: Path, small_table_path: Path) -> SearchSettings:
    return SearchSettings(
        finals="none", budget="40%", dataset=str(npz), table=small_table_path, run="one", config=UNTRAINED
    )


@pytest.mark.parametrize(("upper", "told"), [(1.5, True), (1.05, False)])
def test_what_the_error_of_a_table_costs_of_the_budget_is_told(
    settings: SearchSettings, rule: TimingRule, monkeypatch: pytest.MonkeyPatch, upper: float, told: bool
) -> None:
    monkeypatch.setattr(LatencyModel, "upper", lambda *_: upper)
    notes = [step.note for step in search(settings, rule) if "below the budget" in step.note]
    assert len(notes) == told
    if told:
        assert "may take 50% more" in notes[0]
        assert "aiming 33% below the budget" in notes[0]
        assert "unas-hw profile --more" in notes[0]


def test_without_a_table_the_device_is_profiled_first_and_then_remembered(
    settings: SearchSettings, rule: TimingRule
) -> None:
    fresh = replace(settings, table=None, device="sim:phone")
    steps = until(fresh, rule, lambda step: step.stage == "measure candidates")
    assert "no table for mbconv-small@1x1x8x8 yet: profiling sim:phone first" in steps[0].note
    path = default_path("mbconv-small@1x1x8x8", "sim:phone", "simulated", 1)
    assert path.is_file()
    again = until(replace(fresh, device=None, run="two"), rule, lambda step: bool(step.note))
    assert again[-1].note == f"latencies from {path}, the last profiled"


@pytest.mark.parametrize(
    ("target", "what"),
    [(Target(device="cpu"), "of device sim:phone, not cpu"), (Target(threads=4), "of threads 1, not 4")],
)
def test_a_table_of_another_device_than_asked_for_is_refused(
    settings: SearchSettings, rule: TimingRule, target: Target, what: str
) -> None:
    with pytest.raises(TableError, match=what) as caught:
        finish(search(replace(settings, **asdict(target)), rule))
    assert str(target).split()[0] in caught.value.mend


def test_a_table_that_lacks_operations_is_refused_by_name(
    settings: SearchSettings, rule: TimingRule, table_path: Path
) -> None:
    with pytest.raises(MissingEntryError, match=r"has no row for .*, and . rows of kind .* are too few") as caught:
        finish(search(replace(settings, table=table_path), rule))
    assert "unas-hw profile" in caught.value.mend


def test_a_table_that_is_too_noisy_is_refused(settings: SearchSettings, rule: TimingRule, tmp_path: Path) -> None:
    path = tmp_path / "noisy.jsonl"
    finish(profile(find_space("mbconv-small"), open_profiler("sim:phone?noise=0.4"), path=path, rule=rule, networks=2))
    with pytest.raises(NoisyTableError, match="no budget can be kept with it") as caught:
        finish(search(replace(settings, table=path), rule))
    assert "--more" in caught.value.mend


def test_a_table_of_a_machine_that_changed_is_rescaled_before_a_search_begins(
    settings: SearchSettings, small_table_path: Path, rule: TimingRule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "small.jsonl"
    path.write_bytes(small_table_path.read_bytes())
    table = LatencyTable.load(path)
    for session in table.sessions:
        session["environment"]["clock_mhz"] = [2600.0]
    table.save()
    now = {"clock_mhz": [1300.0]}
    monkeypatch.setattr("profilers.devices.simulated.SimulatedProfiler.environment", lambda self: now)
    asked = replace(settings, table=path)
    notes = [step.note for step, _ in zip(search(asked, rule), range(300), strict=False)]
    assert any("clock 2600 -> 1300 MHz since small.jsonl was measured" in note for note in notes)
    assert len(LatencyTable.load(path).sessions) == len(table.sessions) + 1
    # A search that has begun goes on with the table that it began with.
    now["clock_mhz"] = [650.0]
    notes = [step.note for step, _ in zip(search(asked, rule), range(300), strict=False)]
    assert not any("MHz" in note for note in notes)
    assert len(LatencyTable.load(path).sessions) == len(table.sessions) + 1
