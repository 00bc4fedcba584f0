"""Formats in which a network leaves the project."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from profilers.errors import UnknownNameError
from unas_hw.errors import ExportError

if TYPE_CHECKING:
    from torch import nn

    from profilers.agent.engine import Array

    Writer = Callable[[nn.Module, tuple[int, ...], Path, str, Iterable[Array]], None]


@dataclass(frozen=True)
class Format:
    """A format and the runtimes that run it.

    Attributes:
        name: As in ``--format``.
        suffix: Of the file.
        runtimes: That run it; the first where no table says which.
        write: Writes the network for inputs of a shape, in a precision; float32 images say what ``int8`` has to hold.
    """

    name: str
    suffix: str
    runtimes: tuple[str, ...]
    write: Writer


def _onnx(network: nn.Module, shape: tuple[int, ...], path: Path, precision: str, images: Iterable[Array]) -> None:
    from profilers.runtimes.onnx_file import write_onnx

    write_onnx(network, shape, path, final=True, precision=precision, images=iter(images))


def _tflite(network: nn.Module, shape: tuple[int, ...], path: Path, precision: str, images: Iterable[Array]) -> None:
    from profilers.runtimes.litert import write_tflite

    count = shape[0]
    batches = (each[start : start + count] for each in images for start in range(0, len(each) - count + 1, count))
    write_tflite(network, shape, path, precision=precision, images=batches)


def _as_timed(runtime: str) -> Writer:
    def write(network: nn.Module, shape: tuple[int, ...], path: Path, precision: str, images: Iterable[Array]) -> None:
        from profilers.registry import find_runtime

        del images
        find_runtime(runtime).convert(network, shape, path, precision)

    return write


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "onnx": Format("onnx", ".onnx", ("onnxruntime", "openvino"), _onnx),
        "torch": Format("torch", ".pt2", ("torch",), _as_timed("torch")),
        "litert": Format("litert", ".tflite", ("litert",), _tflite),
        "ncnn": Format("ncnn", ".ncnn", ("ncnn",), _as_timed("ncnn")),
    }
)


def find_format(name: str | None, runtime: str | None) -> Format:
    """The format of that name; without one, the one that the table's runtime runs; None is a runtime nobody knows.

    Raises:
        UnknownNameError: If there is no such format.
        ExportError: If this version does not write it, or another runtime than the table's runs it.
    """
    base = runtime.partition("+")[0] if runtime else None
    if name is None:
        return next((each for each in FORMATS.values() if base in each.runtimes), FORMATS["onnx"])
    if name == "tensorrt":
        raise ExportError(
            "this version builds no TensorRT engine",
            mend="unas-hw export --format onnx, then trtexec --onnx=model.onnx",
        )
    if name not in FORMATS:
        raise UnknownNameError(f"no format is called {name!r}", mend=f"choose one of {', '.join(FORMATS)}")
    found = FORMATS[name]
    if base not in (None, *found.runtimes, "simulated"):
        raise ExportError(
            f"the run's table is of {runtime}, but {name} files run in {', '.join(found.runtimes)}: another latency",
            mend=f"unas-hw export --format {find_format(None, runtime).name}, or search with "
            f"--runtime {found.runtimes[0]}",
        )
    return found
