"""A torch module as one ONNX file."""

from __future__ import annotations

import contextlib
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
        FileError: If the file cannot be written.
    """
    import onnx
    import torch

    module.eval()
    what = f"{type(module).__name__} cannot be written as ONNX"
    mend = "replace the operation that is named; see https://docs.pytorch.org/docs/stable/onnx.html"
    with _quiet(), torch.no_grad(), refused(what, mend=mend):
        if final:
            program = torch.onnx.export(
                module,
                (torch.zeros(max(2, shape[0]), *shape[1:]),),  # an example batch of 1 would be taken for a constant
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
                    (torch.zeros(shape),),
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
    write_atomic(path, model.SerializeToString())


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
