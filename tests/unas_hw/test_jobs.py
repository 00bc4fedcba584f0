"""One command after the other: what ``search`` found is trained, exported, verified and predicted without another word,
and what comes too early is refused with the command that comes first.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

import unas_hw
from cli.commands.profile import command as profile_command
from latency_tables.calibration import Errors
from latency_tables.errors import TableError
from latency_tables.rows import ANCHOR, NETWORK, OP
from latency_tables.table import LatencyTable
from profilers.errors import UnitError, UnknownNameError
from profilers.registry import open_profiler
from profilers.timing import TimingRule
from profilers.workload import Workload
from unas_hw.errors import ArchitectureError, ExportError, RunError, UnknownSpaceError
from unas_hw.jobs.export import ExportSettings, export
from unas_hw.jobs.predict import predict_network
from unas_hw.jobs.profile import NETWORKS, plan, profile, space_for
from unas_hw.jobs.search import search
from unas_hw.jobs.tables import space_of
from unas_hw.jobs.train import retrain
from unas_hw.jobs.validate import validate
from unas_hw.jobs.verify import verify
from unas_hw.meter import ANCHORS, anchor_architectures
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.network import load_network
from unas_hw.progress import Step, finish
from unas_hw.runs import Run
from unas_hw.search.settings import SearchSettings
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space
from unas_hw.spaces.chain import ChainSpace
from unas_hw.training import Recipe, accuracy
from unas_hw.verify import artifact
from unas_hw.verify.artifact import open_run

pytestmark = pytest.mark.usefixtures("remembered_exports")
RECIPE = Recipe(epochs=2, batch_size=16)


@pytest.fixture(scope="module")
def workshop(npz: Path, small_table_path: Path, rule: TimingRule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a network was searched."""
    folder = tmp_path_factory.mktemp("workshop")
    untrained = UnasConfig(warmup_epochs=0, epochs=0, finetune_epochs=1)
    told = SearchSettings(
        finals="none", budget="40%", dataset=str(npz), table=small_table_path, run="one", config=untrained
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        finish(search(told, rule))
    return folder


@pytest.fixture
def run(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered_spaces: Callable[..., SearchSpace]
) -> Run:
    """A copy of it, for one test."""
    monkeypatch.setattr(artifact, "find_space", remembered_spaces)
    shutil.copytree(workshop / "runs", tmp_path / "runs")
    return Run.find(None)


@pytest.fixture(scope="module")
def exported(workshop: Path, rule: TimingRule, remembered_exports: None) -> dict[str, Any]:
    """The report of the export in ``workshop``, which takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workshop)
        return finish(export(ExportSettings(format="onnx"), rule))


def test_a_run_is_opened_with_all_that_belongs_to_it(run: Run, npz: Path, small_table_path: Path) -> None:
    context = open_run(None)
    assert context.run.path == run.path
    assert str(context.architecture) == run.read_json("result.json")["architecture"]
    assert (context.data.name, context.data.classes, len(context.data.train)) == (str(npz), 10, 48)
    assert context.table.hash == LatencyTable.load(small_table_path).hash
    assert context.space.title == "mbconv-small@1x1x8x8"


def test_a_search_that_has_not_ended_cannot_be_built_upon(run: Run) -> None:
    (run.path / "architecture.json").unlink()
    for job in (retrain(None, RECIPE), export(ExportSettings(run="one")), verify(run="one")):
        with pytest.raises(RunError, match="has no architecture yet") as caught:
            finish(job)
        assert "search again" in caught.value.mend


def test_training_reports_the_accuracy_of_the_weights_it_leaves(run: Run) -> None:
    steps, job = list[Step](), retrain(None, RECIPE)
    steps.extend(job)
    result = run.read_json("train/result.json")
    assert {"run", "architecture", "test_accuracy", "epochs", "params", "seconds"} <= result.keys()
    assert [(step.done, step.total) for step in steps] == [(1, 2), (2, 2)]
    assert (result["epochs"], result["run"]) == (2, "runs/one")
    assert result["architecture"] == run.read_json("result.json")["architecture"]
    context = open_run(None)
    network = load_network(context.run, context.space)
    assert accuracy(network, context.data.test) == result["test_accuracy"]
    assert sum(weight.numel() for weight in network.parameters()) == result["params"]
    searched, trained = (run.load_tensors(name) for name in ("weights.safetensors", "train/weights.safetensors"))
    assert searched is not None and trained is not None
    assert any(not torch.equal(searched[0][name], trained[0][name]) for name in trained[0])


def test_training_that_was_killed_goes_on_and_another_recipe_begins_anew(run: Run) -> None:
    job = retrain(None, replace(RECIPE, epochs=3))
    next(job)
    job.close()
    assert len(list(retrain(None, replace(RECIPE, epochs=3)))) == 2
    whole = (run.path / "train" / "weights.safetensors").read_bytes()
    shutil.rmtree(run.path / "train")
    finish(retrain(None, replace(RECIPE, epochs=3)))
    assert (run.path / "train" / "weights.safetensors").read_bytes() == whole
    assert len(list(retrain(None, replace(RECIPE, epochs=3, lr=1e-3)))) == 3


def test_an_export_is_verified_and_keeps_the_budget(exported: dict[str, Any], workshop: Path) -> None:
    assert {
        "passed",
        "format",
        "path",
        "max_abs_error",
        "top1_agreement",
        "predicted_ms",
        "measured_ms",
        "budget_ms",
        "checks",
        "budget_missed",
    } <= exported.keys()
    assert [check for check in exported["checks"] if not check["passed"]] == []
    assert (exported["passed"], exported["budget_missed"], exported["format"]) == (True, False, "onnx")
    assert exported["max_abs_error"] <= 1e-4
    assert exported["top1_agreement"] == 1
    assert exported["measured_ms"] <= exported["budget_ms"]
    assert json.loads((workshop / "runs" / "one" / "export" / "report.json").read_text()) == exported


def test_what_was_exported_takes_batches_and_has_plain_convolutions(exported: dict[str, Any], workshop: Path) -> None:
    model = onnx.load(workshop / exported["path"])
    batch, *image = model.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param
    assert [dim.dim_value for dim in image] == [1, 8, 8]
    kinds = {node.op_type for node in model.graph.node}
    assert "Conv" in kinds
    assert not kinds & {"MatMul", "BatchNormalization", "Dropout"}


def test_verifying_again_says_the_same(exported: dict[str, Any], run: Run, rule: TimingRule) -> None:
    assert finish(verify(rule=rule)) == exported


def test_weights_that_are_not_the_exported_ones_are_seen(exported: dict[str, Any], run: Run, rule: TimingRule) -> None:
    finish(retrain(None, replace(RECIPE, epochs=1)))  # and not exported again
    report = finish(verify(rule=rule))
    assert exported["passed"] and not report["passed"]
    assert not report["budget_missed"]
    assert report["max_abs_error"] > 1e-4


def test_a_missed_budget_is_no_success(exported: dict[str, Any], run: Run, rule: TimingRule) -> None:
    result = run.read_json("result.json")
    run.write_json("result.json", {**result, "budget_ms": 0.99 * exported["measured_ms"]})
    report = finish(verify(format_name="onnx", rule=rule))
    assert (report["passed"], report["budget_missed"]) == (False, True)


def test_verifying_before_exporting_says_what_to_type(run: Run) -> None:
    shutil.rmtree(run.path / "export", ignore_errors=True)
    with pytest.raises(ExportError, match="holds no exported model") as caught:
        finish(verify())
    assert caught.value.mend == "unas-hw export --run one"


def test_verifying_a_format_that_was_not_exported_says_what_to_type(exported: dict[str, Any], run: Run) -> None:
    assert exported["passed"]
    with pytest.raises(ExportError, match="holds no exported model"):
        finish(verify(format_name="torch"))


def test_an_unknown_format_is_refused_before_anything_is_written(run: Run) -> None:
    shutil.rmtree(run.path / "export", ignore_errors=True)
    with pytest.raises(UnknownNameError, match="no format is called 'onxx'"):
        finish(export(ExportSettings(format="onxx")))
    with pytest.raises(ExportError, match="have no int8"):
        finish(export(ExportSettings(format="torch-export", precision="int8")))
    with pytest.raises(UnitError, match="no range of batches"):
        finish(export(ExportSettings(format="onnx", batches="0")))
    assert not (run.path / "export").exists()


def test_a_profile_plans_every_operation_the_anchors_and_networks_to_calibrate_with(space: ChainSpace) -> None:
    planned = plan(space, networks=6)
    roles = {role: [each.workload.key for each in planned if each.role == role] for role in (OP, ANCHOR, NETWORK)}
    assert sorted(roles[OP]) == sorted(workload.key for workload in space.workloads())
    assert (len(roles[ANCHOR]), len(roles[NETWORK])) == (5, 6)
    assert not set(roles[ANCHOR]) & set(roles[NETWORK])
    assert plan(space, networks=6) == planned


def _of_every_size(space: SearchSpace, workloads: list[Workload]) -> bool:
    """Whether they lie at all sizes between the space's smallest network and its largest."""
    low, *_, high = sorted(space.workload(each).cost.macs for each in anchor_architectures(space))
    shares = [(each.cost.macs - low) / (high - low) for each in workloads]
    gaps = [after - before for before, after in pairwise(sorted(shares))]
    return min(shares) < 0.15 and max(shares) > 0.85 and max(gaps) < 0.2


@pytest.mark.parametrize("networks", [16, NETWORKS])
def test_networks_to_calibrate_with_are_of_every_size(networks: int) -> None:
    space = find_space("mbconv")
    chosen = [each.workload for each in plan(space, networks) if each.role == NETWORK]
    assert len(chosen) == networks and _of_every_size(space, chosen)


def test_networks_to_validate_with_are_of_every_size(
    table: LatencyTable, rule: TimingRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, profiler, chosen = find_space("mbconv"), open_profiler(table.header["device"]), list[Workload]()

    def load(workloads: Iterable[Workload], rule: TimingRule) -> Iterator[str]:
        chosen.extend(workloads)
        raise KeyboardInterrupt

    monkeypatch.setattr(profiler, "load", load)
    with pytest.raises(KeyboardInterrupt):
        finish(validate(space, table, profiler, networks=130, rule=rule))
    assert len(chosen) == 130 and _of_every_size(space, chosen)


def test_a_table_is_calibrated_with_thirty_networks_or_more_with_its_anchors() -> None:
    default = next(each.default for each in profile_command.params if each.name == "networks")
    assert NETWORKS == default == signature(unas_hw.profile).parameters["networks"].default
    assert NETWORKS + ANCHORS >= 30


def test_a_profile_has_what_was_planned_and_is_not_made_again(
    space: ChainSpace, table: LatencyTable, table_path: Path, rule: TimingRule, tmp_path: Path
) -> None:
    planned = {each.workload.key for each in plan(space, networks=6)}
    assert planned <= table.measurements.keys()
    path = tmp_path / "copy.jsonl"
    shutil.copy(table_path, path)
    job = profile(space, open_profiler(table.header["device"]), path=path, rule=rule, networks=6)
    assert list(job) == []
    assert LatencyTable.load(path).hash == table.hash


def test_fresh_networks_are_as_fast_as_the_table_says(space: ChainSpace, table: LatencyTable, rule: TimingRule) -> None:
    found = finish(validate(space, table, open_profiler(table.header["device"]), networks=12, rule=rule))
    assert set(Errors.__dataclass_fields__) | {"scale", "intercept_ms"} <= found.keys()
    assert found["networks"] == 12
    assert found["mape"] < 3
    assert found["spearman"] > 0.9
    assert found["anchor_scale"] == pytest.approx(1, abs=0.02)


def test_a_device_that_is_not_the_tables_any_more_does_not_hide(
    space: ChainSpace, table: LatencyTable, rule: TimingRule
) -> None:
    changed = str(table.header["device"]).replace("overhead_ms=0.001", "overhead_ms=0.05")
    found = finish(validate(space, table, open_profiler(changed), networks=12, rule=rule))
    assert found["mape"] > 3
    assert abs(found["anchor_scale"] - 1) > 0.1


def test_a_space_is_meant_by_its_name_or_by_the_images(npz: Path) -> None:
    assert space_for(None).title == "mbconv-small@1x1x8x8"
    assert space_for(None, dataset=str(npz), image_size=16).title == "mbconv-small@1x1x16x16"
    assert space_for("mbconv").title == "mbconv@1x3x224x224"
    assert space_for("mbconv", image_size=64, batch=4).title == "mbconv@4x3x64x64"
    with pytest.raises(UnknownSpaceError):
        space_for("mbconv", dataset=str(npz))


def test_a_table_says_which_space_it_is_for(small_table_path: Path) -> None:
    table = LatencyTable.load(small_table_path)
    assert space_of(table).title == "mbconv-small@1x1x8x8"
    rows = {key: row for key, row in table.rows.items() if row.role == OP}
    poorer = LatencyTable(table.path, table.header, rows, table.samples, table.sessions)
    with pytest.raises(TableError, match="no anchor networks") as caught:
        space_of(poorer)
    assert "unas-hw profile --table" in caught.value.mend


def test_a_prediction_of_what_search_found_is_what_search_predicted(run: Run, small_table_path: Path) -> None:
    result = run.read_json("result.json")
    found = finish(predict_network(str(run.path / "architecture.json"), table=str(small_table_path)))
    assert found["predicted_ms"] == pytest.approx(result["predicted_ms"])
    assert found["low_ms"] < found["predicted_ms"] < found["high_ms"]
    assert (found["architecture"], found["coverage"]) == (result["architecture"], 1)
    assert found["params"] > 0 and found["macs"] > 0


def test_a_prediction_uses_the_last_table_that_covers_the_network(run: Run, small_table_path: Path) -> None:
    text = run.read_json("result.json")["architecture"]
    without = finish(predict_network(text))
    assert (without["table"], without["predicted_ms"], without["coverage"]) == (None, None, 0.0)
    assert without["params"] > 0
    folder = Path("home/tables")
    folder.mkdir(parents=True)
    shutil.copy(small_table_path, folder / "phone.jsonl")
    with_it = finish(predict_network(text))
    assert with_it["table"] == str(Path.cwd() / folder / "phone.jsonl")
    assert with_it["predicted_ms"] > 0
    assert finish(predict_network(text, batch=2))["predicted_ms"] is None  # the table is for single images


def test_a_prediction_of_no_architecture_is_refused() -> None:
    with pytest.raises(ArchitectureError, match="decisions"):
        finish(predict_network("k3e3,k3e3"))
    with pytest.raises(UnknownSpaceError, match="'mbcon'"):
        finish(predict_network("mbcon:k3e3,k3e3"))
