"""Energy meters: what a window of work cost, in millijoules, from whatever the machine has.

Three sources stand behind one interface: the CPU packages' counters (RAPL), an NVIDIA GPU (NVML), and any command or
file that prints watts or joules. A meter reads once when it is made, so that a missing one is known before the work.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from profilers.errors import FileError, MissingDependencyError, MissingDeviceError, PowerError, UnasError, UnitError
from profilers.power_base import POWER_COMMAND_MEND, CounterMeter, Energy, PowerMeter, SampledMeter

POWERCAP_ROOT: Final = "/sys/class/powercap"
T = TypeVar("T")

# Neither sub-zones (core, dram) nor intel-rapl-mmio: they are not packages, or the same joules again.
_PACKAGE_ZONE = re.compile(r"intel-rapl:\d+")
_READING = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(mW|W|mJ|J)?\s*")
_QUOTED_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class EnergyReading:
    """The energy of one call, and how it was measured.

    Attributes:
        energy_mj: Energy per call above idle; negative if the window drew less than idle.
        calls: How many calls the window held.
        window_s: How long the meter's window was.
        idle_w: The idle power that was subtracted.
        meter: The meter's name.
    """

    energy_mj: float
    calls: int
    window_s: float
    idle_w: float
    meter: str


class RaplMeter(CounterMeter[tuple[float, list[int]]]):
    """Energy of all CPU packages, from the kernel's powercap counters.

    A counter that wrapped around once is put right. More than once in a window cannot be seen, but takes minutes.
    """

    def __init__(self, root: str | Path = POWERCAP_ROOT) -> None:
        self.name = "rapl"
        self._root = Path(root)
        zones = sorted(path for path in self._root.glob("intel-rapl:*") if _PACKAGE_ZONE.fullmatch(path.name))
        # `psys` stands beside the packages and contains them: counting it too would count them twice.
        self._zones = [zone for zone in zones if self._text(zone / "name").startswith("package")]
        if not self._zones:
            raise MissingDeviceError(
                f"no RAPL counter of a CPU package: looked for {self._root}/intel-rapl:*/energy_uj",
                mend=f"`sudo modprobe intel_rapl_msr` on a machine with such counters, or {POWER_COMMAND_MEND}",
            )
        self._ranges_uj = [self._number(zone / "max_energy_range_uj") for zone in self._zones]
        self._now()

    def _spent(self, before: tuple[float, list[int]], after: tuple[float, list[int]]) -> Energy:
        total_uj = 0
        for first, last, range_uj in zip(before[1], after[1], self._ranges_uj, strict=True):
            total_uj += last - first if last >= first else last - first + range_uj
        return Energy(total_uj / 1e3, after[0] - before[0], 2)

    def _now(self) -> tuple[float, list[int]]:
        values_uj = [self._number(zone / "energy_uj") for zone in self._zones]
        return time.perf_counter(), values_uj

    def _number(self, path: Path) -> int:
        text = self._text(path)
        try:
            return int(text)
        except ValueError as error:
            raise PowerError(f"{path} holds {text!r}, not a number", mend=POWER_COMMAND_MEND) from error

    def _text(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            # Kernels since 2020 let only root read the counters, because fast readings leak secrets (CVE-2020-8694).
            raise FileError(
                f"the energy counter's file {path} cannot be read: {error.strerror or error}",
                mend=f"`sudo chmod a+r {self._root}/intel-rapl:*/energy_uj` (until a reboot), or {POWER_COMMAND_MEND}",
            ) from error


class NvmlMeter(SampledMeter):
    """Energy of one NVIDIA GPU: its counter (Volta and newer), else its power, polled.

    Args:
        index: The GPU's number as `nvidia-smi` counts, which CUDA_VISIBLE_DEVICES does not change.
        interval_s: Pause between readings of the power, where there is no counter.
    """

    def __init__(self, index: int = 0, *, interval_s: float = 0.05) -> None:
        self._index = index
        try:
            self._nvml: Any = importlib.import_module("pynvml")
        except ImportError as error:
            raise MissingDependencyError(
                f"NVML of GPU {index} was looked for, but the library pynvml is not installed",
                mend=f"`pip install nvidia-ml-py`, or {POWER_COMMAND_MEND}",
            ) from error
        self._open = False
        try:
            self._nvml.nvmlInit()
            self._open = True
            self._handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            self._counts = self._has_counter()
            self._read_raw()
        except self._nvml.NVMLError as error:
            self.close()
            raise MissingDeviceError(
                f"NVML gives no energy and no power of GPU {index}: {error}",
                mend=f"see whether `nvidia-smi` lists the GPU with its power, or {POWER_COMMAND_MEND}",
            ) from error
        self._interval_s = None if self._counts else interval_s
        self.name = f"nvml:{index}" if self._counts else f"nvml:{index} (power, polled)"

    def close(self) -> None:
        super().close()
        if self._open:
            self._open = False
            with contextlib.suppress(self._nvml.NVMLError):  # a driver that is gone has nothing left to give back
                self._nvml.nvmlShutdown()

    def _has_counter(self) -> bool:
        if not hasattr(self._nvml, "nvmlDeviceGetTotalEnergyConsumption"):
            return False
        try:
            self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except (self._nvml.NVMLError_NotSupported, self._nvml.NVMLError_FunctionNotFound):
            return False
        return True

    def _read_raw(self) -> float:
        if self._counts:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        return float(self._nvml.nvmlDeviceGetPowerUsage(self._handle)) / 1e3  # it counts milliwatts

    def _read(self) -> float:
        try:
            return self._read_raw()
        except self._nvml.NVMLError as error:
            raise PowerError(
                f"NVML of GPU {self._index} stopped giving readings: {error}", mend="`nvidia-smi`"
            ) from error


class CommandMeter(SampledMeter):
    """Energy from a shell command or a file that says `3.2`, `3.2W`, `3200mW`, or a counter `12.5J`, `12500mJ`.

    Args:
        command: The command, or the path of a file.
        interval_s: Pause between readings; every one of a command starts a process, which costs power itself.
        timeout_s: How long a command may take.
    """

    def __init__(self, command: str, *, interval_s: float = 0.1, timeout_s: float = 5.0) -> None:
        self.name = f"command:{command}"
        self._command = command
        self._is_file = os.path.isfile(command)
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._counts = self._reading()[1]

    def _read(self) -> float:
        value, counts = self._reading()
        if counts != self._counts:
            kinds = ("watts", "joules")
            raise PowerError(
                f"`{self._command}` gave {kinds[self._counts]} first and then {kinds[counts]}",
                mend="print always the same unit",
            )
        return value

    def _reading(self) -> tuple[float, bool]:
        return parse_reading(self._file_text() if self._is_file else self._output(), source=self._command)

    def _file_text(self) -> str:
        try:
            for _ in range(3):
                text = Path(self._command).read_text(encoding="utf-8", errors="replace")
                if text.strip():
                    return text
                time.sleep(0.002)  # a writer empties a file before it fills it
        except OSError as error:
            raise FileError(
                f"the power file {self._command} cannot be read: {error.strerror or error}",
                mend=f"`sudo chmod a+r {self._command}`, or another {POWER_COMMAND_MEND}",
            ) from error
        return ""

    def _output(self) -> str:
        pipe, late = subprocess.PIPE, False
        # Its own session, so that a command that is late ends with everything it started.
        with subprocess.Popen(
            self._command, shell=True, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
        ) as process:
            try:
                out, err = process.communicate(timeout=self._timeout_s)
            except subprocess.TimeoutExpired:
                late = True
                _kill_session(process.pid)
                out, err = process.communicate()
            except BaseException:
                _kill_session(process.pid)
                raise
        text = out.decode(errors="replace")
        if late or process.returncode:
            how = f"took longer than {self._timeout_s:g} s" if late else f"ended with exit code {process.returncode}"
            printed = _quoted((text + err.decode(errors="replace")).strip())
            raise PowerError(
                f"the power command `{self._command}` {how}; it printed {printed}",
                mend="run it in a shell until it prints one reading at once, such as `3.2W` or `12.5J`",
            )
        return text


def parse_reading(text: str, *, source: str) -> tuple[float, bool]:
    """One printed reading: (watts, False) or (millijoules, True); a bare number is watts."""
    match = _READING.fullmatch(text)
    value = float(match[1]) if match else math.nan
    if match is None or not math.isfinite(value):
        raise UnitError(
            f"`{source}` gave {_quoted(text.strip())}, which is neither a power nor an energy",
            mend="print one number with W, mW, J or mJ behind it, such as `3.2W` or `12.5J`; no unit means watts",
        )
    scale = {"W": 1.0, "mW": 1e-3, "J": 1e3, "mJ": 1.0}[match[2] or "W"]
    return value * scale, (match[2] or "W").endswith("J")


def find_meter(command: str | None, gpu: int | None) -> PowerMeter:
    """The meter to use: the command if there is one, else NVML for a GPU, else RAPL.

    For a GPU there is no way back to RAPL: the CPU's energy is not an approximation of the GPU's.
    """
    if command is not None:
        return CommandMeter(command)
    try:
        return RaplMeter(POWERCAP_ROOT) if gpu is None else NvmlMeter(gpu)
    except UnasError as error:
        source = "no GPU was named for NVML; RAPL" if gpu is None else "NVML"
        raise MissingDeviceError(
            f"no energy meter: --power-command was not given; {source} does not work: {error.what}", mend=error.mend
        ) from error


def net_energy_mj(energy: Energy, idle_w: float) -> float:
    """The window's energy without what idling would have cost; negative where it drew less than that."""
    return energy.energy_mj - idle_w * energy.seconds * 1e3


def idle_power_w(meter: PowerMeter, window_s: float, sleep: Callable[[float], object] = time.sleep) -> float:
    """Mean power over a window in which nothing of ours runs."""
    energy = _window(meter, lambda: sleep(window_s))[0]
    return energy.energy_mj / 1e3 / energy.seconds


def measure_energy(
    run_for: Callable[[float], int], meter: PowerMeter, *, window_s: float, idle_w: float
) -> EnergyReading:
    """Energy per call above idle.

    Args:
        run_for: Calls the work for about so many seconds, and says how many calls that were.
        meter: The source.
        window_s: How long; meters refresh up to once in 100 ms, so that less than a second says little.
        idle_w: Power to subtract, from `idle_power_w`; 0 for the gross energy.
    """
    energy, calls = _window(meter, lambda: run_for(window_s))
    if calls < 1:
        raise PowerError(f"no call was finished in a window of {window_s:g} s", mend="take a longer window")
    return EnergyReading(net_energy_mj(energy, idle_w) / calls, calls, energy.seconds, idle_w, meter.name)


def _window(meter: PowerMeter, work: Callable[[], T]) -> tuple[Energy, T]:
    meter.start()
    try:
        result = work()
    except BaseException:
        meter.cancel()
        raise
    energy = meter.stop()
    if energy.seconds <= 0:
        raise PowerError(f"the window of {meter.name} took {energy.seconds:g} s", mend="take a longer window")
    return energy, result


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _QUOTED_CHARACTERS else text[:_QUOTED_CHARACTERS] + "…") if text else "nothing"


def _kill_session(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
