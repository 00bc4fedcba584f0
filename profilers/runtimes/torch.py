"""PyTorch on the CPU or an NVIDIA GPU."""

from __future__ import annotations

import copy
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, final

from profilers.files import write_atomic
from profilers.runtimes.base import Runtime, refused

if TYPE_CHECKING:
    from torch import nn


@final
class TorchRuntime(Runtime):
    """The exported program, its operations run one by one, or compiled by Inductor."""

    engine = "torch"
    suffix = ".pt2"
    precisions = ("float32", "tf32", "float16", "bfloat16")
    devices = ("cpu", "gpu")
    packages = ("torch", "numpy")
    known_options: ClassVar[dict[str, str]] = {
        "compile": "compiled by Inductor",
        "channels_last": "images laid out channels last",
        "events": "on a GPU: timed call by call, launches included",
        "graph": "on a GPU: timed as a CUDA graph",
    }

    def stored(self, precision: str) -> str:
        """TF32 is how a GPU computes, not what the file holds."""
        return "float32" if precision == "tf32" else precision

    def _convert(self, module: nn.Module, shape: tuple[int, ...], path: Path, precision: str) -> None:
        import torch

        content, what = io.BytesIO(), f"{type(module).__name__} cannot be exported"
        mend = "see what torch.export takes: https://docs.pytorch.org/docs/stable/export.html"
        dtype = getattr(torch, self.stored(precision))
        if dtype is not torch.float32:
            module = copy.deepcopy(module).to(dtype)
        with warnings.catch_warnings(), refused(what, mend=mend):
            warnings.simplefilter("ignore")
            torch.export.save(torch.export.export(module.eval(), (torch.zeros(shape, dtype=dtype),)), content)
        write_atomic(path, content.getvalue())
