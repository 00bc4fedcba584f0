"""ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, final

from profilers.runtimes.base import Runtime
from profilers.runtimes.onnx_file import write_onnx

if TYPE_CHECKING:
    from torch import nn


@final
class OnnxRuntime(Runtime):
    """ONNX files; on the CPU, or with another execution provider where the installed library has it."""

    engine = "onnxruntime"
    suffix = ".onnx"
    precisions = ("float32", "float16", "int8")
    devices = ("cpu", "gpu")
    packages = ("onnxruntime", "onnx", "numpy")
    known_options: ClassVar[dict[str, str]] = {"xnnpack": "XNNPACK", "cuda": "CUDA", "tensorrt": "TensorRT"}

    def _convert(self, module: nn.Module, shape: tuple[int, ...], path: Path, precision: str) -> None:
        write_onnx(module, shape, path, final=False, precision=precision)
