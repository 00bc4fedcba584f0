"""A torch module as one ONNX file."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from profilers.errors import ConversionError

if TYPE_CHECKING:
    from torch import nn

OPSET = 20
"""What both exporters write; onnxruntime and TensorRT 10 read it."""
INPUT, OUTPUT = "input", "logits"


def write_onnx(module: nn.Module, shape: tuple[int, ...], path: Path, *, final: bool) -> None:
    """Writes the module in evaluation mode, weights inside the file.

    Args:
        module: Takes one tensor and returns one.
        shape: Of the input, batch first.
        path: Of the file; replaced at once or left as it was.
        final: True for what ships: the current exporter and a dynamic batch. False for what is only timed: the
            older exporter, which makes the same nodes 20 times faster (checked by ``unas_hw.verify``), and a
            fixed batch.

    Raises:
        ConversionError: If the exporter cannot take the module, or leaves another opset than was asked for.
    """
    import onnx
    import torch

    example = (torch.zeros(shape),)
    partial = path.with_name(path.name + ".partial")
    try:
        with _quiet(), torch.no_grad():
            if final:
                batch = torch.export.Dim("batch", min=1, max=1024)
                # An example batch of 1 would be taken for a constant.
                program = torch.onnx.export(
                    module.eval(),
                    (torch.zeros(max(2, shape[0]), *shape[1:]),),
                    dynamo=True,
                    opset_version=OPSET,
                    input_names=[INPUT],
                    output_names=[OUTPUT],
                    dynamic_shapes=({0: batch},),
                    verbose=False,
                )
                assert program is not None  # documented for dynamo=True
                program.save(partial, external_data=False)
            else:
                torch.onnx.export(
                    module.eval(),
                    example,
                    str(partial),
                    dynamo=False,
                    opset_version=OPSET,
                    input_names=[INPUT],
                    output_names=[OUTPUT],
                )
        opset = next(entry.version for entry in onnx.load(partial).opset_import if entry.domain in ("", "ai.onnx"))
        if opset != OPSET:
            raise ConversionError(
                f"the exporter wrote opset {opset} where {OPSET} was asked for",
                mend="pip install -c constraints.txt torch",
            )
        os.replace(partial, path)
    except (torch.onnx.OnnxExporterError, torch.onnx.errors.UnsupportedOperatorError) as error:
        raise ConversionError(
            f"{type(module).__name__} cannot be written as ONNX: {str(error).splitlines()[0]}",
            mend="replace the operation that is named; see https://pytorch.org/docs/stable/onnx.html",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


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
