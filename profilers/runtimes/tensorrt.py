"""TensorRT, or TensorRT-RTX."""

from __future__ import annotations

from typing import ClassVar, final

from profilers.runtimes.onnx_file import OnnxFiles


@final
class TensorRt(OnnxFiles):
    """ONNX files, of which an engine is built where they are loaded; engines that were built before (``.engine``)."""

    engine = "tensorrt"
    symmetric = True
    devices = ("gpu",)
    precisions = ("float32", "tf32", "float16", "bfloat16", "int8")
    packages = ("tensorrt", "tensorrt-rtx-cu13-bindings", "torch", "numpy")
    known_options: ClassVar[dict[str, str]] = {
        "events": "timed call by call, launches included",
        "graph": "timed as a CUDA graph",
    }

    def stored(self, precision: str) -> str:
        """TF32 is how it computes, not what the file holds."""
        return "float32" if precision == "tf32" else precision
