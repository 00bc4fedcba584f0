"""OpenVINO on the CPU: one stream, one infer request, its input in place."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from profilers.agent.engine import Array, Engine

TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "int8": "f32"}
"""Of what is left in floating point."""


def load(path: str, threads: int, precision: str, options: Sequence[str]) -> OpenVinoEngine:
    """Compiles the file; without the hint OpenVINO computes in bfloat16 where the processor can, in silence."""
    import openvino

    del options
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": TYPES[precision],
        "ENABLE_CPU_PINNING": False,  # the process is pinned
    }
    core = openvino.Core()
    engine = OpenVinoEngine(_read(core, path), lambda model: core.compile_model(model, "CPU", settings))
    chosen = engine.compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if chosen not in (TYPES[precision], {"f32": "float", "f16": "half", "bf16": "bfloat16"}[TYPES[precision]]):
        raise RuntimeError(f"OpenVINO computes in {chosen} here, not in {TYPES[precision]}")
    return engine


def _read(core: Any, path: str) -> Any:
    """The model of an ONNX file, or of an archive of OpenVINO's own two files."""
    if not zipfile.is_zipfile(path):
        return core.read_model(path)
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
        (model,) = [name for name in archive.namelist() if name.endswith(".xml")]
        archive.extractall(folder)
        return core.read_model(os.path.join(folder, model))


class OpenVinoEngine(Engine):
    """One infer request; a model of any batch is compiled for that of its input."""

    def __init__(self, model: Any, compiler: Callable[[Any], Any]) -> None:
        super().__init__()
        self.model = model
        self.compiler = compiler
        self.compiled = compiler(model)
        self.request = self.compiled.create_infer_request()

    def bind(self, x: Array) -> Callable[[], object]:
        import openvino

        if self.model.input().get_partial_shape() != openvino.PartialShape(list(x.shape)):
            self.model.reshape(list(x.shape))
            self.request = self.compiler(self.model).create_infer_request()
        self.request.set_input_tensor(openvino.Tensor(np.ascontiguousarray(x)))
        infer: Callable[[], object] = self.request.infer
        return infer

    def run(self, x: Array) -> Array:
        self.bind(x)()
        return np.array(self.request.get_output_tensor().data, dtype=np.float32)
