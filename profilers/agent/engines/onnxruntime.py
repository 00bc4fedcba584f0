"""ONNX Runtime: a session with one provider, input and output bound beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from profilers.agent.engine import Array, Engine

PROVIDERS = {
    "xnnpack": "XnnpackExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
CPU = "CPUExecutionProvider"
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


def load(path: str, threads: int, precision: str, options: Sequence[str]) -> OnnxEngine:
    """A session of this file; raises where another provider than the one asked for would run it."""
    import onnxruntime

    del precision  # is in the file
    wanted = [PROVIDERS[option] for option in options if option in PROVIDERS] or [CPU]
    for name in wanted:  # asking for one that is not there is a warning and the CPU
        if name not in onnxruntime.get_available_providers():
            raise RuntimeError(f"this onnxruntime has no {name}, only {onnxruntime.get_available_providers()}")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    asked: list[Any] = list(wanted)
    if "xnnpack" in options:  # it has threads of its own; those of the session would wait for them, spinning
        asked = [(wanted[0], {"intra_op_num_threads": str(threads)})]
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, settings, providers=asked)
    if session.get_providers()[0] != wanted[0]:
        raise RuntimeError(f"onnxruntime runs {session.get_providers()}, not {wanted[0]}")
    return OnnxEngine(session, "cuda" if {"cuda", "tensorrt"} & set(options) else "cpu")


class OnnxEngine(Engine):
    """One session."""

    def __init__(self, session: Any, device: str) -> None:
        super().__init__()
        self.session = session
        self.device = device
        (self.input,), (self.output,) = session.get_inputs(), session.get_outputs()
        self.details = {"provider": session.get_providers()[0]}

    def _cast(self, x: Array) -> Array:
        return np.ascontiguousarray(x, dtype=TYPES[self.input.type])

    def bind(self, x: Array) -> Callable[[], object]:
        import onnxruntime

        binding = self.session.io_binding()
        value = onnxruntime.OrtValue.ortvalue_from_numpy(self._cast(x), self.device, 0)
        binding.bind_ortvalue_input(self.input.name, value)
        binding.bind_output(self.output.name, self.device)
        run = self.session.run_with_iobinding
        return lambda: run(binding)

    def run(self, x: Array) -> Array:
        return np.asarray(self.session.run([self.output.name], {self.input.name: self._cast(x)})[0], dtype=np.float32)
