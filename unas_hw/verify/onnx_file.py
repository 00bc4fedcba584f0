"""What an ONNX file says of itself: valid, whole, in the opset, types and batches that were asked for."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from profilers.runtimes.onnx_edit import INPUT, OUTPUT
from profilers.runtimes.onnx_file import opset_of
from unas_hw.export.batches import Batches
from unas_hw.verify import Check

WARNINGS_S = 120
_LOAD = """
import sys, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 2
onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
"""
_OF_THE_MACHINE = "device_discovery"
"""Warnings of onnxruntime that are not about the file: it looks for GPUs."""


def onnx_checks(
    path: Path, profiled: Path, *, opset: int, batches: Batches, precision: str, properties: dict[str, str]
) -> Iterator[Check]:
    """Of the file by itself, and of its arithmetic beside that of ``profiled``, the same network as it is timed.

    It should have this opset, take these batches, compute in this precision and hold these properties.
    """
    import onnx

    problem = ""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # of protobuf, of the checker or of shape inference: they share no base
        problem = str(error).strip().partition("\n")[0] or type(error).__name__
    yield Check("onnx.checker errors", bool(problem), 0, problem)
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # of protobuf
        yield Check("files that are no ONNX", 1, 0, str(error).partition("\n")[0])
        return
    graph = model.graph
    yield Check("distance from the opset", abs(opset_of(model) - opset), 0, f"opset {opset_of(model)}, {opset} asked")
    outside = sum(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer)
    yield Check("weights outside the file", outside, 0)
    if outside:
        return
    yield Check("inputs and outputs of other names", _misnamed(graph), 0)
    first = [value.type.tensor_type.shape.dim[0] for value in graph.input if value.type.tensor_type.shape.dim]
    wrong = sum(bool(dim.dim_param) != batches.dynamic for dim in first)
    wrong += sum(dim.dim_value != batches.least for dim in first) if not batches.dynamic else 0
    yield Check("inputs of another batch", wrong, 0, f"{batches} asked")
    yield Check("weights that are no numbers", _no_numbers(graph), 0)
    yield Check(f"layers not in {precision}", sum(kind != precision for kind in layer_types(model)), 0)
    yield Check("batch normalisation after a convolution", _unfolded(graph), 0)
    missing = properties.items() - {(each.key, each.value) for each in model.metadata_props}
    yield Check("properties missing", len(missing), 0, ", ".join(sorted(name for name, _ in missing)))
    unlike = _differing(_nodes(model), _nodes(onnx.load(profiled)))
    yield Check("arithmetic nodes unlike the profiled ones", unlike, 0)


def runtime_warnings(path: Path) -> Check:
    """What onnxruntime says when it loads the file; in a process of its own, as it writes to the error stream."""
    command = [sys.executable, "-c", _LOAD, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=WARNINGS_S)
        said = [line for line in done.stderr.splitlines() if line.strip() and _OF_THE_MACHINE not in line]
        ended = done.returncode
    except subprocess.TimeoutExpired:
        said, ended = [f"no answer in {WARNINGS_S} s"], 1
    return Check("warnings of onnxruntime", max(len(said), bool(ended)), 0, said[-1] if said else "")


def layer_types(model: Any) -> list[str]:
    """The type that each convolution and matrix product computes in, by its weights; ``int8`` if these and its input
    are dequantised from 8 bits, which runtimes fuse.
    """
    import onnx

    names = {
        onnx.TensorProto.FLOAT: "float32",
        onnx.TensorProto.FLOAT16: "float16",
        onnx.TensorProto.BFLOAT16: "bfloat16",
        onnx.TensorProto.INT8: "int8",
    }
    stored = {tensor.name: names.get(tensor.data_type, "other") for tensor in model.graph.initializer}
    dequantised = {
        node.output[0]: stored.get(node.input[0], "int8")
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
    }
    found = []
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            data, weight = node.input[0], node.input[1]
            both = data in dequantised and weight in dequantised
            found.append(dequantised[weight] if both else stored.get(weight, "other"))
    return found


def _misnamed(graph: Any) -> int:
    return ([value.name for value in graph.input] != [INPUT]) + ([value.name for value in graph.output] != [OUTPUT])


def _no_numbers(graph: Any) -> int:
    import onnx

    wrong = 0
    for tensor in graph.initializer:
        try:
            values = onnx.numpy_helper.to_array(tensor)
        except Exception:  # a damaged tensor, which the checker names
            wrong += 1
            continue
        if values.dtype.kind not in "iub":
            wrong += not np.isfinite(values.astype(np.float32)).all()
    return wrong


def _unfolded(graph: Any) -> int:
    """Batch normalisation whose input comes from a convolution and from nothing else."""
    made = {node.output[0] for node in graph.node if node.op_type == "Conv" and node.output}
    return sum(node.op_type == "BatchNormalization" and node.input[0] in made for node in graph.node)


_SAME = {"GlobalAveragePool": "ReduceMean", "Hardtanh": "Clip", "MatMul": "Gemm"}
_ARITHMETIC = {"Conv", "Gemm", "Clip", "Relu", "ReduceMean", "BatchNormalization", "MaxPool", "AveragePool", "Mul"}


def _nodes(model: Any) -> Counter[str]:
    """Arithmetic of the graph; the exporters spell pooling and reshaping in their own ways, and only that of what ships
    leaves out a rectifier right after another, or with nothing but a rounding to 8 bits between.
    """
    kinds: Counter[str] = Counter()
    rectified: set[str] = set()
    for node in model.graph.node:  # in an order in which all inputs are known
        kind: str = node.op_type
        kind = _SAME.get(kind, kind)
        again = bool(node.input) and node.input[0] in rectified
        if kind == "Relu" or (again and kind in ("QuantizeLinear", "DequantizeLinear")):
            rectified.add(node.output[0])
        kinds[kind] += kind in _ARITHMETIC and not (again and kind == "Relu")
    return +kinds


def _differing(left: Counter[str], right: Counter[str]) -> int:
    """Nodes of one only; the exporter of what ships folds batch normalisation that the older one leaves."""
    lacking = right - left
    del lacking["BatchNormalization"]
    return ((left - right) + lacking).total()
