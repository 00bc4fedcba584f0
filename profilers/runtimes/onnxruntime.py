"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from profilers.errors import ConversionError
from profilers.runtimes.base import Array, Engine, Runtime, refused
from profilers.runtimes.onnx_file import write_onnx

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from torch import nn

PROVIDER = "CPUExecutionProvider"


@final
class OnnxRuntime(Runtime):
    """Sessions with the CPU provider, inputs and outputs bound beforehand."""

    name = "onnxruntime"
    suffix = ".onnx"
    packages = ("onnxruntime", "onnx", "numpy")

    def convert(self, module: nn.Module, shape: tuple[int, ...], path: Path) -> None:
        write_onnx(module, shape, path, final=False)

    def load(self, path: Path, threads: int) -> OnnxEngine:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        with refused(f"onnxruntime cannot load {path}", mend="export the network again: unas-hw export"):
            session = onnxruntime.InferenceSession(str(path), options, providers=[PROVIDER])
        if session.get_providers() != [PROVIDER]:  # another one would be taken in silence
            raise ConversionError(
                f"onnxruntime runs {session.get_providers()}, not {PROVIDER}", mend="pip install onnxruntime"
            )
        return OnnxEngine(session)


@final
class OnnxEngine(Engine):
    """One session."""

    def __init__(self, session: InferenceSession) -> None:
        self.session = session
        self.input = session.get_inputs()[0].name
        self.output = session.get_outputs()[0].name

    def bind(self, x: Array) -> Callable[[], object]:
        binding = self.session.io_binding()
        binding.bind_cpu_input(self.input, np.ascontiguousarray(x))
        binding.bind_output(self.output, "cpu")
        run = self.session.run_with_iobinding
        return lambda: run(binding)

    def run(self, x: Array) -> Array:
        return np.asarray(self.session.run([self.output], {self.input: x})[0])
