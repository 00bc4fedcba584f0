"""An NVIDIA GPU of this machine."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from functools import cached_property
from typing import Any, final

from profilers.devices.local import ProcessProfiler, child_environment
from profilers.environment import cpu_environment, timing_warnings
from profilers.errors import MissingDependencyError, MissingDeviceError, UnknownNameError
from profilers.nvml import BUSY_PERCENT, BUSY_WINDOW_S, Nvml, named
from profilers.power import find_meter
from profilers.power_base import PowerMeter
from profilers.registry import RUNTIMES, devices_of, is_installed

_NAME = re.compile(r"gpu(?::(?P<index>\d+))?(?:\?shared=(?P<shared>[01]))?")
FACTS_S = 120
GIB = 2**30


@final
class GpuProfiler(ProcessProfiler):
    """Times on one GPU; the process that asks makes no CUDA context there.

    Args:
        device: ``gpu`` or ``gpu:1``, as PyTorch counts; ``gpu?shared=1`` measures also while others keep it busy.
        runtime: By default TensorRT where it can be imported, else torch.
        threads: Of the host that an operation may use.

    Raises:
        MissingDeviceError: If there are not so many GPUs.
        UnknownNameError: If that is no name of a GPU, or no runtime of GPUs.
    """

    def __init__(self, device: str, runtime: str | None = None, threads: int = 1) -> None:
        name = _NAME.fullmatch(device)
        if name is None:
            raise UnknownNameError(f"no device is called {device!r}", mend="write gpu, gpu:1 or gpu:0?shared=1")
        super().__init__(runtime or default_runtime(), threads, "gpu")
        if "xnnpack" in self._runtime.options:
            raise UnknownNameError(f"{self.runtime} does not run on GPUs", mend="add --runtime onnxruntime+cuda")
        self.device = device
        self._index, self._shared = int(name["index"] or 0), name["shared"] == "1"
        self._refuse_absent()
        self._others: list[dict[str, Any]] | None = None

    def _refuse_absent(self) -> None:
        import torch

        count = torch.cuda.device_count()  # makes no context
        if self._index >= count:
            raise MissingDeviceError(f"--device {self.device}: PyTorch sees {count} GPU(s)", mend="add --device gpu")

    def _command(self) -> list[str]:
        options = dict.fromkeys((*self._runtime.options, "cuda"))  # where it runs is no part of the runtime's name
        return ["profilers.agent", "+".join((self._runtime.engine, *options)), str(self.threads)]

    def _variables(self) -> dict[str, str]:
        visible = only(self._index, os.environ.get("CUDA_VISIBLE_DEVICES"))
        return {**super()._variables(), "CUDA_VISIBLE_DEVICES": visible}

    def _open(self) -> None:
        try:
            nvml = self._nvml()
        except (MissingDependencyError, MissingDeviceError):  # a warning of the environment says so
            super()._open()
            return
        with nvml:
            self._others = nvml.processes()  # later our own would be among them, by a number that we may not know
            if not self._shared:
                self._refuse_busy(nvml.busy_percent())
        super()._open()

    def _refuse_busy(self, percent: float) -> None:
        if percent > BUSY_PERCENT:
            who = named(self._others or ()) or "a process that is not seen from here"
            raise MissingDeviceError(
                f"{self.device} is busy for {percent:.0f}% of {BUSY_WINDOW_S:g} s with the work of others: {who}",
                mend=f"wait until `nvidia-smi` shows it idle, or add --device gpu:{self._index}?shared=1",
            )

    def _close(self) -> None:
        super()._close()
        self._others = None

    def _nvml(self) -> Nvml:
        return Nvml(self._facts["uuid"], self._facts["pci"])

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """Asked in a process that ends, since asking may make a context."""
        command = [sys.executable, "-m", "profilers.agent.engines.cuda", "0"]
        environment, mend = child_environment(self._variables()), "see whether `nvidia-smi` answers"
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, errors="replace", timeout=FACTS_S
            )
        except subprocess.TimeoutExpired:
            raise MissingDeviceError(f"{self.device} does not answer for {FACTS_S} s", mend=mend) from None
        if done.returncode:
            reason = done.stderr.strip().rpartition("\n")[2]
            raise MissingDeviceError(f"{self.device} does not answer: {reason}", mend=mend)
        facts: dict[str, Any] = json.loads(done.stdout)
        return facts

    def details(self, key: str) -> dict[str, Any]:
        found = super().details(key)
        if self._runtime.engine == "torch":
            return found
        return {name: value for name, value in found.items() if name != "peak_memory_bytes"}  # that of the host

    def _meter(self) -> PowerMeter:
        with self._nvml() as nvml:
            index = nvml.index
        return find_meter(None, index)

    def fingerprint(self) -> dict[str, str | int]:
        """Memory in whole GiB: drivers differ in what they keep of it for themselves."""
        facts = self._facts
        memory_bytes = round(facts["memory_bytes"] / GIB) * GIB
        return {
            "kind": "gpu",
            "name": facts["name"],
            "memory_bytes": memory_bytes,
            "capability": facts["capability"],
        }

    def environment(self) -> dict[str, Any]:
        ours = () if self._agent is None else (self._agent.pid,)
        gpu = look(self._facts, ours)
        if self._others is not None:
            gpu["processes"] = self._others
        return {**cpu_environment((*self._runtime.packages, "nvidia-ml-py")), "gpu": gpu}


def look(facts: dict[str, Any], ours: tuple[int, ...] = ()) -> dict[str, Any]:
    """What CUDA and NVML say of a GPU; where NVML cannot be asked, ``missing`` says why."""
    try:
        with Nvml(facts["uuid"], facts["pci"]) as nvml:
            return {**facts, **nvml.record(ours), "missing": None}
    except (MissingDependencyError, MissingDeviceError) as error:
        return {**facts, "missing": f"{error.what}; {error.mend}"}


def only(index: int, visible: str | None) -> str:
    """``CUDA_VISIBLE_DEVICES`` under which the GPU of that index is the only one, where it was ``visible`` before."""
    return visible.split(",")[index].strip() if visible else str(index)


def default_runtime() -> str:
    """TensorRT where it is whole: its Python part installs alone, without the libraries that it loads."""
    try:
        importlib.import_module("tensorrt")
    except (ImportError, OSError):
        return "torch"
    return "tensorrt"


def listing() -> list[dict[str, Any]]:
    """The lines of ``unas-hw devices``; for a process that ends soon, since CUDA is asked."""
    import onnxruntime
    import torch

    from profilers.agent.engines.cuda import facts

    runtimes = [name for name in RUNTIMES if is_installed(name) and "gpu" in devices_of(name)]
    if not any(name.startswith(("CUDA", "Tensorrt")) for name in onnxruntime.get_available_providers()):
        runtimes.remove("onnxruntime")
    lines = []
    for index in range(torch.cuda.device_count()):
        found = look(facts(index))
        lines.append(
            {
                "device": f"gpu:{index}" if index else "gpu",
                "name": found["name"],
                "runtimes": runtimes,
                "missing": "",
                "warnings": list(timing_warnings({"gpu": found})),
            }
        )
    return lines
