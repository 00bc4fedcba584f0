"""ONNX Runtime."""

from __future__ import annotations

from typing import ClassVar, final

from profilers.runtimes.onnx_file import OnnxFiles


@final
class OnnxRuntime(OnnxFiles):
    """ONNX files; on the CPU, or with another execution provider where the installed library has it."""

    engine = "onnxruntime"
    precisions = ("float32", "float16", "int8")
    devices = ("cpu", "gpu")
    packages = ("onnxruntime", "onnx", "numpy")
    known_options: ClassVar[dict[str, str]] = {"xnnpack": "XNNPACK", "cuda": "CUDA", "tensorrt": "TensorRT"}
