"""TensorRT engines of whole networks: really built, for GPUs that are not here, and by a fake of the library for one
that is.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from profilers.agent.engines import is_installed, tensorrt_build
from profilers.errors import FileError, MissingDependencyError
from profilers.runtimes.onnx_file import write_onnx
from tests.profilers.fake_tensorrt import FakeTensorRt, install
from unas_hw.errors import ExportError
from unas_hw.export.tensorrt import AHEAD_OF_TIME, AT_HAND, INSPECTED, PARSED, precision_faults, write_engine
from unas_hw.spaces import find_space

SPACES = ("mbconv-small?stem=cifar", "darts?layers=3&width=8", "nas_bench_201?cells=1&width=8")
PRECISIONS = ("float32", "float16", "bfloat16", "int8")

# --- without a GPU ----------------------------------------------------------------------------------------------------


@pytest.fixture
def rtx() -> None:
    if not is_installed("tensorrt") or tensorrt_build.library().__name__ == "tensorrt":
        pytest.skip("TensorRT-RTX is not installed, which builds for other GPUs than the one at hand")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")


def _network(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(0)
    space = find_space(name)
    return space.network(space.draw(random.Random(3))), space.input_shape


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize("name", [*(pytest.param(name, marks=pytest.mark.slow) for name in SPACES[:2]), SPACES[2]])
def test_networks_of_every_space_are_built_in_the_precision_that_was_asked_for(name: str, tmp_path: Path) -> None:
    network, shape = _network(name)
    convolutions = sum(isinstance(each, nn.Conv2d) for each in network.modules())
    for precision in PRECISIONS:
        write_onnx(network, shape, tmp_path / "model.onnx", final=False, precision=precision, symmetric=True)
        facts = write_engine(tmp_path / "model.onnx", tmp_path / "e", precision=precision, batches=(1, 1, 1))
        assert facts["layers"]["CONVOLUTION"] == {precision: convolutions}
        assert facts["layers"]["MATRIX_MULTIPLY"] == {precision: 1}
        assert [precision_faults(facts["layers"], other) for other in PRECISIONS] == [
            0 if other == precision else convolutions + 1 for other in PRECISIONS
        ]


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize("precision", [pytest.param("bfloat16", marks=pytest.mark.slow), "int8"])
def test_what_ships_is_built_ahead_of_time_for_all_batches_and_gpus(precision: str, tmp_path: Path) -> None:
    network, shape = _network(SPACES[2])
    onnx, path = tmp_path / "model.onnx", tmp_path / "new" / "model.engine"
    write_onnx(network, shape, onnx, final=True, precision=precision, symmetric=True)
    facts = write_engine(onnx, path, precision=precision, batches=(1, 4, 8))
    assert facts["library"].startswith("tensorrt_rtx")
    assert facts["built_for"] == ["SM86", "SM89", "SM120"]
    assert facts["timing_cache"] is None
    assert facts["layers_from"] == PARSED
    assert not facts["runs_here"]
    assert precision_faults(facts["layers"], precision) == 0
    assert path.stat().st_size > onnx.stat().st_size / 2


@pytest.mark.usefixtures("rtx")
def test_what_the_library_refuses_is_told_and_leaves_the_old_engine(tmp_path: Path) -> None:
    network, shape = _network(SPACES[2])
    onnx, path = tmp_path / "model.onnx", tmp_path / "model.engine"
    path.write_text("old")
    write_onnx(network, shape, onnx, final=False)
    with pytest.raises(
        ExportError, match="no engine in float32: TensorRT-RTX does not build for SM90, only for"
    ) as seen:
        write_engine(onnx, path, precision="float32", batches=(1, 1, 1), capabilities=("SM90",))
    assert "unas-hw export --format onnx" in seen.value.mend
    write_onnx(network, shape, onnx, final=False, precision="int8", symmetric=False)
    with pytest.raises(ExportError, match=r"no engine in int8: node .*QuantizeLinear.*: .*Non-zero zero point"):
        write_engine(onnx, path, precision="int8", batches=(1, 1, 1))
    onnx.unlink()
    with pytest.raises(FileError, match="there is no such file"):
        write_engine(onnx, path, precision="float32", batches=(1, 1, 1))
    assert path.read_text() == "old"


def test_without_a_library_both_ways_to_one_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_build, "LIBRARIES", ("no_such_tensorrt",))
    with pytest.raises(MissingDependencyError, match="No module named 'no_such_tensorrt'") as seen:
        write_engine(tmp_path / "model.onnx", tmp_path / "e", precision="float32", batches=(1, 1, 1))
    assert "pip install 'unas-hw[tensorrt]'" in seen.value.mend
    assert "'unas-hw[tensorrt-rtx]'" in seen.value.mend
    assert "\n" not in seen.value.mend


# --- with a GPU -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["tensorrt", "tensorrt_rtx"])
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeTensorRt:
    monkeypatch.setenv("UNAS_HW_HOME", str(tmp_path / "home"))
    return install(request.param, monkeypatch)


def _written(folder: Path, model: str = "HALF -1 3", **options: Any) -> dict[str, Any]:
    (folder / "model.onnx").write_text(model)
    options = {"precision": "float16", "batches": (1, 2, 4), **options}
    return write_engine(folder / "model.onnx", folder / "model.engine", **options)


def test_an_engine_for_the_gpu_at_hand_tells_its_types_itself(fake: FakeTensorRt, tmp_path: Path) -> None:
    facts = _written(tmp_path)
    assert facts["built_for"] == [AT_HAND]
    assert facts["layers"] == {"CaskConvolution": {"float16": 1}}
    assert facts["layers_from"] == INSPECTED
    assert facts["runs_here"]
    assert fake.builds[0]["batches"] == [1, 2, 4]
    assert fake.builds[0]["capabilities"] == (["current"] if fake.rtx else [])
    assert tensorrt_build.deserialize((tmp_path / "model.engine").read_bytes())


def test_an_engine_that_computes_in_something_else_has_faults(fake: FakeTensorRt, tmp_path: Path) -> None:
    fake.kernels = "FLOAT"
    assert precision_faults(_written(tmp_path)["layers"], "float16") == 1
    fake.kernels = "HALF"
    assert precision_faults(_written(tmp_path)["layers"], "float16") == 0


def test_where_the_engine_tells_no_types_they_are_those_of_the_network(fake: FakeTensorRt, tmp_path: Path) -> None:
    fake.ProfilingVerbosity.DETAILED = "names alone"
    facts = _written(tmp_path)
    assert facts["layers"] == {"CONVOLUTION": {"float16": 1}}
    assert facts["layers_from"] == PARSED


@pytest.mark.parametrize("fake", [False], ids=["tensorrt"], indirect=True)
def test_timings_are_kept_for_the_next_engine_and_damaged_ones_are_replaced(fake: FakeTensorRt, tmp_path: Path) -> None:
    first = Path(_written(tmp_path)["timing_cache"])
    assert first == tmp_path / "home" / "tensorrt" / "tensorrt-11.4-NVIDIA-Fake-4000.timing"
    assert first.read_bytes() == b"t"
    _written(tmp_path)
    assert first.read_bytes() == b"tt"
    first.write_bytes(b"damaged")
    _written(tmp_path)
    assert first.read_bytes() == b"t"
    assert [each["cache"] for each in fake.builds] == [b"", b"t", b""]
    fake.__version__ = "11.5"
    assert Path(_written(tmp_path)["timing_cache"]) != first


@pytest.mark.parametrize("fake", [True], ids=["tensorrt_rtx"], indirect=True)
def test_tensorrt_rtx_keeps_no_timings(fake: FakeTensorRt, tmp_path: Path) -> None:
    assert _written(tmp_path)["timing_cache"] is None
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("step", ["build", "deserialize"])
def test_a_step_that_fails_writes_nothing_and_is_told_in_the_librarys_words(
    fake: FakeTensorRt, step: str, tmp_path: Path
) -> None:
    fake.refuses = step
    with pytest.raises(ExportError, match=rf"^TensorRT builds no engine in float16: {step} \(no reason\)\n"):
        _written(tmp_path)
    assert not (tmp_path / "model.engine").exists()


@pytest.mark.parametrize("fake", [False], ids=["tensorrt"], indirect=True)
def test_tensorrt_without_a_gpu_says_what_needs_none(
    fake: FakeTensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExportError, match="TensorRT-RTX builds for others"):
        _written(tmp_path, capabilities=("SM86",))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ExportError, match=r"GPU at hand only: PyTorch .* sees no NVIDIA GPU") as seen:
        _written(tmp_path)
    assert "pip install 'unas-hw[tensorrt-rtx]'" in seen.value.mend


@pytest.mark.parametrize("fake", [True], ids=["tensorrt_rtx"], indirect=True)
def test_other_gpus_than_the_one_at_hand_are_built_for_where_they_are_named(fake: FakeTensorRt, tmp_path: Path) -> None:
    fake.ComputeCapability.__members__.update({name: name for name in AHEAD_OF_TIME})
    fake.refuses = "deserialize"
    facts = _written(tmp_path, capabilities=("SM120",))
    assert facts["built_for"] == fake.builds[0]["capabilities"] == ["SM120"]
    assert facts["layers_from"] == PARSED
    assert not facts["runs_here"]


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "precision", "faults"),
    [
        ({"CONVOLUTION": {"float32": 3}, "MATRIX_MULTIPLY": {"float32": 1}}, "tf32", 0),
        ({"CONVOLUTION": {"float32": 3}, "MATRIX_MULTIPLY": {"float32": 1}}, "bfloat16", 4),
        ({"CONVOLUTION": {"int8": 3, "float32": 1}, "ACTIVATION": {"float32": 9}}, "int8", 1),
        ({"CaskConvolution": {"float16": 3}, "Reformat": {"float32": 2}, "PointWiseV2": {"float32": 1}}, "float16", 0),
        ({"gemm": {"float16": 1}, "kgen (product)": {"float32": 2}, "kgen": {"float32": 5}}, "float16", 2),
        ({"CublasConvolution": {"float16": 1}, "CaskGemmMatrixMultiply": {"bfloat16": 1}}, "float16", 1),
        ({"FusedConvActConvolution": {"float32": 1}, "Converter": {"float16": 1}}, "float32", 0),
        ({"CaskConvolution": {"unknown": 1, "float16": 2}}, "float16", 0),
        ({"kgen": {"float16": 4, "float32": 1, "int64": 2}}, "float16", 1),  # none says that it convolves
        ({}, "float16", 0),
    ],
)
def test_faults_are_the_layers_that_compute_in_another_precision(
    layers: dict[str, dict[str, int]], precision: str, faults: int
) -> None:
    assert precision_faults(layers, precision) == faults
