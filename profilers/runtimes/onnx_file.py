"""A torch module as one ONNX file."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from profilers.errors import ConversionError
from profilers.files import write_atomic
from profilers.runtimes.base import Runtime, refused
from profilers.runtimes.onnx_edit import INPUT, OUTPUT, lower, normalise_inside, set_metadata
from profilers.runtimes.quantization import quantize, random_images

if TYPE_CHECKING:
    from torch import nn

    from profilers.agent.engine import Array

OPSET = 20
"""What both exporters write; onnxruntime and TensorRT 10 read it."""
BFLOAT16_OPSET = 22
"""The first in which convolutions and pooling are defined in bfloat16."""
NEW_EXPORTER_OPSET = 18
"""Asked for an older one, the new exporter leaves this without a word; the old one writes what is asked for."""
ANY_BATCH = (1, 1024)


class OnnxFiles(Runtime):
    """A runtime whose artifacts are ONNX files."""

    suffix = ".onnx"
    symmetric: ClassVar[bool] = False
    """As in ``quantize``."""

    def _convert(self, module: nn.Module, shape: tuple[int, ...], path: Path, precision: str) -> None:
        stored = self.stored(precision)
        write_onnx(module, shape, path, final=False, precision=stored, symmetric=self.symmetric)


def write_onnx(
    module: nn.Module,
    shape: tuple[int, ...],
    path: Path,
    *,
    final: bool,
    precision: str = "float32",
    symmetric: bool = False,
    images: Iterator[Array] | None = None,
    opset: int | None = None,
    batches: tuple[int, int] | None = None,
    normalise: tuple[Sequence[float], Sequence[float]] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes the module in evaluation mode, weights inside the file and batch normalisation folded into them.

    Args:
        module: Takes one tensor and returns one; of 32 bits, and left as it is.
        shape: Of the input, batch first.
        path: Of the file; replaced at once or left as it was.
        final: True for what ships: the current exporter. False for what is only timed: the older exporter, which makes
            the same nodes 20 times faster (checked by ``unas_hw.verify``), and a fixed batch.
        precision: ``float16`` and ``bfloat16`` are the types of the weights, and of input and output of what is only
            timed, as it lies between others; what ships takes and gives float32. ``int8`` puts quantise and dequantise
            nodes around what stays float32; ``tf32`` is a way to compute, not a file.
        symmetric: As in ``quantize``.
        images: What ``int8`` ranges are taken from; random images by default.
        opset: Of the file; ``default_opset`` of the precision by default.
        batches: The smallest and the largest batch that what ships takes; ``ANY_BATCH`` by default.
        normalise: Mean and deviation of every channel: the file takes pixels from 0 to 255 then; images for ``int8``
            are normalised already.
        metadata: Properties of the model, such as where it comes from.

    Raises:
        ConversionError: If the exporter cannot take the module, or leaves another opset than was asked for.
        FileError: If the file cannot be written.
    """
    wanted = opset or default_opset(precision)
    what = f"{type(module).__name__} cannot be written as ONNX"
    mend = "replace the operation that is named; see https://docs.pytorch.org/docs/stable/onnx.html"
    with refused(what, mend=mend):
        model = _exported(module.eval(), shape, wanted, batches or ANY_BATCH, final)
        if precision in ("float16", "bfloat16"):
            lower(model, precision, outside=final)
    if precision == "int8":
        with refused(what, mend="leave --precision int8 out"):
            model = _quantized(model, images or random_images(shape), symmetric)
    refuse_other_opset(model, wanted)
    if normalise:
        normalise_inside(model, *normalise)
    set_metadata(model, metadata or {})
    write_atomic(path, model.SerializeToString())


def default_opset(precision: str) -> int:
    """The opset of a file in this precision where none is asked for."""
    return BFLOAT16_OPSET if precision == "bfloat16" else OPSET


def opset_of(model: Any) -> int:
    """The version of ONNX's own operations in a model."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def refuse_other_opset(model: Any, wanted: int) -> None:
    """Raises ``ConversionError``: exporters leave another opset than the one asked for, in silence."""
    if (opset := opset_of(model)) != wanted:
        raise ConversionError(
            f"the exporter wrote opset {opset} where {wanted} was asked for",
            mend=f"unas-hw export --opset {opset}, or pip install -c constraints.txt torch",
        )


def _exported(module: nn.Module, shape: tuple[int, ...], opset: int, batches: tuple[int, int], final: bool) -> Any:
    """Of 32 bits; by the exporter that writes this opset."""
    import onnx
    import torch

    fixed = not final or batches[0] == batches[1]
    count = (shape[0] if not final else batches[0]) if fixed else max(2, shape[0])  # 1 would be taken for a constant
    example = (torch.zeros(count, *shape[1:]),)
    names: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT]}
    with _quiet(), torch.no_grad():
        if final and opset >= NEW_EXPORTER_OPSET:
            least, most = batches
            dynamic = None if fixed else ({0: torch.export.Dim("batch", min=least, max=most)},)
            program = torch.onnx.export(
                module, example, dynamo=True, opset_version=opset, dynamic_shapes=dynamic, verbose=False, **names
            )
            assert program is not None  # documented for dynamo=True
            return program.model_proto
        with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
            written = Path(folder) / "model.onnx"
            axes = None if fixed else {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}}
            old = min(opset, OPSET)  # the last that it knows
            torch.onnx.export(module, example, written, dynamo=False, opset_version=old, dynamic_axes=axes, **names)
            model = onnx.load(written)
    return model if old == opset else onnx.version_converter.convert_version(model, opset)


def _quantized(model: Any, images: Iterator[Array], symmetric: bool) -> Any:
    import onnx

    with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
        source, quantized = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(model.SerializeToString())
        quantize(source, quantized, images, symmetric=symmetric)
        return onnx.load(quantized)


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
