"""Precisions: their names, and files that are computed in them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from profilers.errors import ConversionError, UnknownNameError
from profilers.opspec import OpSpec
from profilers.precision import PRECISIONS, parse_precision
from profilers.registry import find_runtime
from profilers.runtimes.onnx_file import write_onnx
from profilers.workload import Workload

SHAPE = (1, 3, 16, 16)
LARGEST_ERROR = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 3e-2, "int8": 5e-2}


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(), nn.Conv2d(16, 8, 1)
    ).eval()


@pytest.mark.parametrize(
    ("text", "name"), [("fp16", "float16"), ("BF16", "bfloat16"), ("int8", "int8"), ("tf32", "tf32")]
)
def test_a_precision_has_a_short_and_a_long_name(text: str, name: str) -> None:
    assert parse_precision(text) == parse_precision(name) == name


def test_another_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="no precision is called 'half'") as caught:
        parse_precision("half")
    assert "fp32, tf32, bf16, fp16, int8" in caught.value.mend


@pytest.mark.parametrize(("runtime", "precision"), [
    (runtime, precision)
    for runtime in ("onnxruntime", "openvino", "ncnn")
    for precision in PRECISIONS if precision in find_runtime(runtime).precisions
])  # fmt: skip
def test_an_artifact_computes_nearly_the_same_in_every_precision(
    runtime: str, precision: str, network: nn.Module, tmp_path: Path
) -> None:
    found, path = find_runtime(runtime), tmp_path / "network"
    path = path.with_suffix(found.suffix)
    found.convert(network, SHAPE, path, precision)
    try:
        engine = found.load(path, 1, precision)
    except ConversionError as error:
        if "OpenVINO computes in" in str(error):
            pytest.skip(f"this processor has no {precision}")
        raise
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    seen = engine.run(x)
    assert seen.dtype == np.float32
    assert np.abs(seen - expected).max() < LARGEST_ERROR[precision] * np.abs(expected).max()
    assert engine.timer(SHAPE)(2) > 0


def test_the_module_stays_as_it_was(network: nn.Module, tmp_path: Path) -> None:
    for final in (True, False):
        write_onnx(network, SHAPE, tmp_path / "network.onnx", final=final, precision="float16")
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(("final", "outside"), [(True, onnx.TensorProto.FLOAT), (False, onnx.TensorProto.FLOAT16)])
def test_what_ships_takes_float32_and_what_is_timed_the_type_between_two_operations(
    final: bool, outside: int, network: nn.Module, tmp_path: Path
) -> None:
    write_onnx(network, SHAPE, tmp_path / "network.onnx", final=final, precision="float16")
    model = onnx.load(tmp_path / "network.onnx")
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == outside
    weights = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4}
    assert weights == {onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize("final", [True, False])
def test_eight_bits_are_quantised_per_channel_and_biases_are_left(
    final: bool, network: nn.Module, tmp_path: Path
) -> None:
    write_onnx(network, SHAPE, tmp_path / "network.onnx", final=final, precision="int8", symmetric=True)
    model = onnx.load(tmp_path / "network.onnx")
    types = {tensor.name: tensor for tensor in model.graph.initializer}
    counts = Counter(node.op_type for node in model.graph.node)
    assert counts["QuantizeLinear"] >= 2 and counts["DequantizeLinear"] >= 4
    assert {types[name].data_type for name in types} == {onnx.TensorProto.FLOAT, onnx.TensorProto.INT8}
    assert any(len(tensor.dims) == 1 and tensor.dims[0] == 16 for tensor in types.values() if tensor.data_type == 3)
    zeros = [onnx.numpy_helper.to_array(types[node.input[2]]) for node in model.graph.node if "Linear" in node.op_type]
    assert not np.concatenate([np.ravel(zero) for zero in zeros]).any()


def test_the_ranges_are_those_of_the_images_that_are_given(network: nn.Module, tmp_path: Path) -> None:
    def scales(size: float) -> list[float]:
        images = iter([np.full(SHAPE, size, np.float32)])
        write_onnx(network, SHAPE, tmp_path / "network.onnx", final=False, precision="int8", images=images)
        model = onnx.load(tmp_path / "network.onnx")
        node = next(node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "input")
        return [
            float(onnx.numpy_helper.to_array(each)) for each in model.graph.initializer if each.name == node.input[1]
        ]

    assert scales(100.0)[0] == pytest.approx(100 * scales(1.0)[0], rel=1e-3)


def test_a_shorter_type_moves_fewer_bytes_for_the_same_arithmetic() -> None:
    costs = {
        name: Workload(OpSpec("conv", {"out": 4}, SHAPE, name), lambda: nn.Conv2d(3, 4, 3)).cost for name in PRECISIONS
    }
    assert len({cost.macs for cost in costs.values()}) == 1
    assert costs["float32"].moved_bytes == costs["tf32"].moved_bytes == 4 * costs["int8"].moved_bytes
    assert costs["float16"].moved_bytes == 2 * costs["int8"].moved_bytes
