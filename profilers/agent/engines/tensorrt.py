"""TensorRT, or TensorRT-RTX in its place: engines that are built where they run, or were built before.

Memory and streams are PyTorch's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from profilers.agent.engine import Array, Engine, random_input
from profilers.agent.engines.cuda import CudaTimer, clock_of, cuda_timer
from profilers.agent.engines.tensorrt_build import build_model, deserialize, library, logger, said
from profilers.agent.engines.tensorrt_types import TYPES, inspected_types, types_of_model

_TIMINGS = bytearray()
"""What builds in this process found out about kernels; the second instance of a network has those of the first."""

BUILT = ".engine"
"""Suffix of engines that are built."""


def load(path: str, threads: int, precision: str, options: Sequence[str]) -> TensorRtEngine:
    """Builds for the GPU at hand, unless it is built; ``events`` and ``graph`` say how it is timed (``cuda_timer``)."""
    del threads
    clock = clock_of(options)
    require_gpu()
    trt = library()
    with open(path, "rb") as file:
        content = file.read()
    if path.endswith(BUILT):
        engine = deserialize(content)
        return TensorRtEngine(lambda batch: engine, dict, clock)
    here = () if trt.__name__ == "tensorrt" else ("CURRENT",)  # which TensorRT always builds for

    def compiled(batch: int) -> Any:
        return deserialize(build_model(content, precision, here, (1, batch, batch), _TIMINGS, True))

    return TensorRtEngine(compiled, lambda: types_of_model(content), clock)


def require_gpu() -> None:
    """Raises RuntimeError that says what is missing; the library itself answers with None."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise RuntimeError("there is no NVIDIA driver: libcuda.so.1 cannot be loaded") from None
    try:
        import torch
    except ImportError:
        raise RuntimeError("PyTorch, whose GPU memory TensorRT is given here, is not installed") from None
    if not torch.cuda.is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} sees no NVIDIA GPU")


class TensorRtEngine(Engine):
    """One engine; a network of any batch is built again for that of its input.

    Args:
        compiler: Batch to the library's engine.
        asked: The types of the file that it is built of, as ``inspected_types`` gives them; empty if that is not known.
        clock: As in ``cuda_timer``.
    """

    def __init__(
        self, compiler: Callable[[int], Any], asked: Callable[[], dict[str, dict[str, int]]], clock: str | None = None
    ) -> None:
        import torch

        super().__init__()
        trt = library()
        self.compiler = compiler
        self.clock = clock
        self.timed: CudaTimer | None = None
        self.stream = torch.cuda.Stream()  # on the default one TensorRT waits for the GPU at every call
        self.engine = compiler(1)
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        (self.input,) = [name for name in names if self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        (self.output,) = [name for name in names if name != self.input]
        self.bound: dict[tuple[int, ...], tuple[Any, Any, Any]] = {}
        self.details = {
            "library": f"{trt.__name__} {trt.__version__}",
            "layers": inspected_types(self.engine) or asked(),
        }

    def _bound(self, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
        """Context, input and output of a shape, always the same: what was captured in a graph keeps its memory."""
        if shape not in self.bound:
            self.bound[shape] = self._prepared(shape)
        return self.bound[shape]

    def _prepared(self, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
        import torch

        trt, engine = library(), self.engine
        if engine.get_tensor_shape(self.input)[0] == -1 and shape[0] > 1:
            engine = self.compiler(shape[0])
        del logger(trt).errors[:]
        if trt.__name__ == "tensorrt":
            context = engine.create_execution_context()
        else:  # else it would run slower kernels until those for this shape are compiled, in the background
            config = engine.create_runtime_config()
            config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
            context = engine.create_execution_context(config)
        if context is None or not context.set_input_shape(self.input, shape):
            raise RuntimeError(said(trt))
        tensors = []
        for name in (self.input, self.output):
            dtype = getattr(torch, TYPES[engine.get_tensor_dtype(name).name])
            tensors.append(torch.empty(tuple(context.get_tensor_shape(name)), dtype=dtype, device="cuda"))
            context.set_tensor_address(name, tensors[-1].data_ptr())
        return (context, *tensors)

    def bind(self, x: Array) -> Callable[[], object]:
        import torch

        context, tensor, _ = self._bound(x.shape)
        tensor.copy_(torch.from_numpy(np.ascontiguousarray(x)))
        torch.cuda.synchronize()  # calls may come on another stream
        execute, stream = context.execute_async_v3, torch.cuda.current_stream

        def call() -> None:
            if not execute(stream().cuda_stream):
                raise RuntimeError(said(library()))

        return call

    def run(self, x: Array) -> Array:
        self.bind(x)()
        self.wait()
        return self._bound(x.shape)[2].float().cpu().numpy()

    def wait(self) -> None:
        import torch

        torch.cuda.synchronize()

    def timer(self, shape: tuple[int, ...]) -> Callable[[int], float]:
        """By the GPU's own clock."""
        import torch

        with torch.cuda.stream(self.stream):
            timed = self.timed = cuda_timer(self.bind(random_input(shape)), self.details, self.clock)

        def time_s(calls: int) -> float:
            with torch.cuda.stream(self.stream):
                return timed(calls)

        return time_s

    def spin(self, shape: tuple[int, ...], seconds: float) -> int:
        import torch

        with torch.cuda.stream(self.stream):
            return super().spin(shape, seconds) if self.timed is None else self.timed.spin(seconds)
