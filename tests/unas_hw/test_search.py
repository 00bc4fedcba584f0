"""From a budget to a network that was measured to keep it, in a folder that others can read; a kill at any moment costs
time and changes nothing; what cannot be found is said at once.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import safetensors.torch
import torch
from torch import Tensor

import unas_hw
from latency_tables.table import LatencyTable
from profilers.registry import open_profiler
from profilers.timing import TimingRule
from tests.unas_hw.searches import UNTRAINED, until
from unas_hw.errors import BudgetError, DataError, RunError, UnknownSpaceError
from unas_hw.jobs import search as jobs_search
from unas_hw.jobs.search import search
from unas_hw.latency_model import LatencyModel
from unas_hw.methods.unas import compared
from unas_hw.methods.unas import job as jobs_unas
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.methods.unas.search import UnasSearch
from unas_hw.progress import Step, finish
from unas_hw.runs import Run
from unas_hw.search.evidence import Evidence
from unas_hw.search.selection import CANDIDATES, Selection, select
from unas_hw.search.settings import SearchSettings
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space

TINY = UnasConfig(warmup_epochs=1, epochs=1, finetune_epochs=1, batch_size=24, measure_every=2)


@pytest.fixture(autouse=True)
def _remembered(monkeypatch: pytest.MonkeyPatch, remembered_spaces: Callable[..., SearchSpace]) -> None:
    monkeypatch.setattr(jobs_search, "find_space", remembered_spaces)


@pytest.fixture(scope="module")
def settings(npz: Path, small_table_path: Path) -> SearchSettings:
    return SearchSettings(
        finals="none", budget="40%", dataset=str(npz), table=small_table_path, run="one", config=UNTRAINED
    )


@pytest.fixture(scope="module")
def whole(settings: SearchSettings, rule: TimingRule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a small search ran undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        finish(search(replace(settings, config=TINY), rule))
    return folder


def test_a_search_reports_what_it_found_and_leaves_it_in_files(
    settings: SearchSettings, rule: TimingRule, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(whole)
    result = finish(search(replace(settings, config=TINY), rule))  # what it found before
    keys = ("run", "space", "architecture", "table", "budget_ms", "predicted_ms", "measured_ms", "feasible")
    assert set(keys) | {"valid_accuracy", "seconds"} <= result.keys()
    assert (result["run"], result["space"], result["feasible"]) == ("runs/one", "mbconv-small", True)
    assert 0 < result["measured_ms"] <= result["budget_ms"]
    assert result["predicted_ms"] == pytest.approx(result["measured_ms"], rel=0.05)
    assert 0 <= result["valid_accuracy"] <= 1

    run = Run.find(None)
    assert str(run.path) == "runs/one"
    assert run.read_json("result.json") == result
    space, written = find_space("mbconv-small"), run.read_json("architecture.json")
    assert str(space.parse(str(run.path / "architecture.json"))) == result["architecture"]
    assert {"space", "version", "choices", "table"} <= written.keys()
    assert written["table"] == LatencyTable.load(Path(result["table"])).hash
    assert (written["input_shape"], written["classes"]) == ([1, 1, 8, 8], 10)
    assert [line["epoch"] for line in run.lines("metrics.jsonl")] == [1, 2]
    labels = [line["label"] for line in run.lines("measurements.jsonl")]
    assert labels.count("final") == result["candidates"] and "search" in labels
    weights = safetensors.torch.load_file(run.path / "weights.safetensors")
    network = space.network(space.parse(result["architecture"]))
    network.load_state_dict(weights)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())


def test_the_network_that_ships_is_predicted_and_measured_on_the_tables_device(
    settings: SearchSettings, rule: TimingRule, small_table_path: Path
) -> None:
    result = finish(search(settings, rule))
    table = LatencyTable.load(small_table_path)
    space = find_space("mbconv-small")
    model = LatencyModel(space, table)
    architecture = space.parse(result["architecture"])
    low, high = model.latency_ms(model.smallest), model.latency_ms(model.largest)
    assert result["budget_ms"] == pytest.approx(low + 0.4 * (high - low))
    assert result["predicted_ms"] == model.latency_ms(space.indices(architecture))
    with open_profiler(table.header["device"]) as phone:
        again = phone.measure(space.workload(architecture), rule)
    assert again.median_ms == pytest.approx(result["measured_ms"], rel=0.03)


def test_a_search_ends_at_the_latency_that_it_may_ship(whole: Path) -> None:
    run = Run.open(whole / "runs" / "one")
    result = run.read_json("result.json")
    assert run.read_json("target.json")["target_ms"] < result["budget_ms"]  # as when it began, with the same headroom
    assert result["target_ms"] == pytest.approx(run.read_json("target.json")["target_ms"])
    assert result["expected_ms"] == pytest.approx(result["target_ms"], rel=1e-5)
    assert 0.9 * result["target_ms"] <= result["mode_ms"] <= result["target_ms"] * (1 + 1e-9)


def test_a_finished_search_is_not_made_again(settings: SearchSettings, rule: TimingRule) -> None:
    first = finish(search(settings, rule))
    steps = until(settings, rule, lambda step: "is finished" in step.note)
    assert len(steps) == 1
    assert finish(search(settings, rule)) == first


def test_a_run_with_other_settings_is_not_mixed_up(settings: SearchSettings, rule: TimingRule) -> None:
    finish(search(settings, rule))
    with pytest.raises(RunError, match=r"begun with tau=0\.4, not 0\.7"):
        finish(search(replace(settings, config=replace(UNTRAINED, tau=0.7)), rule))


def test_runs_without_a_name_are_named_after_what_they_search(settings: SearchSettings, rule: TimingRule) -> None:
    nameless = replace(settings, run=None)
    first = finish(search(nameless, rule))
    assert first["run"] == "runs/mbconv-small@1x1x8x8-stripes-sim-phone-40pct-s0"
    assert finish(search(nameless, rule)) == first
    other = finish(search(replace(nameless, config=replace(UNTRAINED, tau=0.7)), rule))
    assert other["run"] == first["run"] + "-2"
    seeded = finish(search(replace(nameless, seed=3), rule))
    assert seeded["run"].endswith("-s3")


def test_a_budget_below_the_smallest_network_is_refused_before_anything_is_trained(
    settings: SearchSettings, rule: TimingRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_unas, "UnasSearch", lambda *_: pytest.fail("trained"))
    result = finish(search(replace(settings, budget="1us"), rule))
    assert result["feasible"] is False
    assert (result["run"], result["architecture"], result["measured_ms"]) == (None, None, None)
    assert 0.001 < result["space_min_ms"] < result["space_median_ms"] < result["space_max_ms"]
    assert not Path("runs").exists()


def test_a_budget_above_the_largest_network_is_said_to_bind_nothing(settings: SearchSettings, rule: TimingRule) -> None:
    steps = until(replace(settings, budget="1s"), rule, lambda step: bool(step.note))
    assert "1.00 s binds nothing: the largest network takes 0." in steps[-1].note
    tight = list[Step]()
    job = search(settings, rule)
    tight.extend(job)
    assert not any("binds nothing" in step.note for step in tight)


def test_where_no_candidate_fits_the_nearest_is_reported_as_a_failure(
    settings: SearchSettings, rule: TimingRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hopeless(*args: Any) -> Any:
        for found in select(*args):
            yield Selection(found.readings, None)

    monkeypatch.setattr(compared, "select", hopeless)
    result = finish(search(settings, rule))
    assert result["feasible"] is False
    final = [line for line in Run.find(None).lines("measurements.jsonl") if line["label"] == "final"]
    assert result["architecture"] == min(final, key=lambda line: float(line["raw_ms"]))["architecture"]


@pytest.mark.parametrize("ranked_by", ["loss", "loss+macs", "evidence"])
def test_what_networks_are_ranked_by_decides_which_one_is_kept(
    settings: SearchSettings,
    rule: TimingRule,
    monkeypatch: pytest.MonkeyPatch,
    ranked_by: Literal["loss", "loss+macs", "evidence"],
) -> None:
    seen: list[set[tuple[int, ...]]] = []
    asked: list[tuple[int, ...]] = []

    def losses(unas: UnasSearch, path: tuple[int, ...]) -> Tensor:
        asked.append(path)
        return unas.valid_losses(path)

    def order(_: object, paths: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        seen.append({*paths})
        return sorted(paths)

    monkeypatch.setattr(Evidence, "order", order)
    monkeypatch.setattr(UnasSearch, "compared_losses", losses)
    result = finish(search(replace(settings, config=replace(UNTRAINED, ranked_by=ranked_by)), rule))
    kept = find_space("mbconv-small", image_shape=(1, 8, 8), classes=10)
    assert bool(seen) == (ranked_by != "loss")
    assert len(asked) == len({*asked}) > CANDIDATES
    if seen:
        assert kept.indices(kept.parse(result["architecture"])) == min(seen[-1])


def test_a_budget_at_a_percentile_is_kept_at_that_percentile(settings: SearchSettings, rule: TimingRule) -> None:
    median = finish(search(settings, rule))
    tail = finish(search(replace(settings, budget=f"{median['budget_ms']}ms@p90", run="tail"), rule))
    assert (median["percentile"], tail["percentile"]) == (50, 90)
    assert tail["feasible"] and tail["measured_ms"] <= tail["budget_ms"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"budget": "80"}, BudgetError),
        ({"dataset": "missing.npz"}, DataError),
        ({"space": "mbconv-smal"}, UnknownSpaceError),
        ({"space": "mbconv"}, UnknownSpaceError),
    ],
)
def test_what_is_misspelt_is_refused_before_a_run_is_begun(
    settings: SearchSettings, rule: TimingRule, change: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        finish(search(replace(settings, **change), rule))
    assert not Path("runs").exists()


SCRIPT = """
import json, sys
from pathlib import Path
import torch
from profilers.timing import TimingRule
from unas_hw.jobs.search import search
from unas_hw.search.settings import SearchSettings
from unas_hw.methods.unas.config import UnasConfig

torch.set_num_threads(1)
told = json.loads(sys.argv[1])
settings = SearchSettings(
    finals="none", **told["settings"], table=Path(told["table"]), config=UnasConfig(**told["unas"])
)
for step in search(settings, TimingRule(**told["rule"])):
    print(step, flush=True)
"""


@pytest.mark.slow
def test_a_search_that_is_killed_twice_finds_what_an_undisturbed_one_finds(
    settings: SearchSettings, rule: TimingRule, whole: Path, tmp_path: Path
) -> None:
    told = {
        "settings": {"budget": settings.budget, "dataset": settings.dataset, "run": settings.run},
        "table": str(settings.table),
        "unas": vars(TINY),
        "rule": vars(rule),
    }
    command = [sys.executable, "-c", SCRIPT, json.dumps(told)]
    environment = {"PYTHONPATH": str(Path(unas_hw.__file__).parents[1]), "PATH": ""}
    moments = random.Random(0)
    for patience in (moments.randint(1, 4), moments.randint(1, 4)):
        # It runs on while its lines are read, so the kill falls wherever it is just then.
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
        ) as process:
            assert process.stdout is not None
            lines = list[str]()
            for line in process.stdout:
                lines.append(line)
                if len(lines) == patience:
                    process.kill()
                    break
            errors = process.communicate()[1]
        assert process.returncode == -9, errors
    killed, undisturbed = Run.find(None), whole / "runs" / "one"
    assert not (killed.path / "result.json").exists()
    result = finish(search(replace(settings, config=TINY), rule))
    expected = json.loads((undisturbed / "result.json").read_text())
    for name in ("measured_ms", "raw_ms"):  # sums of the simulated clock, which began anew: the last bit may differ
        assert result[name] == pytest.approx(expected.pop(name), rel=1e-12)
        result.pop(name)
    assert {**result, "seconds": 0} == {**expected, "seconds": 0}
    for name in ("metrics.jsonl", "architecture.json", "weights.safetensors"):
        assert (killed.path / name).read_bytes() == (undisturbed / name).read_bytes(), name
    losses = [[line["loss"] for line in run.lines("finetune/metrics.jsonl")] for run in (killed, Run.open(undisturbed))]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", [None, pytest.param("one", marks=pytest.mark.slow)])
def test_a_search_that_was_stopped_goes_on_though_another_measured_its_table_again(
    settings: SearchSettings, rule: TimingRule, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str | None,
) -> None:  # fmt: skip
    assert settings.table is not None
    path = tmp_path / "small.jsonl"
    path.write_bytes(Path(settings.table).read_bytes())
    asked = replace(settings, table=path, config=TINY, run=name)
    job = search(asked, rule)
    next(step for step in job if step.stage == "search" and step.done)
    job.close()
    begun = Run.find(None)
    monkeypatch.setattr(
        "profilers.devices.simulated.SimulatedProfiler.environment", lambda self: {"clock_mhz": [1300.0]}
    )
    table = LatencyTable.load(path)
    for session in table.sessions:
        session["environment"]["clock_mhz"] = [2600.0]
    table.save()
    finish(search(replace(settings, table=path, run="another"), rule))
    assert LatencyTable.load(path).hash != table.hash
    now = path.read_bytes()
    notes = [step.note for step in search(asked, rule)]
    assert f"{begun.path} goes on with small.jsonl as it was; --seed or --run begins another" in notes
    result, expected = begun.read_json("result.json"), Run.open(whole / "runs" / "one").read_json("result.json")
    assert all(result[each] == expected[each] for each in ("architecture", "budget_ms", "predicted_ms"))
    assert path.read_bytes() == now
