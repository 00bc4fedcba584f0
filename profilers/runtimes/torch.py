"""PyTorch, eager, on the CPU."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from profilers.files import write_atomic
from profilers.runtimes.base import Array, Engine, Runtime, refused

if TYPE_CHECKING:
    from torch import nn


@final
class TorchRuntime(Runtime):
    """The exported program, its operations run one by one."""

    name = "torch"
    suffix = ".pt2"
    packages = ("torch", "numpy")

    def convert(self, module: nn.Module, shape: tuple[int, ...], path: Path) -> None:
        import torch

        content, what = io.BytesIO(), f"{type(module).__name__} cannot be exported"
        mend = "see what torch.export takes: https://docs.pytorch.org/docs/stable/export.html"
        with warnings.catch_warnings(), refused(what, mend=mend):
            warnings.simplefilter("ignore")
            torch.export.save(torch.export.export(module.eval(), (torch.zeros(shape),)), content)
        write_atomic(path, content.getvalue())

    def load(self, path: Path, threads: int) -> TorchEngine:
        import torch

        torch.set_num_threads(threads)
        with warnings.catch_warnings(), refused(f"torch cannot load {path}", mend="export it again: unas-hw export"):
            warnings.simplefilter("ignore")
            return TorchEngine(torch.export.load(path).module())


@final
class TorchEngine(Engine):
    """One module."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def bind(self, x: Array) -> Callable[[], object]:
        import torch

        tensor, module, inference = torch.from_numpy(x), self.module, torch.inference_mode

        def call() -> object:
            with inference():
                return module(tensor)

        return call

    def run(self, x: Array) -> Array:
        import torch

        with torch.inference_mode():
            output: Array = self.module(torch.from_numpy(x)).numpy()
        return output
