"""TensorRT: what its inspector says of an engine is read for the types that layers compute in."""

from __future__ import annotations

import json

import pytest

from profilers.agent.engines.tensorrt_types import types_in
from tests.profilers.fake_tensorrt import layer_told, tensor_told


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("Row major linear FP32", "float32"),
        ("Channel major FP16 format where channel % 8 == 0", "float16"),
        ("Thirty-two wide channel vectorized row major Int8 format.", "int8"),
        ("Row major linear BFloat16 format", "bfloat16"),
        ("Channel major BF16 format where channel % 8 == 0", "bfloat16"),
        ("Float", "float32"),
        ("Half(64,1:8,512)", "float16"),
        ("Int8", "int8"),
        ("BFloat16", "bfloat16"),
        ("FP8", "float8"),
    ],
)
def test_types_are_known_by_the_words_of_every_version(words: str, name: str) -> None:
    layer = layer_told("CaskConvolution", [words, "Float"], "Float", Weights={"Type": "Float", "Count": 8})
    assert types_in(json.dumps({"Layers": [layer], "Bindings": []})) == {"CaskConvolution": {name: 1}}


def test_tensorrt_11_tells_the_type_beside_the_format() -> None:
    tensor = {**tensor_told("Row major linear format (kLINEAR)", "Format"), "DataType": "Half"}
    layer = {"LayerType": "CaskConvolution", "Inputs": [tensor], "Outputs": [tensor]}
    assert types_in(json.dumps({"Layers": [layer], "I/O Tensors": []})) == {"CaskConvolution": {"float16": 1}}


def test_layers_of_unknown_shapes_are_known_by_their_weights() -> None:
    unknown = "N/A due to dynamic shapes"
    layers = [
        layer_told("CaskConvolution", [unknown], unknown, Weights={"Type": "Half", "Count": 8}),
        layer_told("CaskPooling", [unknown], unknown),
    ]
    assert types_in(json.dumps({"Layers": layers})) == {
        "CaskConvolution": {"float16": 1},
        "CaskPooling": {"unknown": 1},
    }
    assert types_in(json.dumps({"Layers": layers[1:]})) == {}


def test_generated_kernels_that_multiply_matrices_are_told_from_those_that_do_not() -> None:
    layers = [
        layer_told("gemm", ["Half", "Half"], "Half", Name="/fc/Gemm_myl0_7", TacticName="sm80_xmma_gemm_f16f16"),
        layer_told("fusion", ["Int8"], "Half", Name="__myl_FcCastAddErf_myl0_3", TacticName="kernel"),
        layer_told(
            "fusion", ["Int8"], "Half", Name="__myl_CastAdd_myl0_4", TacticName="sm80_xmma_gemm_i8i8_i8i32_f32_tn"
        ),
        layer_told("kgen", ["Half"], "Half", Name="/stem/conv/Conv_myl0_1", TacticName="/stem/conv/Conv_myl0_1"),
        layer_told(
            "kgen", ["Float"], "Half", Name="__myl_ConcConvertCast_myl0_8", TacticName="__myl_ConcConvertCast_0x1"
        ),
        layer_told("kgen", ["Bool"], "Half", Name="__myl_Sele_myl0_9"),
    ]
    assert types_in(json.dumps({"Layers": layers})) == {
        "gemm": {"float16": 1},
        "fusion (product)": {"int8": 2},
        "kgen (product)": {"float16": 1},
        "kgen": {"float32": 1, "bool": 1},
    }


def test_what_an_inspector_writes_that_is_not_quite_json_is_read() -> None:
    """Metadata holds quotes and separators of its own, unescaped."""
    layer = json.dumps(layer_told("Conv", ["Half"], "Half"), indent=2)[:-2]
    metadata = '"Metadata": "[ONNX Layer: a]\x1e{"name": "b"}"'
    assert types_in('{"Layers": [' + layer + f",\n  {metadata}\n}}]}}") == {"Conv": {"float16": 1}}
    assert types_in('{"Layers": ["conv + relu"], "Bindings": ["input"]}') == {}
    assert types_in("no engine is set") == {}
