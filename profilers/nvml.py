"""What NVIDIA's management library (NVML) says of one GPU: clocks, power, what slows it, and who else uses it.

It makes no CUDA context, so the GPU is looked at without being used. Unknown facts are None; nothing is changed.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Collection, Iterator, Mapping
from statistics import median
from typing import Any

from profilers.errors import MissingDependencyError, MissingDeviceError

INSTALL = "pip install 'unas-hw[gpu]'"
REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal slowdown by software",
    0x40: "thermal slowdown by hardware",
    0x80: "power brake",
    0x100: "display clocks",
}
"""What the bits of NVML's clock event reasons mean."""
HARMLESS = ("idle", "application clocks")
"""The clocks are lower because nothing runs, or because somebody set them so."""

BUSY_PERCENT = 10
"""Utilization by others above which times mean nothing."""
BUSY_WINDOW_S, BUSY_INTERVAL_S = 3.0, 0.2
"""A reading looks back for up to a second, so that one moment does not tell what is there from what has just ended."""


class Nvml:
    """One GPU, by the UUID that CUDA says (its index is another where ``CUDA_VISIBLE_DEVICES`` is set); closed by
    ``with``.

    ``pci`` is its place on the bus, ``00000000:65:00.0``, where the UUID is that of a part (MIG).

    Raises:
        MissingDependencyError: If pynvml is not installed.
        MissingDeviceError: If there is no driver, or it does not know the GPU.
    """

    def __init__(self, uuid: str, pci: str | None = None) -> None:
        try:
            self._nvml: Any = importlib.import_module("pynvml")
        except ImportError:
            raise MissingDependencyError("NVML cannot be asked: pynvml is not installed", mend=INSTALL) from None
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            raise MissingDeviceError(
                f"NVML cannot be asked: {error}", mend="see whether `nvidia-smi` answers"
            ) from error
        try:
            self._gpu = self._found(uuid, pci)
            self.index: int = self._nvml.nvmlDeviceGetIndex(self._gpu)
        except self._nvml.NVMLError as error:
            self.close()
            raise MissingDeviceError(f"NVML does not know GPU {uuid}: {error}", mend="`nvidia-smi -L`") from error

    def _found(self, uuid: str, pci: str | None) -> Any:
        try:
            return self._nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        except self._nvml.NVMLError:
            if pci is None:
                raise
            return self._nvml.nvmlDeviceGetHandleByPciBusId(pci)

    def __enter__(self) -> Nvml:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the library back; once."""
        with contextlib.suppress(self._nvml.NVMLError):  # a driver that is gone has nothing left to give back
            self._nvml.nvmlShutdown()

    def _ask(self, function: str, *arguments: Any, scale: float = 1) -> Any:
        """What a function of the library says; None where the GPU, the driver or the package has no such thing."""
        try:
            value = getattr(self._nvml, function)(*arguments)
        except (self._nvml.NVMLError, AttributeError):
            return None
        return value if scale == 1 else value * scale

    def record(self, ours: Collection[int] = ()) -> dict[str, Any]:
        """How the GPU is just now.

        Args:
            ours: Processes that are not counted among the others.
        """
        nvml, gpu = self._nvml, self._gpu
        cuda, mig = self._ask("nvmlSystemGetCudaDriverVersion_v2"), self._ask("nvmlDeviceGetMigMode", gpu)
        persistence = self._ask("nvmlDeviceGetPersistenceMode", gpu)
        return {
            "driver": self._ask("nvmlSystemGetDriverVersion"),
            "driver_cuda": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            "sm_mhz": self._ask("nvmlDeviceGetClockInfo", gpu, nvml.NVML_CLOCK_SM),
            "sm_max_mhz": self._ask("nvmlDeviceGetMaxClockInfo", gpu, nvml.NVML_CLOCK_SM),
            "memory_mhz": self._ask("nvmlDeviceGetClockInfo", gpu, nvml.NVML_CLOCK_MEM),
            "memory_max_mhz": self._ask("nvmlDeviceGetMaxClockInfo", gpu, nvml.NVML_CLOCK_MEM),
            "power_w": self._ask("nvmlDeviceGetPowerUsage", gpu, scale=1e-3),
            "power_limit_w": self._ask("nvmlDeviceGetEnforcedPowerLimit", gpu, scale=1e-3),
            "temperature_c": self._ask("nvmlDeviceGetTemperature", gpu, nvml.NVML_TEMPERATURE_GPU),
            "throttle_reasons": self._reasons(),
            "persistence": None if persistence is None else bool(persistence),
            "mig": None if mig is None else bool(mig[0]),
            "utilization_percent": self.utilization_percent(),
            "processes": self.processes(ours),
        }

    def _reasons(self) -> list[str] | None:
        for name in ("Event", "Throttle"):  # the new name, and that of older packages and drivers
            bits = self._ask(f"nvmlDeviceGetCurrentClocks{name}Reasons", self._gpu)
            if bits is not None:
                known = [word for bit, word in REASONS.items() if bits & bit]
                return known + ([f"unknown ({bits:#x})"] if bits & ~sum(REASONS) else [])
        return None

    def processes(self, ours: Collection[int] = ()) -> list[dict[str, Any]]:
        """Others that compute on it: pid, name and memory. In a container they may not be seen, or not by name."""
        found = []
        for each in self._ask("nvmlDeviceGetComputeRunningProcesses", self._gpu) or ():
            if each.pid not in (*ours, os.getpid()):
                name = self._ask("nvmlSystemGetProcessName", each.pid) or ""
                found.append({"pid": each.pid, "name": os.path.basename(name), "memory_bytes": each.usedGpuMemory})
        return found

    def utilization_percent(self) -> int | None:
        """Share of the last moments (up to a second) in which a kernel ran."""
        rates = self._ask("nvmlDeviceGetUtilizationRates", self._gpu)
        return None if rates is None else int(rates.gpu)

    def busy_percent(self) -> float:
        """The same while we do nothing: the median of some seconds, or the first reading where that is low."""
        readings = [self.utilization_percent() or 0]
        while readings[0] > BUSY_PERCENT and len(readings) * BUSY_INTERVAL_S < BUSY_WINDOW_S:
            time.sleep(BUSY_INTERVAL_S)
            readings.append(self.utilization_percent() or 0)
        return float(median(readings))


def named(processes: Collection[Mapping[str, Any]]) -> str:
    """Processes in words."""
    return ", ".join(f"process {each['pid']}" + (f" ({each['name']})" if each["name"] else "") for each in processes)


def gpu_warnings(gpu: Mapping[str, Any]) -> Iterator[str]:
    """What disturbs timing on a GPU of which ``record`` said this, or why it could not be asked."""
    if gpu.get("missing"):
        yield f"clocks, throttling and other users of the GPU are unknown: {gpu['missing']}"
    slowed = [reason for reason in gpu.get("throttle_reasons") or () if reason not in HARMLESS]
    if slowed:
        yield f"the GPU is slowed down: {', '.join(slowed)}"
    if gpu.get("processes"):
        yield f"others use the GPU: {named(gpu['processes'])}"
    if gpu.get("mig"):
        yield "the GPU is divided (MIG): its other parts share memory bandwidth and power"
    if gpu.get("persistence") is False:
        yield "persistence mode is off: the driver sleeps between runs, and clocks start low; sudo nvidia-smi -pm 1"
