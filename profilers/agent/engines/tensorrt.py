"""TensorRT, or TensorRT-RTX in its place: an engine is built of the ONNX file, on the GPU that will run it.

Networks are strongly typed: what is computed in 16 or 8 bits stands in the file, not in settings of the builder. Memory
and streams are PyTorch's.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from profilers.agent.engine import Array, Engine, random_input
from profilers.agent.engines.cuda import CLOCKS, CudaTimer, cuda_timer

LIBRARIES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
TYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT8": "int8", "INT32": "int32", "INT64": "int64"}
"""PyTorch's names of the types that inputs and outputs have."""

_TIMINGS = bytearray()
"""What builds in this process found out about kernels; the second instance of a network has those of the first."""


def library() -> Any:
    """The first of ``LIBRARIES`` that can be imported; raises RuntimeError with the reasons where none can."""
    reasons = []
    for name in LIBRARIES:
        try:
            return import_module(name)
        except (ImportError, OSError) as error:  # the Python part installs alone, without the libraries that it loads
            reasons.append(str(error))
    raise RuntimeError("TensorRT cannot be imported ({})".format("; ".join(reasons)))


def load(path: str, threads: int, precision: str, options: Sequence[str]) -> TensorRtEngine:
    """Builds for the GPU at hand; ``events`` and ``graph`` say how it is timed (``cuda_timer``)."""
    del threads
    clocks = [clock for clock in CLOCKS if clock in options]
    if len(clocks) > 1:
        raise RuntimeError("events and graph are two clocks: leave one of them out")
    require_gpu()
    trt = library()
    with open(path, "rb") as file:
        model = file.read()
    here = () if trt.__name__ == "tensorrt" else ("CURRENT",)  # which TensorRT always builds for

    def compiled(batch: int) -> Any:
        plan = _build(model, precision, here, batch, _TIMINGS)
        engine = trt.Runtime(_logger(trt)).deserialize_cuda_engine(plan)
        if engine is None:
            raise RuntimeError(_said(trt))
        return engine

    return TensorRtEngine(compiled, *clocks)


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


def build(
    path: str,
    precision: str,
    *,
    capabilities: Sequence[str] = (),
    batch: int = 1,
    timing_cache: bytearray | None = None,
) -> bytes:
    """A serialized engine of an ONNX file.

    Args:
        path: Of the file.
        precision: As in ``load_engine``. Types are those of the file; this only says whether float32 may be rounded to
            TF32, which is the library's default.
        capabilities: Of GPUs to build for, without one at hand: ``("SM86", "SM120")``; TensorRT-RTX only. By default
            the GPU at hand; with TensorRT-RTX all from ``SM80`` on.
        batch: The largest, and the one that is tuned for, where the file takes any.
        timing_cache: What earlier builds found out, and this one will be added to; of no use to TensorRT-RTX.

    Raises:
        RuntimeError: With the library's own words.
    """
    with open(path, "rb") as file:
        return _build(file.read(), precision, capabilities, batch, timing_cache)


def _build(
    model: bytes, precision: str, capabilities: Sequence[str], batch: int, timing_cache: bytearray | None
) -> bytes:
    trt = library()
    logger = _logger(trt)
    del logger.errors[:]
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))  # always so from 11 on
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        raise RuntimeError(_refusal(parser) if parser.num_errors else _said(trt))
    if not network.num_outputs:  # bytes that are no network at all are parsed without an error
        raise RuntimeError("there is no network in the file")
    config = builder.create_builder_config()
    (config.set_flag if precision == "tf32" else config.clear_flag)(trt.BuilderFlag.TF32)
    _aim(trt, config, capabilities)
    shape = tuple(network.get_input(0).shape)
    if -1 in shape:
        profile = builder.create_optimization_profile()
        profile.set_shape(network.get_input(0).name, (1, *shape[1:]), (batch, *shape[1:]), (batch, *shape[1:]))
        config.add_optimization_profile(profile)
    cache = None
    if timing_cache is not None and trt.__name__ == "tensorrt":
        cache = config.create_timing_cache(bytes(timing_cache))
        config.set_timing_cache(cache, False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError(_said(trt))
    if timing_cache is not None and cache is not None:
        timing_cache[:] = bytes(cache.serialize())
    return bytes(plan)


def _aim(trt: Any, config: Any, capabilities: Sequence[str]) -> None:
    if not capabilities:
        return
    if not hasattr(config, "num_compute_capabilities"):
        raise RuntimeError("TensorRT builds for the GPU at hand only; TensorRT-RTX builds for others")
    config.num_compute_capabilities = len(capabilities)
    known = trt.ComputeCapability.__members__
    for index, name in enumerate(capabilities):
        if name not in known or not config.set_compute_capability(known[name], index):
            raise RuntimeError("TensorRT-RTX does not build for {}, only for {}".format(name, ", ".join(known)))


@lru_cache
def _logger(trt: Any) -> Any:
    """Keeps errors; one for the process, because the library goes on using the first that it was given."""

    class Logger(trt.ILogger):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(msg)

    return Logger()


def _said(trt: Any) -> str:
    """The first error, without the name of the call that it stands for."""
    errors = _logger(trt).errors or [f"{trt.__name__} gives no reason"]
    return re.sub(r"^\w+::\w+: Error Code \d+: ", "", errors[0])


def _refusal(parser: Any) -> str:
    error = parser.get_error(0)
    reason = "is not supported" if error.desc() == "false" else error.desc()
    return f"node {error.node_name()} ({error.node_operator()}): {reason}"


class TensorRtEngine(Engine):
    """One engine; a network of any batch is built again for that of its input.

    Args:
        compiler: Batch to the library's engine.
        clock: As in ``cuda_timer``.
    """

    def __init__(self, compiler: Callable[[int], Any], clock: str | None = None) -> None:
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
        self.details = {"library": f"{trt.__name__} {trt.__version__}"}

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
        del _logger(trt).errors[:]
        if trt.__name__ == "tensorrt":
            context = engine.create_execution_context()
        else:  # else it would run slower kernels until those for this shape are compiled, in the background
            config = engine.create_runtime_config()
            config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
            context = engine.create_execution_context(config)
        if context is None or not context.set_input_shape(self.input, shape):
            raise RuntimeError(_said(trt))
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
                raise RuntimeError(_said(library()))

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
