"""PyTorch on the CPU or an NVIDIA GPU."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Mapping
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
        write_program(module, shape, path, self.stored(precision))


def write_program(
    module: nn.Module,
    shape: tuple[int, ...],
    path: Path,
    precision: str = "float32",
    *,
    batches: tuple[int, int] | None = None,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Writes an exported program of a module, which is left as it is, for inputs of that shape, batch first.

    Args:
        module: Takes one tensor and returns one; of 32 bits.
        shape: Of the input, batch first.
        path: Of the file; replaced at once or left as it was.
        precision: ``float16`` and ``bfloat16`` are the types of weights, input and output.
        batches: The smallest and the largest batch that it takes; that of the shape by default.
        extra: Texts by name that lie in the file.

    Raises:
        ConversionError: If the module cannot be exported.
        FileError: If the file cannot be written.
    """
    import torch

    content, what = io.BytesIO(), f"{type(module).__name__} cannot be exported"
    mend = "see what torch.export takes: https://docs.pytorch.org/docs/stable/export.html"
    dtype = getattr(torch, precision)
    if dtype is not torch.float32:
        module = copy.deepcopy(module).to(dtype)
    dynamic = None
    if batches:
        dynamic = ({0: torch.export.Dim("batch", min=batches[0], max=batches[1])},)
        shape = (max(2, shape[0]), *shape[1:])  # 1 would be taken for a constant
    with warnings.catch_warnings(), refused(what, mend=mend):
        warnings.simplefilter("ignore")
        program = torch.export.export(module.eval(), (torch.zeros(shape, dtype=dtype),), dynamic_shapes=dynamic)
        torch.export.save(program, content, extra_files=dict(extra or {}))
    write_atomic(path, content.getvalue())
