"""TensorRT: engines are built ahead of time, for GPUs that are not here; a small fake of the library stands in for what
needs one.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from profilers.agent.engines import load_engine, tensorrt_build
from profilers.agent.engines import tensorrt as engine
from profilers.agent.engines.tensorrt_build import library
from profilers.agent.engines.tensorrt_types import parsed_types
from profilers.errors import ConversionError
from profilers.runtimes.onnx_file import write_onnx
from profilers.runtimes.quantization import random_images
from profilers.runtimes.tensorrt import TensorRt
from tests.profilers import fake_tensorrt
from tests.profilers.fake_tensorrt import FakeTensorRt, install, layer_told

GPUS = ("SM86", "SM89", "SM120")
"""GeForce RTX 30, 40 and 50."""
SHAPE = (1, 3, 16, 16)


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


# --- what cannot be built is named ------------------------------------------------------------------------------------


def test_each_of_several_gpus_is_built_for_and_one_that_cannot_is_named(trt: Any, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    TensorRt().convert(_network(), SHAPE, path)
    assert tensorrt_build.build(str(path), "float32", capabilities=("SM86",))
    for gpus in (("SM75",), ("SM86", "SM75")):
        with pytest.raises(RuntimeError, match=r"'/4/Gemm' for Turing \(SM75\): FP32 GEMM is not supported"):
            tensorrt_build.build(str(path), "float32", capabilities=gpus)
    TensorRt().convert(_network(), SHAPE, path, "float16")
    assert tensorrt_build.build(str(path), "float16", capabilities=("SM86", "SM75"))


def test_a_gpu_that_is_not_known_is_answered_with_those_that_are(trt: Any, tmp_path: Path) -> None:
    TensorRt().convert(_network(), SHAPE, tmp_path / "network.onnx")
    with pytest.raises(RuntimeError, match=r"does not build for SM90, only for .*SM89, SM120"):
        tensorrt_build.build(str(tmp_path / "network.onnx"), "float32", capabilities=("SM90",))


def test_zeros_that_are_not_at_zero_are_refused_at_the_node(trt: Any, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    write_onnx(_network(), SHAPE, path, final=False, precision="int8", symmetric=False, images=_positive())
    with pytest.raises(RuntimeError, match=r"node input_QuantizeLinear \(QuantizeLinear\): .*Non-zero zero point"):
        tensorrt_build.build(str(path), "int8", capabilities=GPUS)


def _positive() -> Iterator[Any]:
    return (np.abs(image) for image in random_images(SHAPE))


def test_an_operation_that_it_does_not_have_is_named(trt: Any, tmp_path: Path) -> None:
    for op, domain, reason in (("Unique", "", "is not supported"), ("Wobble", "custom", "Plugin not found")):
        node = helper.make_node(op, ["input"], ["logits"], name="the_node", domain=domain)
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("input", "logits")]
        graph = helper.make_graph([node], "graph", values[:1], values[1:])
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("custom", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "network.onnx")
        with pytest.raises(RuntimeError, match=rf"node the_node \({op}\): .*{reason}"):
            tensorrt_build.build(str(tmp_path / "network.onnx"), "float32", capabilities=GPUS)


def test_types_that_do_not_fit_are_told_with_the_node_in_one_line(trt: Any, tmp_path: Path) -> None:
    """No driver is here, which the library says too, again and again."""
    nodes = [
        helper.make_node("Cast", ["input"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["half", "kernel"], ["logits"], name="the_node"),
    ]
    kernel = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "kernel")
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, SHAPE)
    made = helper.make_tensor_value_info("logits", TensorProto.FLOAT16, (1, 4, 14, 14))
    graph = helper.make_graph(nodes, "graph", [given], [made], [kernel])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "network.onnx")
    with pytest.raises(RuntimeError, match=r"^node the_node \(Conv\): .*must be of same type.*$") as seen:
        parsed_types(str(tmp_path / "network.onnx"))
    assert "\n" not in str(seen.value)


def test_bytes_that_are_no_network_are_refused(trt: Any, tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(b"damaged")
    with pytest.raises(RuntimeError, match="no network in the file"):
        tensorrt_build.build(str(tmp_path / "network.onnx"), "float32", capabilities=GPUS)


# --- what is asked for is what is built -------------------------------------------------------------------------------


def test_what_ships_is_built_for_the_batches_that_were_asked_for(trt: Any, tmp_path: Path) -> None:
    write_onnx(_network(), SHAPE, tmp_path / "network.onnx", final=True)
    for batch in (1, 8):
        assert tensorrt_build.build(
            str(tmp_path / "network.onnx"), "float32", batches=(1, batch, batch), capabilities=GPUS
        )


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_the_types_of_a_file_are_those_that_it_was_written_in(
    trt: Any, precision: str, final: bool, tmp_path: Path
) -> None:
    path = tmp_path / "network.onnx"
    write_onnx(_network(), SHAPE, path, final=final, precision=precision, symmetric=True)
    types = parsed_types(str(path))
    assert {kind: types[kind] for kind in ("CONVOLUTION", "MATRIX_MULTIPLY")} == {
        "CONVOLUTION": {precision: 1},
        "MATRIX_MULTIPLY": {precision: 1},
    }
    assert "CONSTANT" not in types
    assert types["ACTIVATION"] == {"float32" if precision == "int8" else precision: 1}


def test_a_file_in_bfloat16_computes_in_it(trt: Any, tmp_path: Path) -> None:
    TensorRt().convert(_network(), SHAPE, tmp_path / "network.onnx", "bfloat16")
    assert parsed_types(str(tmp_path / "network.onnx"))["CONVOLUTION"] == {"bfloat16": 1}
    assert tensorrt_build.build(str(tmp_path / "network.onnx"), "bfloat16", capabilities=GPUS)


def test_weights_alone_in_8_bits_do_not_make_it_compute_in_them(trt: Any, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    write_onnx(_network(), SHAPE, path, final=False, precision="int8", symmetric=True)
    model = onnx.load(path)
    (conv,) = [node for node in model.graph.node if node.op_type == "Conv"]
    conv.input[0] = "input"  # as it comes, not quantised
    onnx.save(model, path)
    assert parsed_types(str(path))["CONVOLUTION"] == {"float32": 1}


def test_float32_is_rounded_to_tf32_only_where_that_is_asked_for(
    trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    aim = tensorrt_build._aim

    def watched(trt: Any, config: Any, capabilities: Any) -> None:
        seen.append(config.get_flag(trt.BuilderFlag.TF32))
        aim(trt, config, capabilities)

    monkeypatch.setattr(tensorrt_build, "_aim", watched)
    for precision in ("float32", "tf32", "float16"):
        TensorRt().convert(_network(), SHAPE, tmp_path / "network.onnx", precision)
        tensorrt_build.build(str(tmp_path / "network.onnx"), precision, capabilities=GPUS)
    assert seen == [False, True, False]


# --- where it runs ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["tensorrt", "tensorrt_rtx"])
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    return install(request.param, monkeypatch)


def _load(folder: Path, model: str, precision: str = "float32", *options: str) -> Any:
    (folder / "network.onnx").write_text(model)
    return load_engine("tensorrt", str(folder / "network.onnx"), 1, precision, options)


@pytest.mark.parametrize("dtype", ["FLOAT", "HALF"])
def test_what_runs_takes_and_gives_float32_whatever_it_computes_in(
    fake: FakeTensorRt, dtype: str, tmp_path: Path
) -> None:
    loaded = _load(tmp_path, f"{dtype} 2 3")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    out = loaded.run(x)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, 2 * x)
    assert loaded.details["library"] == f"{fake.__name__} {fake.__version__}"


def test_it_is_built_for_the_gpu_at_hand_and_knows_what_was_found_out_before(
    fake: FakeTensorRt, tmp_path: Path
) -> None:
    for _ in range(2):
        _load(tmp_path, "FLOAT 2 3", "tf32")
    assert [each["capabilities"] for each in fake.builds] == [["current"] if fake.rtx else []] * 2
    assert [each["cache"] for each in fake.builds] == ([None, None] if fake.rtx else [b"", b"t"])
    assert [each["flags"] for each in fake.builds] == [{"TF32"}] * 2


def test_a_network_of_any_batch_is_built_for_that_of_its_input_and_what_was_bound_stays(
    fake: FakeTensorRt, tmp_path: Path
) -> None:
    loaded = _load(tmp_path, "FLOAT -1 3")
    (tmp_path / "network.onnx").unlink()  # as the agent does
    first = np.ones((1, 3), np.float32)
    call = loaded.bind(first)
    kept = loaded.bound[1, 3]
    for batch in (4, 1):
        x = np.full((batch, 3), batch, np.float32)
        np.testing.assert_array_equal(loaded.run(x), 2 * x)
    assert [each["batches"] for each in fake.builds] == [[1, 1, 1], [1, 4, 4]]
    assert loaded.bound[1, 3] is kept
    kept[1].copy_(torch.full((1, 3), 5.0))
    call()
    np.testing.assert_array_equal(kept[2].numpy(), np.full((1, 3), 10.0))


@pytest.mark.parametrize(("members", "flags"), [({"STRONGLY_TYPED": 0}, 1), ({"STRONGLY_TYPED": 1}, 2), ({}, 0)])
def test_networks_are_strongly_typed_in_every_version(
    fake: FakeTensorRt, members: dict[str, int], flags: int, tmp_path: Path
) -> None:
    """1 in TensorRT 10; from 11 on all are, and the flag does nothing."""
    fake.NetworkDefinitionCreationFlag = SimpleNamespace(**members)
    _load(tmp_path, "FLOAT 2 3")
    assert fake.network_flags == flags


@pytest.mark.parametrize("shape", ["2 3", "-1 3"])
def test_an_engine_tells_the_types_of_its_layers_of_any_batch_too(
    fake: FakeTensorRt, shape: str, tmp_path: Path
) -> None:
    fake.kernels = "INT8"
    assert _load(tmp_path, f"HALF {shape}").details["layers"] == {"CaskConvolution": {"int8": 1}}


def test_where_an_engine_tells_no_types_they_are_those_of_its_file(fake: FakeTensorRt, tmp_path: Path) -> None:
    fake.ProfilingVerbosity = SimpleNamespace(DETAILED="names alone")
    assert _load(tmp_path, "HALF -1 3").details["layers"] == {"CONVOLUTION": {"float16": 1}}
    plan = tensorrt_build.build(str(tmp_path / "network.onnx"), "float16")
    assert _engine(tmp_path, plan).details["layers"] == {}


def test_an_inspector_that_says_nothing_of_a_shape_is_asked_without_one(
    fake: FakeTensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(inspector: Any, format_: str) -> str:
        return "" if inspector.execution_context else json.dumps({"Layers": [layer_told("gemm", ["Half"], "Half")]})

    monkeypatch.setattr(fake_tensorrt.Inspector, "get_engine_information", told)
    assert _load(tmp_path, "FLOAT -1 3").details["layers"] == {"gemm": {"float16": 1}}


def _engine(folder: Path, plan: bytes) -> Any:
    (folder / "network.engine").write_bytes(plan)
    return load_engine("tensorrt", str(folder / "network.engine"), 1, "float32", ())


def test_what_was_built_before_runs_every_batch_that_it_was_built_for_and_no_other(
    fake: FakeTensorRt, tmp_path: Path
) -> None:
    (tmp_path / "network.onnx").write_text("FLOAT -1 3")
    loaded = _engine(tmp_path, tensorrt_build.build(str(tmp_path / "network.onnx"), "float32", batches=(2, 3, 8)))
    for batch in (2, 8):
        x = np.full((batch, 3), batch, np.float32)
        np.testing.assert_array_equal(loaded.run(x), 2 * x)
    assert [each["batches"] for each in fake.builds] == [[2, 3, 8]]
    assert loaded.details["layers"] == {}  # this one was not built to tell them
    for batch in (1, 9):
        with pytest.raises(RuntimeError, match=rf"input cannot have the shape \({batch}, 3\)"):
            loaded.run(np.zeros((batch, 3), np.float32))


def test_an_engine_that_cannot_be_read_here_is_refused_in_the_librarys_words(
    fake: FakeTensorRt, tmp_path: Path
) -> None:
    fake.logger = tensorrt_build.logger(fake)
    fake.logger.errors.append("something that was wrong earlier")
    with pytest.raises(RuntimeError, match=r"^Serialization \(tag\)$"):
        _engine(tmp_path, b"another version's")


@pytest.mark.parametrize("fake", [False], ids=["tensorrt"], indirect=True)
def test_timings_that_are_damaged_are_replaced_and_what_fails_later_is_told(fake: FakeTensorRt, tmp_path: Path) -> None:
    timings, path = bytearray(b"damaged"), tmp_path / "network.onnx"
    path.write_text("FLOAT 2 3")
    tensorrt_build.build(str(path), "float32", timing_cache=timings)
    assert timings == b"t"
    fake.refuses = "build"
    with pytest.raises(RuntimeError, match=r"^build \(no reason\)$"):
        tensorrt_build.build(str(path), "float32", timing_cache=bytearray(b"damaged"))


def test_it_is_timed_by_the_gpus_clock_on_a_stream_of_its_own(
    fake: FakeTensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    class Timer:
        def __init__(self, call: Callable[[], object], details: dict[str, Any], clock: str | None) -> None:
            details["clock"] = "cuda-events"
            asked.append(clock)
            self.call = call

        def __call__(self, calls: int) -> float:
            for _ in range(calls):
                self.call()
            return calls * 1e-3

        def spin(self, seconds: float) -> int:
            self.call()
            return round(seconds * 1e3)

    monkeypatch.setattr(engine, "cuda_timer", Timer)
    for options, clock in (((), None), (("cuda", "graph"), "graph")):
        loaded = _load(tmp_path, "FLOAT 2 3", "float32", *options)
        time_s = loaded.timer((2, 3))
        fake.streams.clear()
        assert time_s(3) == 3e-3 and loaded.spin((2, 3), 0.5) == 500
        assert fake.streams == [7] * 4
        assert loaded.details["clock"] == "cuda-events" and asked[-1] == clock


def test_two_clocks_are_one_too_many(fake: FakeTensorRt, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="two clocks"):
        _load(tmp_path, "FLOAT 2 3", "float32", "events", "graph")


@pytest.mark.parametrize("step", ["build", "deserialize", "execute"])
def test_a_step_that_fails_in_silence_is_an_error_with_the_reason_from_the_log(
    fake: FakeTensorRt, step: str, tmp_path: Path
) -> None:
    fake.refuses = step
    with pytest.raises(RuntimeError, match=rf"^{step} \(no reason\)$"):
        _load(tmp_path, "FLOAT 2 3").run(np.zeros((2, 3), np.float32))


def test_another_shape_than_the_networks_is_refused(fake: FakeTensorRt, tmp_path: Path) -> None:
    loaded = _load(tmp_path, "FLOAT 2 3")
    with pytest.raises(RuntimeError, match=r"input cannot have the shape \(2, 4\)"):
        loaded.run(np.zeros((2, 4), np.float32))


@pytest.mark.parametrize("fake", [False], ids=["tensorrt"], indirect=True)
def test_tensorrt_builds_for_no_other_gpu_and_says_who_does(fake: FakeTensorRt, tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_text("FLOAT 2 3")
    with pytest.raises(RuntimeError, match="GPU at hand only; TensorRT-RTX builds for others"):
        tensorrt_build.build(str(tmp_path / "network.onnx"), "float32", capabilities=GPUS)


# --- what is missing --------------------------------------------------------------------------------------------------


def test_without_a_driver_a_gpu_or_pytorch_loading_says_which_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    path = tmp_path / "network.onnx"
    TensorRt().convert(_network(), SHAPE, path)
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(
        ConversionError, match=r"network\.onnx: there is no NVIDIA driver: libcuda\.so\.1 cannot be loaded"
    ):
        TensorRt().load(path, 1)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConversionError, match=r"PyTorch \S+ sees no NVIDIA GPU"):
        TensorRt().load(path, 1)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConversionError, match=r"PyTorch.* is not installed"):
        TensorRt().load(path, 1)


def test_without_a_gpu_the_library_itself_says_so_too(trt: Any, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    TensorRt().convert(_network(), SHAPE, tmp_path / "network.onnx")
    with pytest.raises(RuntimeError, match="cudaError"):
        tensorrt_build.build(str(tmp_path / "network.onnx"), "float32", capabilities=("CURRENT",))


def test_the_library_is_the_first_that_can_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bindings without their libraries are found, but their import fails; one of them by OSError."""
    failures = {
        "tensorrt": ImportError("libnvonnxparser.so.11: no such file"),
        "tensorrt_rtx": OSError("no libnvinfer"),
    }
    there = ModuleType("tensorrt_rtx_bindings")

    def imported(name: str) -> ModuleType:
        if name in failures:
            raise failures[name]
        return there

    monkeypatch.setattr(tensorrt_build, "import_module", imported)
    assert library() is there
    failures["tensorrt_rtx_bindings"] = ImportError("No module named 'tensorrt_rtx_bindings'")
    with pytest.raises(RuntimeError, match=r"cannot be imported \(libnvonnxparser.*; no libnvinfer; No module"):
        library()
