"""Subject: an artifact with all that it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import nn

from profilers.opspec import OpSpec
from profilers.registry import find_runtime
from profilers.workload import Workload
from unas_hw.export import Format
from unas_hw.export.manifest import Manifest
from unas_hw.network import load_network
from unas_hw.spaces import in_precision
from unas_hw.verify.artifact import Context


@dataclass(frozen=True)
class Subject:
    """What is verified: the artifact whose first file is ``path``, what it was meant to be, and the run it came from.

    ``given`` is the network, where it is not the run's own.
    """

    context: Context
    manifest: Manifest
    path: Path
    given: nn.Module | None = None

    @property
    def fmt(self) -> Format:
        """Its format."""
        return self.manifest.fmt

    @cached_property
    def network(self) -> nn.Module:
        """What it should be, in float32 and evaluation mode."""
        return self.given or load_network(self.context.run, self.context.space)

    @property
    def runtime(self) -> str | None:
        """What runs it: the table's runtime, or else the first of the format; None for what is only source."""
        table = str(self.context.table.header["runtime"])
        names = [table] if table.partition("+")[0] in self.fmt.runtimes else []
        for name in (*names, *self.fmt.runtimes):
            if self.manifest.precision in find_runtime(name, runs_here=False).precisions:
                return name
        return None

    @property
    def stored(self) -> str:
        """The precision of its file: TF32 is how it is computed."""
        return "float32" if self.manifest.precision == "tf32" else self.manifest.precision

    @property
    def onnx(self) -> Path | None:
        """The ONNX file that it is or was built of."""
        if self.fmt.name == "tensorrt":
            return self.fmt.files(self.path)[1]
        return self.path if self.fmt.name == "onnx" else None

    @property
    def as_priced(self) -> bool:
        """Whether it takes the batch that the budget is for."""
        return self.manifest.range.takes(self.context.space.input_shape[0])

    @property
    def workload(self) -> Workload:
        """The network in this precision, for the batch that the budget is for or the nearest that the file takes."""
        workload = in_precision(self.context.space, self.manifest.precision).workload(self.context.architecture)
        batch, *image = workload.op.shape
        nearest = self.manifest.range.best(batch)
        if nearest == batch:
            return workload
        return Workload(
            OpSpec(workload.op.kind, workload.op.attrs, (nearest, *image), workload.op.dtype), workload.build
        )
