"""As much of TensorRT's Python interface as the engine uses, of networks that double their input.

What it is given to parse is a text: ``FLOAT -1 3 4`` is the type and shape of the input. Memory is the CPU's, at the
addresses that it is told.
"""

from __future__ import annotations

import ctypes
import json
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

DTYPES = {"FLOAT": np.float32, "HALF": np.float16}


class FakeTensorRt(ModuleType):
    """The module; ``rtx`` says which of the two, and the other attributes what was asked of it."""

    def __init__(self, rtx: bool) -> None:
        super().__init__("tensorrt_rtx" if rtx else "tensorrt")
        fake = self
        self.__version__ = "1.7" if rtx else "11.4"
        self.rtx = rtx
        self.builds: list[dict[str, Any]] = []
        self.streams: list[int] = []
        self.logger: Any = None
        self.refuses = ""  # what does not work, and the library would say so to its logger only

        class ILogger:
            INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2

            def log(self, severity: int, msg: str) -> None:
                raise AssertionError("not overridden")

        class Builder:
            def __init__(self, logger: Any) -> None:
                fake.logger = fake.logger or logger  # the first one counts
                fake.logger.log(ILogger.WARNING, "a warning, which is no reason")

            def create_network(self, flags: int) -> SimpleNamespace:
                assert flags == 1  # strongly typed
                return SimpleNamespace(num_outputs=0)

            def create_builder_config(self) -> _Config:
                return _Config(fake)

            def create_optimization_profile(self) -> SimpleNamespace:
                profile = SimpleNamespace()
                profile.set_shape = lambda name, *shapes: profile.__dict__.update(largest=shapes[2][0])
                return profile

            def build_serialized_network(self, network: Any, config: _Config) -> bytes | None:
                if fake.says("build"):
                    return None
                largest = config.profiles[0].largest if config.profiles else None
                fake.builds.append({"batch": largest, "flags": config.flags, **config.seen()})
                return json.dumps({"dtype": network.dtype, "shape": network.shape, "largest": largest}).encode()

        class OnnxParser:
            num_errors = 0

            def __init__(self, network: Any, logger: Any) -> None:
                self.network = network

            def parse(self, model: bytes) -> bool:
                network = self.network
                network.dtype, *shape = model.decode().split()
                network.shape, network.num_outputs = [int(size) for size in shape], 1
                network.get_input = lambda index: SimpleNamespace(name="input", shape=network.shape)
                return True

        class Runtime:
            def __init__(self, logger: Any) -> None:
                pass

            def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
                return None if fake.says("deserialize") else _Engine(fake, json.loads(plan))

        self.ILogger, self.Builder, self.OnnxParser, self.Runtime = ILogger, Builder, OnnxParser, Runtime
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=0)
        self.BuilderFlag = SimpleNamespace(TF32="TF32")
        self.TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
        self.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
        if rtx:
            self.ComputeCapability = SimpleNamespace(__members__={"CURRENT": "current"})

    def says(self, what: str) -> bool:
        """Whether this does not work; then the reason is in the log."""
        if self.refuses == what:
            self.logger.log(self.ILogger.ERROR, f"IThing::{what}: Error Code 1: {what} (no reason)")
            self.logger.log(self.ILogger.ERROR, "what followed from it")
        return self.refuses == what


class _Config:
    def __init__(self, library: FakeTensorRt) -> None:
        self.flags = {"TF32"}
        self.profiles: list[Any] = []
        self.set_flag, self.clear_flag, self.add_optimization_profile = (
            self.flags.add,
            self.flags.discard,
            self.profiles.append,
        )
        self.capabilities: dict[int, str] = {}
        self.cache: bytes | None = None
        if library.rtx:
            self.num_compute_capabilities = 0

    def set_compute_capability(self, capability: str, index: int) -> bool:
        self.capabilities[index] = capability
        return index < self.num_compute_capabilities

    def create_timing_cache(self, content: bytes) -> SimpleNamespace:
        return SimpleNamespace(content=content, serialize=lambda: content + b"t")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        self.cache = cache.content
        return not ignore_mismatch

    def seen(self) -> dict[str, Any]:
        return {"capabilities": list(self.capabilities.values()), "cache": self.cache}


class _Engine:
    num_io_tensors = 2

    def __init__(self, library: FakeTensorRt, plan: dict[str, Any]) -> None:
        self.library, self.plan = library, plan

    def get_tensor_name(self, index: int) -> str:
        return ("logits", "input")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "input" else "out"

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self.plan["shape"])

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=self.plan["dtype"])

    def create_runtime_config(self) -> SimpleNamespace:
        return SimpleNamespace()

    def create_execution_context(self, config: Any = None) -> _Context:
        if self.library.rtx:
            assert config.dynamic_shapes_kernel_specialization_strategy == "eager"
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self.engine = engine
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        plan, self.shape = self.engine.plan, shape
        fits: bool = list(shape) == plan["shape"] if plan["largest"] is None else shape[0] <= int(plan["largest"])
        if not fits:
            self.engine.library.logger.log(1, f"{name} cannot have the shape {shape}")
        return fits

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        self.engine.library.streams.append(stream)
        dtype = np.dtype(DTYPES[self.engine.plan["dtype"]])
        values = int(np.prod(self.shape))
        found = {
            name: np.ctypeslib.as_array((ctypes.c_uint8 * (values * dtype.itemsize)).from_address(address)).view(dtype)
            for name, address in self.addresses.items()
        }
        found["logits"][:] = 2 * found["input"]
        return not self.engine.library.says("execute")
