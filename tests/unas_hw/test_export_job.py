"""What a run exports is its network in every format and precision; what was damaged on the way is found out, with the
check that names it; what misses the budget is replaced by what keeps it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from profilers.agent.engines import is_installed
from profilers.registry import open_profiler
from profilers.timing import TimingRule
from unas_hw.errors import ExportError
from unas_hw.export import FORMATS
from unas_hw.export.manifest import Manifest, digest, find_manifest
from unas_hw.jobs.export import ExportSettings, export
from unas_hw.jobs.profile import profile
from unas_hw.jobs.search import search
from unas_hw.jobs.verify import BROKEN, verify
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.progress import finish
from unas_hw.repair.job import repaired_scale
from unas_hw.runs import Run
from unas_hw.search.settings import SearchSettings
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space
from unas_hw.verify import artifact, latency
from unas_hw.verify.latency import Latency
from unas_hw.verify.subject import Subject

SPACE = str(Path(__file__).parents[2] / "examples" / "tiny.yaml")
"""Half the layers of ``mbconv-small``, and one block of a user's own."""
pytestmark = pytest.mark.usefixtures("remembered_exports")
TINY = UnasConfig(warmup_epochs=1, epochs=1, finetune_epochs=1, batch_size=24)


@pytest.fixture(scope="module")
def workshop(npz: Path, rule: TimingRule, tmp_path_factory: pytest.TempPathFactory, remembered_exports: None) -> Path:
    """A folder in which a network was searched and exported as ONNX."""
    folder = tmp_path_factory.mktemp("workshop")
    table = folder / "tiny.jsonl"
    finish(profile(find_space(SPACE), open_profiler("sim:phone"), path=table, rule=rule, networks=6))
    told = SearchSettings(
        finals="none", budget="60%", space=SPACE, dataset=str(npz), table=table, run="one", config=TINY
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        finish(search(told, rule))
        assert finish(export(ExportSettings(format="onnx", repair=False), rule))["passed"]
    return folder


@pytest.fixture
def run(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered_spaces: Callable[..., SearchSpace]
) -> Run:
    """A copy of it, for one test."""
    monkeypatch.setattr(artifact, "find_space", remembered_spaces)
    shutil.copytree(workshop / "runs", tmp_path / "runs")
    return Run.find(None)


def _failed(report: dict[str, Any]) -> list[str]:
    return [check["name"] for check in report["checks"] if not check["passed"]]


@pytest.mark.parametrize(
    ("name", "precision", "batches"),
    [
        ("openvino", "float32", None),
        ("ncnn", "float32", None),
        pytest.param("torch", "float32", None, marks=pytest.mark.slow),  # PyTorch is imported in other processes
        pytest.param("torch-export", "float32", "dynamic:1-8", marks=pytest.mark.slow),
        pytest.param("tensorrt", "float32", "dynamic:1-8", marks=pytest.mark.slow),
        ("tensorrt", "int8", None),
        ("onnx", "float16", "dynamic:1-8"),
        pytest.param("onnx", "bfloat16", None, marks=pytest.mark.slow),
        pytest.param("onnx", "int8", "4", marks=pytest.mark.slow),
    ],
)
def test_every_format_is_written_and_found_right(
    name: str, precision: str, batches: str | None, run: Run, rule: TimingRule
) -> None:
    if name == "tensorrt" and not is_installed("tensorrt"):
        pytest.skip("TensorRT-RTX is not installed (it has no package for this machine)")
    told = ExportSettings(format=name, precision=precision, batches=batches, repair=False)
    report = finish(export(told, rule))
    assert [each for each in _failed(report) if "budget" not in each] == []
    assert (report["format"], report["precision"], report["batches"]) == (name, precision, batches or report["batches"])
    assert report["max_abs_error"] < (1e-4 if precision == "float32" else 0.5)
    path = Path(report["path"])
    assert set(report["manifest"]["files"]) == {each.name for each in FORMATS[name].files(path)}
    assert (run.path / "export" / "report.md").read_text().startswith(f"# {path.name}: ")
    parities = [check["name"] for check in report["checks"] if check["name"].startswith("max_abs_error")]
    assert ("max_abs_error (batch of 8)" in parities) is (batches == "dynamic:1-8")
    lost = [check for check in report["checks"] if check["name"] == "points of top-1 accuracy lost"]
    assert bool(lost) is (precision != "float32")
    if name == "tensorrt":
        assert report["layers"]["CONVOLUTION"].keys() == {precision}
        assert any("NVIDIA" in each for each in report["not_checked"]) or torch.cuda.is_available()
    if name == "torch":
        assert report["measured_ms"] is None
        assert "torch-export" in report["not_checked"][0]
        assert report["architecture"] in (run.path / "export" / "model.md").read_text()
    if name in CUT:
        _a_file_that_is_cut_off_is_found_out_and_ends_nothing(FORMATS[name].files(path)[CUT[name]], rule)


CUT = {"ncnn": 1, "openvino": 1, "torch": 1, "torch-export": 0}
"""Which file of a format holds weights; what is done to those of ONNX has tests of its own."""


def _a_file_that_is_cut_off_is_found_out_and_ends_nothing(path: Path, rule: TimingRule) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    failed = _failed(finish(verify(str(path), rule=rule)))
    assert "files changed since the export (SHA-256)" in failed
    assert BROKEN in failed or any(each.startswith("max_abs_error") for each in failed)


def test_an_onnx_file_tells_what_one_has_to_know_of_it(run: Run, rule: TimingRule) -> None:
    report = finish(export(ExportSettings(format="onnx", preprocess=True, opset=17, repair=False), rule))
    assert _failed(report) == []
    model = onnx.load(report["path"])
    said = {each.key: each.value for each in model.metadata_props}
    assert said["architecture"] == report["architecture"]
    assert said["table_hash"] == artifact.open_run(None).table.hash
    assert json.loads(said["labels"]) == [str(label) for label in range(10)]
    told = json.loads(said["preprocessing"])
    assert told["done"] == "the file does this by itself"
    assert len(told["mean"]) == len(told["std"]) == 1
    assert torch.__version__.startswith(json.loads(said["versions"])["torch"].partition("+")[0])
    assert [entry.version for entry in model.opset_import] == [17]


@pytest.mark.slow
@pytest.mark.parametrize(("scales", "again", "last"), [((0.5, 0.6, 0.99), 2, 0.99), ((0.5,) * 9, 3, 0.5)])
def test_a_moment_in_which_the_machine_is_slow_is_waited_for(
    run: Run, rule: TimingRule, monkeypatch: pytest.MonkeyPatch, scales: tuple[float, ...], again: int, last: float
) -> None:
    real, left = latency._measured, iter(scales)

    def measured(*args: Any, **words: Any) -> Latency:
        found = real(*args, **words)
        assert found.reading is not None
        return replace(found, reading=replace(found.reading, anchor_scale=next(left)))

    monkeypatch.setattr(latency, "_measured", measured)
    monkeypatch.setattr(latency, "PAUSES_S", (0, 0, 0))
    job, notes = verify(str(run.path / "export" / "model.onnx"), device="cpu", rule=rule), list[str]()
    while True:
        try:
            notes.append(next(job).note)
        except StopIteration as end:
            report = end.value
            break
    told = [note for note in notes if "measuring again" in note]
    assert len(told) == again
    assert "take 2.00 times as long" in told[0]
    assert report["anchor_scale"] == last


def test_a_shorter_type_is_timed_beside_float32_and_slower_is_said_to_be(run: Run, rule: TimingRule) -> None:
    report = finish(export(ExportSettings(format="onnx", precision="int8", repair=False), rule))
    assert report["float32_ms"] > 0
    told = (run.path / "export" / "report.md").read_text()
    word = "SLOWER" if report["raw_ms"] > report["float32_ms"] else "faster"
    assert f"int8 is: {word} than fp32 here" in told


# --- what was damaged -------------------------------------------------------------------------------------------------

MODEL = Path("runs/one/export/model.onnx")


def _rewritten(change: Callable[[Any], object]) -> None:
    model = onnx.load(MODEL)
    change(model)
    MODEL.write_bytes(model.SerializeToString())


def _weight(model: Any) -> Any:
    return next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)


def _set(model: Any, change: Callable[[Any], Any]) -> None:
    tensor = _weight(model)
    tensor.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(tensor)), tensor.name))


def _cut() -> None:
    MODEL.write_bytes(MODEL.read_bytes()[:-1000])


def _nan() -> None:
    _rewritten(lambda model: _set(model, lambda values: np.where(values == values.max(), np.nan, values)))


def _other_weights() -> None:
    _rewritten(lambda model: _set(model, lambda values: -values))


def _opset() -> None:
    _rewritten(lambda model: setattr(model.opset_import[0], "version", 19))


def _one_bit() -> None:
    content = bytearray(MODEL.read_bytes())
    content[len(content) // 2] ^= 1
    MODEL.write_bytes(bytes(content))


def _fixed_batch() -> None:
    def fix(model: Any) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1

    _rewritten(fix)


def _anonymous() -> None:
    _rewritten(lambda model: model.ClearField("metadata_props"))


def _gone() -> None:
    MODEL.unlink()


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        (_gone, BROKEN),
        (_cut, "files that are no ONNX"),
        (_nan, "weights that are no numbers"),
        (_other_weights, "max_abs_error (real images)"),
        (_opset, "distance from the opset"),
        (_one_bit, "files changed since the export (SHA-256)"),
        (_fixed_batch, "inputs of another batch"),
        (_anonymous, "properties missing"),
    ],
)
def test_a_damaged_file_fails_by_the_check_that_is_for_it(
    damage: Callable[[], None], check: str, run: Run, rule: TimingRule
) -> None:
    damage()
    path, manifest = find_manifest(MODEL)
    assert manifest.changed(path) == ["model.onnx"]
    if damage is not _one_bit:  # which the hash alone has to find: few bits of a weight are seen in the outputs
        replace(manifest, files={path.name: digest(path) or ""}).save(path)
    report = finish(verify(str(MODEL), rule=rule))
    assert check in _failed(report)
    assert not report["passed"] and not report["budget_missed"]


# --- where it is ------------------------------------------------------------------------------------------------------


def test_an_artifact_is_verified_wherever_it_was_copied_to(run: Run, tmp_path: Path, rule: TimingRule) -> None:
    (tmp_path / "elsewhere").mkdir()
    for each in run.path.glob("export/model.onnx*"):
        shutil.copy(each, tmp_path / "elsewhere")
    report = finish(verify(str(tmp_path / "elsewhere" / "model.onnx"), run="one", rule=rule))
    assert report["passed"] and report["run"] == "runs/one"
    assert json.loads((tmp_path / "elsewhere" / "report.json").read_text())["passed"] is True


def test_an_artifact_of_another_network_than_the_runs_is_refused(run: Run, rule: TimingRule) -> None:
    path, manifest = find_manifest(MODEL)
    other = replace(manifest, architecture=manifest.architecture.replace("k3e3", "k5e3").replace("id", "k3e3"))
    assert other.architecture != manifest.architecture
    other.save(path)
    with pytest.raises(ExportError, match=r"the network of \S+one is .* now") as caught:
        finish(verify(str(MODEL), rule=rule))
    assert caught.value.mend == "unas-hw export --run one --format onnx"


# --- a missed budget --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_missed_budget_is_repaired_and_the_file_is_of_the_new_network(run: Run, rule: TimingRule) -> None:
    result = run.read_json("result.json")
    budget_ms = 0.8 * result["predicted_ms"]
    run.write_json("result.json", {**result, "budget_ms": budget_ms})
    missed = finish(export(ExportSettings(format="onnx", repair=False), rule))
    assert (missed["passed"], missed["budget_missed"], missed["repair"]) == (False, True, None)
    report = finish(export(ExportSettings(format="onnx"), rule))
    assert report["passed"], _failed(report)
    assert report["measured_ms"] <= budget_ms
    assert report["repair"]["from"] == result["architecture"] != report["architecture"]
    assert 1 <= len(report["repair"]["rounds"]) <= 4
    assert report["repair"]["reason"] is None
    said = {each.key: each.value for each in onnx.load(report["path"]).metadata_props}
    assert said["architecture"] == report["architecture"] == run.read_json("result.json")["architecture"]
    assert json.loads((run.path / "export" / "report.json").read_text()) == report
    assert finish(verify(rule=rule))["passed"]


def test_a_network_that_missed_its_budget_in_a_slow_moment_only_is_kept(
    run: Run, rule: TimingRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, result, slow = latency._measured, run.read_json("result.json"), list[str]()

    def measured(subject: Subject, *args: Any, **words: Any) -> Latency:
        found = real(subject, *args, **words)
        assert found.reading is not None
        if str(subject.context.architecture) == result["architecture"] and slow:
            return found
        slow.append(str(subject.context.architecture))
        return replace(found, reading=replace(found.reading, raw_ms=2 * found.reading.raw_ms, anchor_scale=0.5))

    monkeypatch.setattr(latency, "_measured", measured)
    run.write_json("repair.json", {"scale": 1.05})  # of a repair before
    report = finish(export(ExportSettings(format="onnx"), rule))
    assert len({*slow}) > 1, "others were measured"
    assert report["passed"], _failed(report)
    assert report["architecture"] == result["architecture"] == run.read_json("result.json")["architecture"]
    assert report["repair"]["reason"] == "not needed: the machine was slow for a while"
    assert report["repair"]["scale"] == repaired_scale(run) == 1.05
    assert run.lines("repair.jsonl") == []


def test_a_budget_that_nothing_keeps_is_left_missed_with_the_reason(run: Run, rule: TimingRule) -> None:
    result = run.read_json("result.json")
    run.write_json("result.json", {**result, "budget_ms": 1e-3 * result["predicted_ms"]})
    report = finish(export(ExportSettings(format="onnx"), rule))
    assert (report["passed"], report["budget_missed"]) == (False, True)
    assert "smallest network" in report["repair"]["reason"]
    assert report["architecture"] == result["architecture"]


def test_a_run_that_was_trained_is_not_replaced_unasked(run: Run, rule: TimingRule) -> None:
    shutil.copytree(run.path, run.path / "train", ignore=shutil.ignore_patterns("train", "export", "*.json*"))
    result = run.read_json("result.json")
    run.write_json("result.json", {**result, "budget_ms": 0.8 * result["predicted_ms"]})
    report = finish(export(ExportSettings(format="onnx"), rule))
    assert (report["budget_missed"], report["repair"]) == (True, None)


def test_a_manifest_is_read_as_it_was_written(run: Run) -> None:
    path, manifest = find_manifest(MODEL)
    manifest.save(path)
    assert Manifest.load(path.with_name("model.onnx.manifest.json")) == manifest
    assert manifest.range.dynamic and manifest.fmt is FORMATS["onnx"]
