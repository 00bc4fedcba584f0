"""Changes to an ONNX model: shorter types, pre-processing inside, properties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from profilers.errors import ConversionError

INPUT, OUTPUT = "input", "logits"


def lower(model: Any, precision: str, *, outside: bool) -> None:
    """Makes all that is float32 ``float16`` or ``bfloat16``, of a model of one input and one output.

    After the export, as exporters fold batch normalisation in the type that they find: in float16 with a loss, and in
    bfloat16 they leave float32 weights, which no runtime takes. ``outside``: input and output stay float32.

    Raises:
        ConversionError: If a weight is too large for it.
    """
    import onnx

    short = {"float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16}[precision]
    graph = model.graph
    del graph.value_info[:]
    for tensor in graph.initializer:
        tensor.CopyFrom(_shortened(tensor, short))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.CopyFrom(_shortened(attribute.t, short))
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = short
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT and not outside:
            value.type.tensor_type.elem_type = short
    if outside:
        (given,), (taken,) = graph.input, graph.output
        _rename(graph, given.name, f"{given.name}_{precision}")
        _rename(graph, taken.name, f"{taken.name}_{precision}")
        first = onnx.helper.make_node("Cast", [given.name], [f"{given.name}_{precision}"], name="to_short", to=short)
        last = onnx.helper.make_node(
            "Cast", [f"{taken.name}_{precision}"], [taken.name], name="to_float32", to=onnx.TensorProto.FLOAT
        )
        graph.node.insert(0, first)
        graph.node.append(last)


def _shortened(tensor: Any, short: int) -> Any:
    """The tensor in the shorter type; as it is where it is not float32."""
    import onnx

    if tensor.data_type != onnx.TensorProto.FLOAT:
        return tensor
    values = onnx.numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        new = values.astype(onnx.helper.tensor_dtype_to_np_dtype(short))
    if np.isfinite(values).all() and not np.isfinite(new.astype(np.float32)).all():
        raise ConversionError(
            f"{tensor.name} has a weight of {np.abs(values).max():.3g}, too large for float16",
            mend="export with --precision bf16, or fp32",
        )
    return onnx.numpy_helper.from_array(new, tensor.name)


def _rename(graph: Any, old: str, new: str) -> None:
    """A tensor's name, at all nodes that give or take it."""
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new


def normalise_inside(model: Any, mean: Sequence[float], std: Sequence[float]) -> None:
    """Puts ``(pixels / 255 - mean) / std`` before the first node: the model then takes pixels from 0 to 255.

    Of one input, float32 ``(N, C, H, W)``; mean and deviation are of pixels in [0, 1], one each channel.
    """
    import onnx

    (given,) = model.graph.input
    inside = f"{given.name}_normalised"
    _rename(model.graph, given.name, inside)
    for number, (kind, values) in enumerate((("Sub", mean), ("Div", std))):
        scaled = np.asarray(values, np.float32).reshape(1, -1, 1, 1) * np.float32(255)
        model.graph.initializer.append(onnx.numpy_helper.from_array(scaled, f"pixel_{kind}"))
        ends = [given.name, f"{given.name}_centred", inside]
        node = onnx.helper.make_node(kind, [ends[number], f"pixel_{kind}"], [ends[number + 1]], name=f"pixels_{kind}")
        model.graph.node.insert(number, node)


def set_metadata(model: Any, properties: Mapping[str, str]) -> None:
    """Replaces the model's properties."""
    import onnx

    del model.metadata_props[:]
    if properties:
        onnx.helper.set_model_props(model, dict(properties))
