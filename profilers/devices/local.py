"""This machine's CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, final

import numpy as np

from profilers.environment import BRIEF_SPIN, cpu_environment, cpu_fingerprint, usable_cores
from profilers.errors import ConversionError, DeviceLostError, MissingDeviceError
from profilers.profiler import Profiler
from profilers.registry import find_runtime
from profilers.runtimes.base import Array
from profilers.workload import Workload

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@final
class LocalProfiler(Profiler):
    """Times in a worker process of its own, pinned to as many cores as there are threads."""

    device = "cpu"

    def __init__(self, runtime: str, threads: int) -> None:
        super().__init__()
        self.runtime = runtime
        self.threads = threads
        self._runtime = find_runtime(runtime)
        if threads > (cores := len(usable_cores())):  # they would wait for each other, and be timed waiting
            raise MissingDeviceError(f"{threads} threads on {cores} usable core(s)", mend=f"add --threads {cores}")
        self._worker: subprocess.Popen[str] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._artifacts = 0

    def _open(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="unas-hw-", ignore_cleanup_errors=True)
        # What is timed has the user's settings, not those that we train with.
        environment = dict(os.environ.items() - {BRIEF_SPIN}) | dict.fromkeys(_THREAD_VARIABLES, str(self.threads))
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "profilers.devices.worker", self.runtime, str(self.threads), self._folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # an interrupt from the terminal is ours to answer
            env=environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def _close(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker.communicate()
            self._worker = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._worker is not None  # Profiler.load refuses a closed one
        assert self._worker.stdin is not None and self._worker.stdout is not None  # they are pipes
        try:
            self._worker.stdin.write(json.dumps(request) + "\n")
            self._worker.stdin.flush()
            line = self._worker.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise DeviceLostError(
                f"the timing process of {self.runtime} ended (exit code {self._worker.wait()}) at {request['key']}",
                mend="run the same command again: what was measured is kept",
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ConversionError(
                f"{self.runtime} failed at {request['key']}: {answer['error']}", mend="choose another --runtime"
            )
        return answer

    def _path(self, suffix: str) -> Path:
        assert self._folder is not None
        self._artifacts += 1
        return Path(self._folder.name) / f"{self._artifacts}{suffix}"

    def _load(self, workload: Workload) -> None:
        path = self._path(self._runtime.suffix)
        self._runtime.convert(workload.build(), workload.op.shape, path)
        self._load_artifact(workload, path)

    def _load_artifact(self, workload: Workload, path: Path) -> None:
        self._ask(do="load", key=workload.key, path=str(path), shape=workload.op.shape, dtype=workload.op.dtype)

    def _unload(self, key: str) -> None:
        self._ask(do="unload", key=key)

    def _time_s(self, key: str, calls: int) -> float:
        return float(self._ask(do="time", key=key, calls=calls)["s"])

    def run(self, key: str, x: Array) -> Array:
        """The output of a loaded workload."""
        inputs, outputs = self._path(".npy"), self._path(".npy")
        np.save(inputs, x)
        self._ask(do="run", key=key, inputs=str(inputs), outputs=str(outputs))
        result: Array = np.load(outputs, allow_pickle=False)
        return result

    def fingerprint(self) -> dict[str, str | int]:
        return cpu_fingerprint()

    def environment(self) -> dict[str, Any]:
        return cpu_environment(self._runtime.packages)
