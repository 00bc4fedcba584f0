"""A profiler of files: workloads are converted here, by a runtime, and loaded where they are timed."""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from pathlib import Path

from profilers.profiler import Profiler
from profilers.runtimes.base import Runtime
from profilers.workload import Workload


class ConvertingProfiler(Profiler):
    """A subclass says how a file is loaded."""

    _runtime: Runtime

    def _load(self, workload: Workload) -> None:
        with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
            path = Path(folder) / f"module{self._runtime.suffix}"
            self._runtime.convert(workload.build(), workload.op.shape, path, workload.op.dtype)
            self._load_artifact(workload, path)

    @abstractmethod
    def _load_artifact(self, workload: Workload, path: Path) -> None:
        """Makes the file ready to be timed under the workload's key."""
