"""OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, final

from profilers.runtimes.base import Runtime
from profilers.runtimes.onnx_file import write_onnx

if TYPE_CHECKING:
    from torch import nn


@final
class OpenVino(Runtime):
    """ONNX files, read and compiled by OpenVINO for the CPU."""

    engine = "openvino"
    suffix = ".onnx"
    precisions = ("float32", "float16", "bfloat16", "int8")
    packages = ("openvino", "onnx", "numpy")

    def stored(self, precision: str) -> str:
        """Shorter floating point is how it computes, not what the file holds."""
        return "int8" if precision == "int8" else "float32"

    def _convert(self, module: nn.Module, shape: tuple[int, ...], path: Path, precision: str) -> None:
        write_onnx(module, shape, path, final=False, precision=self.stored(precision))
