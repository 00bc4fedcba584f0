"""This machine's CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, final

from profilers.agent.machine import fingerprint, usable_cores
from profilers.agent.serve import encode, receive
from profilers.devices.agent import AgentProfiler
from profilers.environment import BRIEF_SPIN, THREAD_VARIABLES, cpu_environment
from profilers.errors import DeviceLostError, MissingDeviceError
from profilers.power import find_meter
from profilers.power_base import PowerMeter
from profilers.registry import find_runtime


class ProcessProfiler(AgentProfiler):
    """Its agent is a process of this machine, pinned to as many cores as there are threads; for ``cpu`` or ``gpu``."""

    def __init__(self, runtime: str, threads: int, kind: str) -> None:
        super().__init__()
        self._runtime = find_runtime(runtime, kind)
        self.runtime = self._runtime.name
        self.threads = threads
        if threads > (cores := len(usable_cores())):  # they would wait for each other, and be timed waiting
            raise MissingDeviceError(f"{threads} threads on {cores} usable core(s)", mend=f"add --threads {cores}")
        self._agent: subprocess.Popen[bytes] | None = None

    def _command(self) -> list[str]:
        """The agent's module and its arguments."""
        return ["profilers.agent", self.runtime, str(self.threads)]

    def _variables(self) -> dict[str, str]:
        """Of its environment, beside the user's."""
        return dict.fromkeys(THREAD_VARIABLES, str(self.threads))

    def _open(self) -> None:
        self._agent = subprocess.Popen(
            [sys.executable, "-m", *self._command()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # an interrupt from the terminal is ours to answer
            env=child_environment(self._variables()),
        )

    def _close(self) -> None:
        if self._agent is not None:
            agent, self._agent = self._agent, None
            try:
                agent.communicate(timeout=10)  # the end of its input: it removes its files and ends
            except subprocess.TimeoutExpired:  # in the middle of a call that nobody waits for any more
                agent.kill()
                agent.communicate()

    def _exchange(self, request: dict[str, Any], payload: bytes = b"") -> tuple[dict[str, Any], bytes]:
        assert self._agent is not None  # Profiler.load refuses a closed one
        assert self._agent.stdin is not None and self._agent.stdout is not None  # they are pipes
        try:
            self._agent.stdin.write(encode(request, payload))
            self._agent.stdin.flush()
            answer = receive(self._agent.stdout)
        except BrokenPipeError:
            answer = None
        if answer is None:
            raise DeviceLostError(
                f"the timing process of {self.runtime} ended (exit code {self._agent.wait()}) at {request['key']}",
                mend="run the same command again: what was measured is kept",
            )
        return answer


def child_environment(variables: dict[str, str]) -> dict[str, str]:
    """For a process of ours: the user's settings, not those that we train with, and our modules."""
    environment = dict(os.environ.items() - {BRIEF_SPIN})
    return environment | variables | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@final
class LocalProfiler(ProcessProfiler):
    """Times on the CPU."""

    device = "cpu"

    def __init__(self, runtime: str, threads: int) -> None:
        super().__init__(runtime, threads, self.device)

    def _meter(self) -> PowerMeter:
        return find_meter(None, None)

    def fingerprint(self) -> dict[str, str | int]:
        return fingerprint()

    def environment(self) -> dict[str, Any]:
        return cpu_environment(self._runtime.packages)
