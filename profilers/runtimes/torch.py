"""PyTorch on the CPU."""

from __future__ import annotations

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
    packages = ("torch", "numpy")
    known_options: ClassVar[dict[str, str]] = {
        "compile": "compiled by Inductor",
        "channels_last": "images laid out channels last",
    }

    def _convert(self, module: nn.Module, shape: tuple[int, ...], path: Path, precision: str) -> None:
        import torch

        content, what = io.BytesIO(), f"{type(module).__name__} cannot be exported"
        mend = "see what torch.export takes: https://docs.pytorch.org/docs/stable/export.html"
        with warnings.catch_warnings(), refused(what, mend=mend):
            warnings.simplefilter("ignore")
            torch.export.save(torch.export.export(module.eval(), (torch.zeros(shape),)), content)
        write_atomic(path, content.getvalue())
