"""A pruning ends with a smaller module whose own measurement keeps the budget, and its run is a run like any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latency_tables import calibration
from latency_tables.errors import PublishedTableError
from latency_tables.rows import ANCHOR, NETWORK, OP
from latency_tables.table import LatencyTable
from profilers.timing import TimingRule
from tests.unas_hw import small_residual
from tests.unas_hw.conftest import PHONE
from unas_hw.errors import BudgetError, RunError
from unas_hw.jobs.evaluate import evaluate_run
from unas_hw.jobs.export import ExportSettings, export
from unas_hw.jobs.train import Elsewhere, retrain
from unas_hw.meter import Meter, Reading
from unas_hw.methods.pruning import selection
from unas_hw.methods.pruning.config import PruneConfig, PruneSettings
from unas_hw.methods.pruning.job import prune
from unas_hw.methods.pruning.limits import limit_of
from unas_hw.methods.pruning.search import CHECKPOINT, METRICS
from unas_hw.methods.pruning.table import grid_of, sub_networks
from unas_hw.network import load_network
from unas_hw.progress import finish
from unas_hw.runs import Run
from unas_hw.spaces import SUBSET, find_space
from unas_hw.spaces.subset import SubsetSpace
from unas_hw.training import Recipe
from unas_hw.verify.artifact import open_run

FILE = str(Path(small_residual.__file__))
SHORT = PruneConfig(epochs=4, resample_every=2, batch_size=16, finetune_epochs=1, multiple=1)


@pytest.fixture(scope="module", autouse=True)
def _no_knees() -> Iterator[None]:
    """A calibration tries all of them, which takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "KNEES", ())
        yield


@pytest.fixture(scope="module")
def pruned(npz: Path, rule: TimingRule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables and runs in which a pruning has ended, made once."""
    folder = tmp_path_factory.mktemp("pruned")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("UNAS_HW_HOME", str(folder / "home"))
        finish(prune(_told(npz), rule))
    return folder


def _told(npz: Path) -> PruneSettings:
    return PruneSettings(network=FILE, budget="50%", dataset=str(npz), device=PHONE, run="one", config=SHORT)


@pytest.fixture
def settings(npz: Path, pruned: Path, monkeypatch: pytest.MonkeyPatch) -> PruneSettings:
    """Of the pruning that has ended; its table is there, its run is not."""
    monkeypatch.setenv("UNAS_HW_HOME", str(pruned / "home"))
    return _told(npz)


@pytest.fixture
def finished(pruned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The result; the run is there, as a copy."""
    shutil.copytree(pruned / "runs", tmp_path / "copy" / "runs")
    monkeypatch.chdir(tmp_path / "copy")
    return Run.find("one").read_json("result.json")


def space_of() -> SubsetSpace:
    space = find_space(SUBSET + FILE, image_shape=(1, 8, 8), classes=10)
    assert isinstance(space, SubsetSpace)
    return space


def test_the_budget_is_a_share_of_what_the_whole_network_takes_and_is_kept_as_measured(
    finished: dict[str, Any],
) -> None:
    assert finished["feasible"]
    assert finished["budget_ms"] == pytest.approx(finished["whole"]["ms"] / 2)
    assert 0.6 * finished["budget_ms"] < finished["measured_ms"] <= finished["budget_ms"]
    assert finished["predicted_ms"] == pytest.approx(finished["measured_ms"], rel=0.1)
    assert finished["interpolation"]["networks"] >= 12
    assert finished["interpolation"]["mape"] < 10
    assert finished["binary_gap"] < 1e-3
    assert all(1 <= kept <= size for kept, size in finished["units"].values())
    assert finished["pruned"]["macs"] < finished["whole"]["macs"]
    assert finished["not_pruned"] == {"head": "they are the network's outputs"}


def test_the_run_has_what_runs_have(finished: dict[str, Any]) -> None:
    run = Run.find("one")
    assert {"config.json", "architecture.json", "weights.safetensors", METRICS, CHECKPOINT, "measurements.jsonl"} <= {
        path.name for path in run.path.iterdir()
    }
    context = open_run("one")
    assert str(context.architecture) == finished["architecture"]
    network = load_network(context.run, context.space)
    assert sum(weight.numel() for weight in network.parameters()) == finished["pruned"]["params"]
    assert context.space.workload(context.architecture).cost.macs == finished["pruned"]["macs"]
    with torch.no_grad():
        assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert finish(evaluate_run("one", part="valid"))["top1"] == pytest.approx(finished["valid_accuracy"])


def test_it_is_retrained(finished: dict[str, Any]) -> None:
    trained = finish(retrain("one", Recipe(epochs=1, augmentation="none")))
    assert trained["architecture"] == finished["architecture"]
    assert trained["params"] == finished["pruned"]["params"]


def test_the_structure_is_trained_on_another_task_with_other_classes(
    finished: dict[str, Any], images: Callable[[int, int], Any], tmp_path: Path
) -> None:
    made = images(80, 4)
    np.savez(tmp_path / "four.npz", images=made.pixels, labels=made.labels)
    elsewhere = Elsewhere(run="one", dataset=str(tmp_path / "four.npz"), name="other")
    trained = finish(retrain(None, Recipe(epochs=1, augmentation="none"), elsewhere=elsewhere))
    assert trained["architecture"] == finished["architecture"]
    width = finished["units"]["down"][0]
    assert trained["params"] == finished["pruned"]["params"] - 6 * (width + 1)  # four outputs instead of ten


def test_a_file_that_misses_the_budget_is_not_repaired_but_pruned_again(
    finished: dict[str, Any], rule: TimingRule
) -> None:
    run = Run.find("one")
    for name in ("result.json", "config.json"):
        run.write_json(name, run.read_json(name) | {"budget_ms": finished["measured_ms"] / 2})
    report = finish(export(ExportSettings(run="one"), rule))
    assert report["budget_missed"]
    reason = report["repair"]["reason"]
    assert "was pruned" in reason
    assert f"unas-hw prune {FILE} --latency-budget" in reason


def test_a_finished_pruning_is_not_done_again(
    finished: dict[str, Any], settings: PruneSettings, rule: TimingRule
) -> None:
    notes = [step.note for step in prune(settings, rule)]
    assert any("is finished" in note for note in notes)
    assert not any("lacks" in note for note in notes)


@pytest.mark.parametrize("stage", ["prune", "fine-tune"])
def test_a_killed_pruning_goes_on_to_the_same_end(
    finished: dict[str, Any], settings: PruneSettings, rule: TimingRule, stage: str
) -> None:
    again = replace(settings, run="two")
    job = prune(again, rule)
    for step in job:
        if step.stage == stage and step.done:
            break
    job.close()
    assert not (Run.find("two").path / "result.json").exists()
    result = finish(prune(again, rule))
    differing = {name for name in result if result[name] != finished[name]}
    assert differing == {"run", "seconds"}
    assert Run.find("two").lines(METRICS) == Run.find("one").lines(METRICS)
    saved = [Run.find(name).load_tensors("weights.safetensors") for name in ("one", "two")]
    for one, two in zip(*(each[0].values() for each in saved if each), strict=True):
        assert torch.equal(one, two)


def test_channels_are_kept_in_eights_unless_another_number_is_told(npz: Path, rule: TimingRule) -> None:
    Path("wide.py").write_text(
        "from torch import nn\n"
        "def build(classes, channels):\n"
        "    layers = nn.Conv2d(channels, 72, 3), nn.ReLU(), nn.Conv2d(72, 64, 3), nn.ReLU(), nn.Conv2d(64, 80, 3)\n"
        "    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(80, classes))\n"
    )
    told = replace(_told(npz), network="wide.py", budget=None, macs_budget="45%", carry_weights=False)
    kept = {}
    for multiple in (None, 1):
        config = replace(SHORT, multiple=multiple)
        result = finish(prune(replace(told, run=f"by-{multiple}", config=config), rule))
        kept[multiple] = [units for units, _ in result["units"].values()]
        assert len(kept[multiple]) == 3 and result["feasible"]
    assert all(units % 8 == 0 for units in kept[None])
    assert any(units % 8 for units in kept[1])


def test_budgets_of_macs_and_parameters_are_exact_and_need_no_rows(npz: Path, rule: TimingRule) -> None:
    told = replace(_told(npz), budget=None, macs_budget="40%", params_budget="2k", carry_weights=False)
    result = finish(prune(told, rule))
    assert result["feasible"]
    assert result["pruned"]["macs"] <= 0.4 * result["whole"]["macs"] == result["limits"]["macs"]["limit"]
    assert result["pruned"]["params"] <= 2000 == result["limits"]["params"]["limit"]
    assert result["valid_accuracy"] is None
    assert result["measured_ms"] == result["predicted_ms"] < result["budget_ms"] == 2 * result["whole"]["ms"]
    assert result["data_notes"] == []
    table = LatencyTable.load(Path(result["table"]))
    assert not table.keys(OP) and table.keys(ANCHOR)
    load_network(Run.find("one"), open_run("one").space)  # has weights, though new ones


def test_a_network_that_takes_longer_than_predicted_is_pruned_further(
    settings: PruneSettings, rule: TimingRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slower(Meter):  # type: ignore[misc]  # final, but for this
        def measure(self, architectures: Any, *, label: str, rule: TimingRule | None = None) -> list[Reading]:
            found = super().measure(architectures, label=label, rule=rule)
            return [replace(each, raw_ms=1.3 * each.raw_ms, scaled_ms=1.3 * each.scaled_ms) for each in found]

    monkeypatch.setattr(selection, "Meter", Slower)
    result = finish(prune(settings, rule))
    assert result["candidates"] > 1
    assert result["feasible"]
    assert result["measured_ms"] <= result["budget_ms"]
    assert result["predicted_ms"] < 0.85 * result["budget_ms"]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"budget": "1us"}, "latency budget of"),
        ({"budget": None, "macs_budget": "10"}, "macs budget of 10"),
        ({"params_budget": "1%"}, "params budget of"),
    ],
)
def test_a_budget_that_nothing_keeps_is_answered_before_anything_is_trained(
    settings: PruneSettings, rule: TimingRule, told: dict[str, Any], words: str
) -> None:
    result = finish(prune(replace(settings, **told), rule))
    assert not result["feasible"] and result["run"] is None
    assert result["data_notes"] == []
    assert result["unmet"].startswith(words)
    assert FILE in result["unmet"]
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"budget": None}, "there is no budget"),
        ({"budget": "80"}, "'80' has no unit"),
        ({"macs_budget": "0%"}, "not between 0% and 100%"),
        ({"params_budget": "many"}, "many"),
    ],
)
def test_budgets_that_cannot_be_read_are_refused(settings: PruneSettings, told: dict[str, Any], words: str) -> None:
    with pytest.raises(BudgetError, match=words):
        finish(prune(replace(settings, **told)))


def test_a_limit_is_a_number_or_a_share_of_the_whole() -> None:
    assert limit_of("macs", "20M", 1.0) == 20e6
    assert limit_of("params", "12.5%", 800.0) == 100


def test_other_settings_are_another_run(settings: PruneSettings, rule: TimingRule, finished: dict[str, Any]) -> None:
    with pytest.raises(RunError, match="was begun with"):
        finish(prune(replace(settings, seed=1), rule))


def test_a_device_that_only_a_published_table_knows_is_refused(settings: PruneSettings, rule: TimingRule) -> None:
    with pytest.raises(PublishedTableError, match="pixel1"):
        finish(prune(replace(settings, device="pixel1"), rule))


def test_layers_are_measured_over_both_widths_and_those_of_one_group_along_it() -> None:
    space = space_of()
    grids = {layer.path: grid_of(layer, space, 1) for layer in space.prunable.layers}
    assert grids["stem"].inputs == (1,)
    assert grids["inner"].inputs == (1, 2, 4, 6, 8)
    assert grids["inner"].outputs == (2, 3, 6, 9, 12)
    assert len(grids["inner"].workloads) == 25
    assert grids["head"].outputs == (10,)
    for path, found in grids.items():
        layer = next(each for each in space.prunable.layers if each.path == path)
        assert found.workloads[-1].key == layer.workload(found.inputs[-1], found.outputs[-1]).key


def test_networks_to_calibrate_with_are_always_the_same_and_range_from_small_to_large() -> None:
    space = space_of()
    once, twice = (
        [space.architecture_of(space.prunable.widths(each)) for each in sub_networks(space, 1)] for _ in range(2)
    )
    assert once == twice
    macs = [space.workload(each).cost.macs for each in once]
    assert max(macs) > 5 * min(macs)
    assert len(set(once)) > 10


def test_the_table_says_what_it_is_of(finished: dict[str, Any]) -> None:
    table = LatencyTable.load(Path(finished["table"]))
    assert table.header["subject"] == "small_residual@1x1x8x8"
    assert len(table.keys(ANCHOR)) == 5 and len(table.keys(NETWORK)) > 10
    assert json.loads((Path(finished["run"]) / "config.json").read_text())["table_hash"] == table.hash
