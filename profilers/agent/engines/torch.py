"""PyTorch on the CPU: an exported program, its operations run one by one or compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from profilers.agent.engine import Array, Engine


def load(path: str, threads: int, precision: str, options: Sequence[str]) -> TorchEngine:
    """The program in this file; ``compile`` hands it to Inductor, ``channels_last`` lays images out so."""
    import torch

    del precision  # is in the program
    torch.set_num_threads(threads)
    return TorchEngine(load_program(path, options), "channels_last" in options)


def load_program(path: str, options: Sequence[str]) -> Any:
    """A callable module of an exported program."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: Any = torch.export.load(path).module()
        if "channels_last" in options:
            module = module.to(memory_format=torch.channels_last)
        return torch.compile(module, dynamic=False) if "compile" in options else module


class TorchEngine(Engine):
    """One module."""

    def __init__(self, module: Any, channels_last: bool, device: str = "cpu") -> None:
        super().__init__()
        self.module = module
        self.channels_last = channels_last
        self.device = device
        self.dtype = next((each.dtype for each in module.parameters()), None)

    def place(self, x: Array) -> Any:
        """The input as a tensor on the device, in the module's type and layout."""
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(x)).to(self.device, self.dtype or torch.float32)
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
        import torch

        with torch.inference_mode():
            return self.module(self.place(x)).float().cpu().numpy()
