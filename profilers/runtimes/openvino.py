"""OpenVINO."""

from __future__ import annotations

from typing import final

from profilers.runtimes.onnx_file import OnnxFiles


@final
class OpenVino(OnnxFiles):
    """ONNX files, read and compiled by OpenVINO for the CPU."""

    engine = "openvino"
    precisions = ("float32", "float16", "bfloat16", "int8")
    packages = ("openvino", "onnx", "numpy")

    def stored(self, precision: str) -> str:
        """Shorter floating point is how it computes, not what the file holds."""
        return "int8" if precision == "int8" else "float32"
