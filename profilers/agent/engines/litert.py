"""LiteRT on the CPU: its interpreter, which hands what it can to XNNPACK, the input in place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from profilers.agent.engine import Array, Engine


def load(path: str, threads: int, precision: str, options: Sequence[str]) -> LitertEngine:
    """The model in this file."""
    from ai_edge_litert.interpreter import Interpreter

    del precision, options  # the former is in the file
    with _quiet():
        interpreter = Interpreter(path, num_threads=threads)
        interpreter.allocate_tensors()
    return LitertEngine(interpreter)


@contextmanager
def _quiet() -> Iterator[None]:
    """It says on the error stream that it made a delegate, and has no setting for that; what fails is raised too."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


class LitertEngine(Engine):
    """One interpreter; LiteRT's other interface, ``CompiledModel``, is 1% slower on a block of 0.2 ms."""

    def __init__(self, interpreter: Any) -> None:
        super().__init__()
        self.interpreter = interpreter
        (self.input,), (self.output,) = interpreter.get_input_details(), interpreter.get_output_details()
        self.details = {"delegate": self._delegate()}

    def _delegate(self) -> str:
        """Whether XNNPACK runs all of it, a part, or nothing; the rest is run by slower built-in kernels."""
        nodes = [node for node in self.interpreter._get_ops_details() if node["op_name"] == "DELEGATE"]
        if (
            len(nodes) == 1
            and self.input["index"] in nodes[0]["inputs"]
            and self.output["index"] in nodes[0]["outputs"]
        ):
            return "XNNPACK"
        return "XNNPACK in part" if nodes else "none"

    def bind(self, x: Array) -> Callable[[], object]:
        scale, zero = self.input["quantization"]
        if scale:
            limits = np.iinfo(self.input["dtype"])
            x = np.clip(np.rint(x / scale) + zero, limits.min, limits.max)
        self.interpreter.set_tensor(self.input["index"], x.astype(self.input["dtype"]))
        invoke: Callable[[], object] = self.interpreter.invoke
        return invoke

    def run(self, x: Array) -> Array:
        self.bind(x)()
        scale, zero = self.output["quantization"]
        output = self.interpreter.get_tensor(self.output["index"]).astype(np.float32)
        return (output - zero) * np.float32(scale) if scale else output
