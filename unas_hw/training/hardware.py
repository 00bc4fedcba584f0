"""What training and evaluation run on, and in which form."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeVar

import torch
from torch import Tensor, nn

from profilers.errors import MissingDependencyError, MissingDeviceError

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Hardware:
    """A device and how it is used; plain by default.

    Attributes:
        device: As torch names it.
        bf16: Products in bfloat16, weights and sums in float32 (autocast).
        channels_last: Images and filters with their channels innermost.
        compile: With ``torch.compile``.
    """

    device: str = "cpu"
    bf16: bool = False
    channels_last: bool = False
    compile: bool = False

    @staticmethod
    def of(network: nn.Module) -> Hardware:
        """The device that a network is on."""
        weight = next(network.parameters(), None)
        return Hardware("cpu" if weight is None else str(weight.device))

    @staticmethod
    def choose(
        device: str | None = None,
        bf16: bool | None = None,
        channels_last: bool | None = None,
        compile: bool | None = None,
    ) -> Hardware:
        """What is asked for; what is not (None) is on for a GPU, which it makes faster, and off for a CPU.

        The device is ``cpu``, ``gpu`` or ``gpu:1``, also as ``cuda``; by default a GPU where there is one.

        Raises:
            MissingDeviceError: If there is no such device.
            MissingDependencyError: If there is nothing to compile with.
        """
        name = (device or ("cuda" if torch.cuda.is_available() else "cpu")).replace("gpu", "cuda")
        kind, _, number = name.partition(":")
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if name != "cpu" and (kind != "cuda" or not (number or "0").isdigit() or int(number or 0) >= gpus):
            raise MissingDeviceError(
                f"torch has no device {device!r} here, {gpus} GPUs",
                mend="say cpu: train --device cpu, search --train-on cpu",
            )
        is_gpu = kind == "cuda"
        tools = find_spec("triton") if is_gpu else any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++")))
        if compile and not tools:
            raise MissingDependencyError(
                f"torch.compile needs {'triton' if is_gpu else 'a C++ compiler'}", mend="add --no-compile"
            )
        return Hardware(
            name,
            is_gpu and torch.cuda.is_bf16_supported() if bf16 is None else bf16,
            is_gpu if channels_last is None else channels_last,
            is_gpu and bool(tools) if compile is None else compile,
        )

    def of_process(self) -> Hardware:
        """With this process's own GPU, where torchrun has started several on this machine.

        Raises:
            MissingDeviceError: If there are fewer GPUs than processes.
        """
        if self.device != "cuda":
            return self
        own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        return Hardware.choose(own, self.bf16, self.channels_last, self.compile)

    @property
    def is_gpu(self) -> bool:
        return self.device.startswith("cuda")

    def format(self, images: Tensor) -> Tensor:
        """Images in the order that is wanted."""
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def autocast(self) -> torch.autocast:
        """Within it the arithmetic is what was asked for."""
        return torch.autocast(self.device.partition(":")[0], torch.bfloat16, enabled=self.bf16)

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Within it torch's own random numbers follow from the seed; afterwards they are what they were."""
        with torch.random.fork_rng([self.device] if self.is_gpu else []):
            torch.manual_seed(seed)
            yield

    def ready(self, network: Network) -> Network:
        """The network, moved to this device and into the order that is wanted."""
        network.to(self.device)
        if self.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
        return network

    def synchronize(self) -> None:
        """Waits until the device has done all it was told to do."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)

    @contextmanager
    def holding(self, network: nn.Module) -> Iterator[None]:
        """Within it the network is on this device, in the order that is wanted; afterwards as it was."""
        home = Hardware.of(network).device
        self.ready(network)
        try:
            yield
        finally:
            network.to(home)
            if self.channels_last:
                network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
