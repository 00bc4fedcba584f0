"""Formats in which a network leaves the project."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from profilers.errors import UnknownNameError
from unas_hw.errors import ExportError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Format:
    """A format and the runtime that runs it.

    Attributes:
        name: As in ``--format``.
        suffix: Of the file.
        runtime: Which the latency is measured with.
        write: Writes the network for inputs of a shape.
    """

    name: str
    suffix: str
    runtime: str
    write: Callable[[nn.Module, tuple[int, ...], Path], None]


def _onnx(network: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    from profilers.runtimes.onnx_file import write_onnx

    write_onnx(network, shape, path, final=True)


def _torch(network: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    from profilers.runtimes.torch import TorchRuntime

    TorchRuntime().convert(network, shape, path)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "onnx": Format("onnx", ".onnx", "onnxruntime", _onnx),
        "torch": Format("torch", ".pt2", "torch", _torch),
    }
)


def find_format(name: str | None, runtime: str | None) -> Format:
    """The format of that name; without one, the one that the table's runtime runs; None is a runtime nobody knows.

    Raises:
        UnknownNameError: If there is no such format.
        ExportError: If this version does not write it, or another runtime than the table's runs it.
    """
    if name is None:
        return next((each for each in FORMATS.values() if each.runtime == runtime), FORMATS["onnx"])
    if name == "tensorrt":
        raise ExportError(
            "this version builds no TensorRT engine",
            mend="unas-hw export --format onnx, then trtexec --onnx=model.onnx",
        )
    if name not in FORMATS:
        raise UnknownNameError(f"no format is called {name!r}", mend=f"choose one of {', '.join(FORMATS)}")
    found = FORMATS[name]
    if runtime not in (None, found.runtime, "simulated"):
        raise ExportError(
            f"the run's table is of {runtime}, but {name} files run in {found.runtime}: another latency",
            mend=f"unas-hw export --format {find_format(None, runtime).name}, or search with --runtime {found.runtime}",
        )
    return found
