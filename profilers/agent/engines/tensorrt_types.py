"""The types that TensorRT computes in: what an ONNX file asks for, and what an engine has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from profilers.agent.engines.tensorrt_build import library, parsed

TYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT8": "int8", "INT32": "int32", "INT64": "int64"}
"""The project's names, which are PyTorch's, of the library's."""

_SHORT = {"float32": "fp32 float", "float16": "fp16 half", "bfloat16": "bf16", "float8": "fp8"}
WORDS = {word: name for name, words in _SHORT.items() for word in (name, *words.split())}
WORDS.update({name: name for name in ("int8", "int32", "int64", "bool")})
"""The same, of words with which the inspector describes a tensor, which differ from version to version."""

UNKNOWN = "unknown"
UNCOUNTED = ("int32", "int64", "bool", UNKNOWN)
"""Not of what a network computes: shapes, indices and conditions."""

PRODUCTS = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
COMPUTES = re.compile(r"conv(?!ert)|correlation|gemm|mat_?mul|matrix_?multiply|fully_?connected|product", re.I)
"""In the kind of a layer that convolves or multiplies matrices: of networks (``PRODUCTS``), and of engines, where it is
called by its kernels, ``CaskConvolution``, ``CublasConvolution``, ``CaskGemmMatrixMultiply``, ``gemm``."""
FUSED = re.compile(COMPUTES.pattern + r"|xmma|fprop|(?-i:_myl_\w*(?:Fc|Dot)[A-Z_])", re.I)
"""In the kernel, or the name, of a layer that does so among other things and is of the kind ``kgen`` or ``fusion``."""


def parsed_types(path: str) -> dict[str, dict[str, int]]:
    """What the strongly typed network of an ONNX file computes in, which needs no GPU.

    A convolution or matrix product both of whose factors are dequantised from 8-bit integers counts as ``int8``,
    although floats stand before it: quantise and dequantise nodes around it are how a file asks for that, and the
    builder fuses them.

    Returns:
        How many layers of a kind there are by type: ``{"CONVOLUTION": {"float16": 52}}``. Types are named as in
        ``load_engine``, TF32 is ``float32``. Constants do not compute.

    Raises:
        RuntimeError: With the library's own words.
    """
    with open(path, "rb") as file:
        return types_of_model(file.read())


def types_of_model(model: bytes) -> dict[str, dict[str, int]]:
    """As ``parsed_types``, of what is in the file."""
    _builder, network, _parser = parsed(model)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    makers = {layer.get_output(index).name: layer for layer in layers for index in range(layer.num_outputs)}
    return _counted((layer.type.name, _asked(layer, makers)) for layer in layers if layer.type.name != "CONSTANT")


def _asked(layer: Any, makers: dict[str, Any]) -> str:
    inputs = [tensor for index in range(layer.num_inputs) if (tensor := layer.get_input(index)) is not None]
    factors = [makers.get(tensor.name) for tensor in inputs[:2]]  # None made what comes from outside
    if layer.type.name in PRODUCTS and len(factors) == 2 and all(map(_is_from_int8, factors)):
        return "int8"
    name = str((inputs[0] if inputs else layer.get_output(0)).dtype.name)
    return TYPES.get(name, name.lower())


def _is_from_int8(layer: Any) -> bool:
    return layer is not None and layer.type.name == "DEQUANTIZE" and layer.get_input(0).dtype.name == "INT8"


def inspected_types(engine: Any) -> dict[str, dict[str, int]]:
    """What an engine of the library computes in, which needs the GPU that it is for.

    Returns:
        As ``parsed_types``, where kinds of layers are those of the engine: ``{"CaskConvolution": {"int8": 20}}``. One
        that was fused of several and also convolves or multiplies matrices says so: ``kgen (product)``. Types that are
        not known are ``unknown``. Empty where the engine was not built to name types.
    """
    trt = library()
    inspector = engine.create_engine_inspector()
    context = _context(trt, engine)
    if context is not None:
        inspector.execution_context = context
        found = types_in(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
        if found:
            return found
        inspector = engine.create_engine_inspector()
    return types_in(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def _context(trt: Any, engine: Any) -> Any:
    """Of the shapes that a dynamic engine is tuned for: without one, formats are ``N/A due to dynamic shapes``."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    dynamic = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    dynamic = [name for name in dynamic if -1 in tuple(engine.get_tensor_shape(name))]
    if not dynamic:
        return None
    context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)  # takes no memory
    for name in dynamic:
        if context is not None:
            context.set_input_shape(name, tuple(engine.get_tensor_profile_shape(name, 0)[1]))
    return context


def types_in(information: str) -> dict[str, dict[str, int]]:
    """As ``inspected_types``, of the inspector's JSON."""
    without = re.sub(r',\s*"Metadata": ".*"(?=\s*[,}])', "", information)  # whose quotes are as they are
    for text in (information, without):
        try:
            layers = json.loads(text)["Layers"]
        except (ValueError, KeyError, TypeError):
            continue
        found = _counted((_kind(layer), _real(layer)) for layer in layers if isinstance(layer, dict))
        return found if any(name != UNKNOWN for types in found.values() for name in types) else {}
    return {}


def _kind(layer: dict[str, Any]) -> str:
    kind = str(layer.get("LayerType", UNKNOWN))
    kernel = "{} {}".format(layer.get("TacticName", ""), layer.get("Name", ""))
    generated = kind.lower() in ("kgen", "fusion") or "myelin" in kind.lower()
    return f"{kind} (product)" if generated and FUSED.search(kernel) else kind


def _real(layer: dict[str, Any]) -> str:
    """What comes in says it: weights may be of fewer bits than what is computed with them."""
    weights = layer.get("Weights")
    described = [*(layer.get("Inputs") or [])[:1], weights, *(layer.get("Outputs") or [])[:1]]
    types = [_described(each) for each in described if isinstance(each, dict)]
    return next((name for name in types if name != UNKNOWN), UNKNOWN)


def _described(tensor: dict[str, Any]) -> str:
    """A type by the first word that names one; ``DataType`` is how TensorRT 11 calls what stood beside the format."""
    for key in ("DataType", "Datatype", "Type", "Format/Datatype", "Format"):
        for word in re.findall(r"[a-z0-9]+", str(tensor.get(key, "")).lower()):
            if word in WORDS:
                return WORDS[word]
    return UNKNOWN


def _counted(layers: Iterator[tuple[str, str]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for kind, name in layers:
        types = found.setdefault(kind, {})
        types[name] = types.get(name, 0) + 1
    return found
