"""Formats in which a network leaves the project."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from profilers.errors import UnknownNameError
from profilers.precision import PRECISIONS
from unas_hw.errors import ExportError
from unas_hw.export import writers
from unas_hw.export.batches import Batches

if TYPE_CHECKING:
    from torch import nn

    from profilers.agent.engine import Array


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a file is written.

    Attributes:
        precision: As in ``profilers.precision``.
        batches: That the file takes.
        images: Gives batches of images, float32 and as the network sees them, which say what ``int8`` has to hold.
        opset: Of ONNX; what is usual for the precision by default.
        normalise: Mean and deviation of every channel, where the file is to take pixels.
        capabilities: Of GPUs that TensorRT-RTX builds for.
        metadata: Where the network comes from, for files that hold such words.
    """

    precision: str
    batches: Batches
    images: Callable[[], Iterator[Array]]
    opset: int | None = None
    normalise: tuple[Sequence[float], Sequence[float]] | None = None
    capabilities: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format and the runtimes that run it.

    Attributes:
        name: As in ``--format``.
        suffix: Of the file that is named; ``others`` are those of further files beside it.
        runtimes: That run it; the first where no table says which.
        precisions: In which it is written.
        write: Writes the network for inputs of a shape, batch first; returns what there is to say of the file.
        takes_any_batch: Whether a file can take several batches; and whether it does if nothing is said.
        from_onnx: Whether it is made of an ONNX file, so that ``--opset`` and normalisation are for it too.
    """

    name: str
    suffix: str
    runtimes: tuple[str, ...]
    precisions: tuple[str, ...]
    write: Callable[[nn.Module, tuple[int, ...], Path, Options], dict[str, Any]]
    others: tuple[str, ...] = ()
    takes_any_batch: bool = False
    any_batch_by_default: bool = False
    from_onnx: bool = False

    def files(self, path: Path) -> list[Path]:
        """All files of the artifact whose first is ``path``."""
        stem = path.name.removesuffix(self.suffix)
        return [path, *(path.with_name(stem + other) for other in self.others)]

    def refuse(self, options: Options) -> None:
        """Raises ``ExportError`` where this format has not what is asked for."""
        if options.precision not in self.precisions:
            choices = ", ".join(PRECISIONS[each][0] for each in self.precisions)
            others = [each.name for each in FORMATS.values() if options.precision in each.precisions]
            raise ExportError(
                f"{self.name} files have no {PRECISIONS[options.precision][0]} here",
                mend=f"choose one of --precision {choices}, or --format {', '.join(others)}",
            )
        if options.batches.dynamic and not self.takes_any_batch:
            raise ExportError(
                f"{self.name} files take one batch only, not {options.batches}",
                mend=f"add --batch {options.batches.least}",
            )
        if (options.opset or options.normalise) and not self.from_onnx:
            word = "--opset" if options.opset else "--preprocess"
            names = ", ".join(each.name for each in FORMATS.values() if each.from_onnx)
            raise ExportError(f"{word} is for {names}, not for {self.name}", mend=f"leave {word} out")


_FLOATS = ("float32", "tf32", "float16", "bfloat16")

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        each.name: each
        for each in (
            Format(
                name="onnx",
                suffix=".onnx",
                runtimes=("onnxruntime", "openvino"),
                precisions=("float32", "float16", "bfloat16", "int8"),
                write=writers.onnx,
                takes_any_batch=True,
                any_batch_by_default=True,
                from_onnx=True,
            ),
            Format(
                name="tensorrt",
                suffix=".engine",
                others=(".engine.onnx",),
                runtimes=("tensorrt",),
                precisions=(*_FLOATS, "int8"),
                write=writers.tensorrt,
                takes_any_batch=True,
                from_onnx=True,
            ),
            Format(
                name="openvino",
                suffix=".xml",
                others=(".bin",),
                runtimes=("openvino",),
                precisions=("float32", "float16", "bfloat16", "int8"),
                write=writers.openvino,
                takes_any_batch=True,
                from_onnx=True,
            ),
            Format(
                name="litert",
                suffix=".tflite",
                runtimes=("litert",),
                precisions=("float32", "int8"),
                write=writers.litert,
            ),
            Format(
                name="ncnn",
                suffix=".ncnn.param",
                others=(".ncnn.bin",),
                runtimes=("ncnn",),
                precisions=("float32", "float16"),
                write=writers.ncnn,
            ),
            Format(
                name="torch",
                suffix=".py",
                others=(".safetensors",),
                runtimes=(),
                precisions=("float32", "float16", "bfloat16"),
                write=writers.standalone,
                takes_any_batch=True,
                any_batch_by_default=True,
            ),
            Format(
                name="torch-export",
                suffix=".pt2",
                runtimes=("torch",),
                precisions=_FLOATS,
                write=writers.program,
                takes_any_batch=True,
            ),
        )
    }
)


def find_format(name: str | None, runtime: str | None = None) -> Format:
    """The format of that name; without one, the one that a runtime runs; raises ``UnknownNameError``."""
    base = runtime.partition("+")[0] if runtime else None
    if name is None:
        return next((each for each in FORMATS.values() if base in each.runtimes), FORMATS["onnx"])
    if name not in FORMATS:
        near = get_close_matches(name, FORMATS, 1)
        raise UnknownNameError(
            f"no format is called {name!r}",
            mend=(f"did you mean {near[0]!r}? " if near else "") + f"choose one of {', '.join(FORMATS)}",
        )
    return FORMATS[name]
