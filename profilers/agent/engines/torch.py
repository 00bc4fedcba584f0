"""PyTorch on the CPU or an NVIDIA GPU: an exported program, its operations run one by one or compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from profilers.agent.engine import Array, Engine, random_input
from profilers.agent.engines import cuda


def load(path: str, threads: int, precision: str, options: Sequence[str]) -> TorchEngine:
    """The program in this file.

    ``compile`` hands it to Inductor, ``channels_last`` lays images out so; ``cuda`` runs it on the first GPU, where
    ``events`` and ``graph`` say how it is timed (``cuda_timer``).
    """
    import torch

    torch.set_num_threads(threads)
    if "cuda" in options:
        return CudaTorchEngine(path, precision, options)
    for name in (*options, precision):
        if name in (*cuda.CLOCKS, "tf32"):
            raise RuntimeError(f"{name} is for --device gpu")
    return TorchEngine(load_program(path, options), precision, "channels_last" in options)


def load_program(path: str, options: Sequence[str], device: str = "cpu") -> Any:
    """A callable module of an exported program; it was exported on the CPU."""
    import torch
    from torch.export.passes import move_to_device_pass

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load(path)
        if device != "cpu":  # constants, and operations that name a device, do not follow the module's `to`
            program = move_to_device_pass(program, device)
        module: Any = program.module()
        if "channels_last" in options:
            module = module.to(memory_format=torch.channels_last)
        return torch.compile(module, dynamic=False) if "compile" in options else module


class TorchEngine(Engine):
    """One module."""

    device = "cpu"

    def __init__(self, module: Any, precision: str, channels_last: bool) -> None:
        super().__init__()
        import torch

        self.module = module
        self.channels_last = channels_last
        self.dtype = getattr(torch, precision) if precision in ("float16", "bfloat16") else torch.float32

    def place(self, x: Array) -> Any:
        """The input as a tensor on the device, in the module's type and layout."""
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(x)).to(self.device, self.dtype)
        image = self.channels_last and tensor.ndim == 4
        return tensor.to(memory_format=torch.channels_last) if image else tensor

    def bind(self, x: Array) -> Callable[[], object]:
        import torch

        tensor, module, inference = self.place(x), self.module, torch.inference_mode

        def call() -> object:
            with inference():
                return module(tensor)

        return call

    def run(self, x: Array) -> Array:
        return self.bind(x)().float().cpu().numpy()  # type: ignore[attr-defined]  # a tensor


class CudaTorchEngine(TorchEngine):
    """One module on the first GPU that is visible.

    ``tf32`` rounds what matrix units multiply to 19 bits; ``float32`` does not. Options are as in ``load``.
    """

    device = "cuda"

    def __init__(self, path: str, precision: str, options: Sequence[str]) -> None:
        import torch

        self.clock = cuda.clock_of(options)
        before = torch.cuda.memory_allocated()
        super().__init__(load_program(path, options, self.device), precision, "channels_last" in options)
        self.weights_bytes = torch.cuda.memory_allocated() - before
        self.precision = precision
        self.timed: cuda.CudaTimer | None = None

    def _set_precision(self) -> None:
        """Of the process, and a process has several precisions: those of the table, and the sentinel's float32."""
        import torch

        products = "tf32" if self.precision == "tf32" else "ieee"
        torch.backends.cuda.matmul.fp32_precision = products
        torch.backends.cudnn.conv.fp32_precision = products  # type: ignore[attr-defined]  # made when it is asked for

    def bind(self, x: Array) -> Callable[[], object]:
        self._set_precision()  # what is bound is called next
        return super().bind(x)

    def wait(self) -> None:
        import torch

        torch.cuda.synchronize()

    def timer(self, shape: tuple[int, ...]) -> Callable[[int], float]:
        """By the GPU's own clock; sees on the way how much memory a call needs, weights and input included."""
        x = random_input(shape)
        self.details["peak_memory_bytes"] = self.weights_bytes + cuda.peak_bytes(lambda: self.bind(x))
        timed = self.timed = cuda.cuda_timer(self.bind(x), self.details, self.clock)

        def time_s(calls: int) -> float:
            self._set_precision()
            return timed(calls)

        return time_s

    def spin(self, shape: tuple[int, ...], seconds: float) -> int:
        if self.timed is None:
            return super().spin(shape, seconds)
        self._set_precision()
        return self.timed.spin(seconds)
