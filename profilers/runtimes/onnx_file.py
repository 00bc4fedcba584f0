"""A torch module as one ONNX file."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from profilers.errors import ConversionError
from profilers.files import write_atomic
from profilers.runtimes.base import refused
from profilers.runtimes.quantization import quantize, random_images

if TYPE_CHECKING:
    import torch
    from torch import nn

    from profilers.agent.engine import Array

OPSET = 20
"""What both exporters write; onnxruntime and TensorRT 10 read it."""
INPUT, OUTPUT = "input", "logits"


def write_onnx(
    module: nn.Module,
    shape: tuple[int, ...],
    path: Path,
    *,
    final: bool,
    precision: str = "float32",
    symmetric: bool = False,
    images: Iterator[Array] | None = None,
) -> None:
    """Writes the module in evaluation mode, weights inside the file.

    Args:
        module: Takes one tensor and returns one; of 32 bits, and left as it is.
        shape: Of the input, batch first.
        path: Of the file; replaced at once or left as it was.
        final: True for what ships: the current exporter and a dynamic batch. False for what is only timed: the
            older exporter, which makes the same nodes 20 times faster (checked by ``unas_hw.verify``), and a
            fixed batch.
        precision: ``float16`` and ``bfloat16`` are the types of the weights, and of input and output of what is only
            timed, as it lies between others; what ships takes and gives float32. ``int8`` puts quantise and dequantise
            nodes around what stays float32; ``tf32`` is a way to compute, not a file.
        symmetric: As in ``quantize``.
        images: What ``int8`` ranges are taken from; random images by default.

    Raises:
        ConversionError: If the exporter cannot take the module, or leaves another opset than was asked for.
        FileError: If the file cannot be written.
    """
    import onnx
    import torch

    type_ = getattr(torch, precision) if precision in ("float16", "bfloat16") else torch.float32
    module, outside = module.eval(), type_
    if type_ is not torch.float32:
        module = copy.deepcopy(module).to(type_)
    if final and type_ is not torch.float32:
        module, outside = _float32_outside(module, type_), torch.float32
    what = f"{type(module).__name__} cannot be written as ONNX"
    mend = "replace the operation that is named; see https://docs.pytorch.org/docs/stable/onnx.html"
    with _quiet(), torch.no_grad(), refused(what, mend=mend):
        if final:
            program = torch.onnx.export(
                module,
                (
                    torch.zeros(max(2, shape[0]), *shape[1:], dtype=outside),
                ),  # an example batch of 1 would be taken for a constant
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},),
                verbose=False,
            )
            assert program is not None  # documented for dynamo=True
            model = program.model_proto
        else:
            with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
                written = Path(folder) / path.name
                torch.onnx.export(
                    module,
                    (torch.zeros(shape, dtype=outside),),
                    written,
                    dynamo=False,
                    opset_version=OPSET,
                    input_names=[INPUT],
                    output_names=[OUTPUT],
                )
                model = onnx.load(written)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset != OPSET:
        raise ConversionError(
            f"the exporter wrote opset {opset} where {OPSET} was asked for",
            mend="pip install -c constraints.txt torch",
        )
    if precision != "int8":
        write_atomic(path, model.SerializeToString())
        return
    with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder, refused(what, mend="leave --precision int8 out"):
        source, quantized = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(model.SerializeToString())
        quantize(source, quantized, images or random_images(shape), symmetric=symmetric)
        write_atomic(path, quantized.read_bytes())


def _float32_outside(module: nn.Module, type_: torch.dtype) -> nn.Module:
    from torch import float32, nn

    class Outside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            inside: torch.Tensor = self.module(x.to(type_))
            return inside.to(float32)

    return Outside()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporters' progress lines and deprecation notes from the user's terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.onnx._internal.exporter", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
