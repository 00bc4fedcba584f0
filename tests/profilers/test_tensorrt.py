"""TensorRT: engines are built ahead of time, for GPUs that are not here; what cannot be built is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from profilers.agent.engines import tensorrt_build
from profilers.agent.engines.tensorrt_build import library
from profilers.agent.engines.tensorrt_types import parsed_types
from profilers.runtimes.onnx_file import write_onnx
from profilers.runtimes.quantization import random_images
from profilers.runtimes.tensorrt import TensorRt

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


# --- what is missing --------------------------------------------------------------------------------------------------


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
