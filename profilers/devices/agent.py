"""A profiler whose operations are timed by an agent: a process of its own, wherever it runs."""

from __future__ import annotations

import io
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from profilers.agent.engine import Array
from profilers.devices.converting import ConvertingProfiler
from profilers.errors import ConversionError
from profilers.files import explained
from profilers.workload import Workload


class AgentProfiler(ConvertingProfiler):
    """Converts here, times there; a subclass starts the agent and carries messages to it."""

    def __init__(self) -> None:
        super().__init__()
        self._details: dict[str, dict[str, Any]] = {}

    @abstractmethod
    def _exchange(self, request: dict[str, Any], payload: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """The agent's answer to a request; raises ``DeviceLostError``."""

    def _ask(self, request: dict[str, Any], payload: bytes = b"") -> tuple[dict[str, Any], bytes]:
        answer, content = self._exchange(request, payload)
        if "error" in answer:
            raise ConversionError(
                f"{self.runtime} failed at {request['key']}: {answer['error']}", mend="choose another --runtime"
            )
        return answer, content

    def _load_artifact(self, workload: Workload, path: Path) -> None:
        request = {"do": "load", "key": workload.key, "suffix": path.suffix, "precision": workload.op.dtype}
        with explained(path):
            content = path.read_bytes()
        answer = self._ask({**request, "shape": workload.op.shape}, content)[0]
        self._details[workload.key] = answer["details"]

    def details(self, key: str) -> dict[str, Any]:
        return self._details[key]

    def _unload(self, key: str) -> None:
        self._ask({"do": "unload", "key": key})

    def _time_s(self, key: str, calls: int) -> float:
        return float(self._ask({"do": "time", "key": key, "calls": calls})[0]["s"])

    def _spin(self, key: str, seconds: float) -> int:
        return int(self._ask({"do": "spin", "key": key, "s": seconds})[0]["calls"])

    def run(self, key: str, x: Array) -> Array:
        """The output of a loaded workload."""
        inputs = io.BytesIO()
        np.save(inputs, x)
        return np.load(io.BytesIO(self._ask({"do": "run", "key": key}, inputs.getvalue())[1]), allow_pickle=False)
