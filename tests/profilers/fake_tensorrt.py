"""As much of TensorRT's Python interface as the engine uses, of networks that double their input.

What it is given to parse is a text: ``FLOAT -1 3 4`` is the type and shape of the input. Memory is the CPU's, at the
addresses that it is told.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from profilers.agent.engines import tensorrt, tensorrt_build

DTYPES = {"FLOAT": np.float32, "HALF": np.float16}


def install(rtx: bool, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    """A library, a driver and a GPU whose memory is the CPU's."""
    fake, current, empty = FakeTensorRt(rtx), [0], torch.empty

    @contextmanager
    def stream(chosen: Any) -> Iterator[None]:
        current.append(chosen.number)
        yield
        current.pop()

    for name in tensorrt_build.LIBRARIES:
        monkeypatch.setitem(sys.modules, name, fake if name == fake.__name__ else None)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    monkeypatch.setattr(torch, "empty", lambda shape, dtype, device: empty(shape, dtype=dtype))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA Fake 4000")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: SimpleNamespace(number=7))
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=current[-1]))
    monkeypatch.setattr(tensorrt, "_TIMINGS", bytearray())
    return fake


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
        self.network_flags = 0
        self.kernels = ""  # type that engines compute in, where it is not that of the network

        class ILogger:
            INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2

            def log(self, severity: int, msg: str) -> None:
                raise AssertionError("not overridden")

        class Builder:
            def __init__(self, logger: Any) -> None:
                fake.logger = fake.logger or logger  # the first one counts
                fake.logger.log(ILogger.WARNING, "a warning, which is no reason")

            def create_network(self, flags: int) -> SimpleNamespace:
                fake.network_flags = flags
                return SimpleNamespace(num_outputs=0)

            def create_builder_config(self) -> _Config:
                return _Config(fake)

            def create_optimization_profile(self) -> SimpleNamespace:
                profile = SimpleNamespace()
                profile.set_shape = lambda name, *shapes: profile.__dict__.update(
                    batches=[shape[0] for shape in shapes]
                )
                return profile

            def build_serialized_network(self, network: Any, config: _Config) -> bytes | None:
                if fake.says("build"):
                    return None
                batches = config.profiles[0].batches if config.profiles else None
                fake.builds.append({"batches": batches, "flags": config.flags, **config.seen()})
                kernels, detailed = fake.kernels or network.dtype, config.profiling_verbosity == "detailed"
                plan = {"dtype": network.dtype, "shape": network.shape, "batches": batches}
                return json.dumps({**plan, "kernels": kernels, "detailed": detailed}).encode()

        class OnnxParser:
            num_errors = 0

            def __init__(self, network: Any, logger: Any) -> None:
                self.network = network

            def parse(self, model: bytes) -> bool:
                network = self.network
                network.dtype, *shape = model.decode().split()
                network.shape, network.num_outputs = [int(size) for size in shape], 1
                values = [SimpleNamespace(name=name, dtype=SimpleNamespace(name=network.dtype)) for name in "xy"]
                layer = SimpleNamespace(type=SimpleNamespace(name="CONVOLUTION"), num_inputs=1, num_outputs=1)
                layer.get_input, layer.get_output = (lambda index: values[0]), (lambda index: values[1])
                network.num_layers, network.get_layer = 1, lambda index: layer
                network.get_input = lambda index: SimpleNamespace(name="input", shape=network.shape)
                return True

        class Runtime:
            def __init__(self, logger: Any) -> None:
                pass

            def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
                if fake.says("deserialize"):
                    return None
                if not plan.startswith(b"{"):
                    fake.logger.log(ILogger.ERROR, "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (tag)")
                    return None
                return _Engine(fake, json.loads(plan))

        self.ILogger, self.Builder, self.OnnxParser, self.Runtime = ILogger, Builder, OnnxParser, Runtime
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=0)
        self.BuilderFlag = SimpleNamespace(TF32="TF32")
        self.TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
        self.ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
        self.LayerInformationFormat = SimpleNamespace(JSON="json")
        self.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user")
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
        self.profiling_verbosity = "names"
        self.library = library
        if library.rtx:
            self.num_compute_capabilities = 0

    def set_compute_capability(self, capability: str, index: int) -> bool:
        self.capabilities[index] = capability
        return index < self.num_compute_capabilities

    def create_timing_cache(self, content: bytes) -> SimpleNamespace:
        return SimpleNamespace(content=content, serialize=lambda: content + b"t")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if cache.content.strip(b"t"):
            self.library.logger.log(1, "Magic tag does not match")
            return ignore_mismatch
        self.cache = cache.content
        return True

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

    def get_tensor_profile_shape(self, name: str, index: int) -> list[list[int]]:
        return [[batch, *self.plan["shape"][1:]] for batch in self.plan["batches"]]

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self.plan)

    def create_execution_context(self, config: Any = None) -> _Context:
        if self.library.rtx and config != "user":
            assert config.dynamic_shapes_kernel_specialization_strategy == "eager"
        return _Context(self)


class Inspector:
    """As that of TensorRT 10: the types of a dynamic engine are told where a context has its shapes."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.execution_context: _Context | None = None

    def get_engine_information(self, format_: str) -> str:
        name = "conv + relu"
        if not self.plan["detailed"]:
            return json.dumps({"Layers": [name], "Bindings": ["input", "logits"]})
        known = self.plan["batches"] is None or (self.execution_context is not None and self.execution_context.shape)
        tensor = {"Format/Datatype": self.plan["kernels"].capitalize() if known else "N/A due to dynamic shapes"}
        layer = {"Name": name, "LayerType": "CaskConvolution", "Inputs": [tensor], "Outputs": [tensor]}
        return json.dumps({"Layers": [layer], "Bindings": ["input", "logits"]})


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self.engine = engine
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        plan, self.shape = self.engine.plan, shape
        least, _, most = plan["batches"] or (plan["shape"][0],) * 3
        fits: bool = list(shape[1:]) == plan["shape"][1:] and least <= shape[0] <= most
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


def tensor_told(type_: str, key: str = "Format/Datatype") -> dict[str, Any]:
    """What an inspector says of a tensor."""
    return {"Name": "t", "Location": "Device", "Dimensions": [1, 8, 4, 4], key: type_}


def layer_told(kind: str, inputs: list[str], output: str, **other: Any) -> dict[str, Any]:
    """What it says of a layer."""
    return {
        "LayerType": kind,
        "Inputs": [tensor_told(each) for each in inputs],
        "Outputs": [tensor_told(output)],
        **other,
    }
