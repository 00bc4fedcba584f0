"""What this machine is and how it is just now; unknown facts are None, nothing is changed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from pathlib import Path
from typing import Any

SYS, CLEAR = "/sys", "/proc/self/clear_refs"


def cpu_name() -> str:
    """The processor's name as the kernel knows it."""
    for line in lines("/proc/device-tree/model"):  # a board's is more telling than its cores'
        return line.rstrip("\0")
    for line in lines("/proc/cpuinfo"):
        if line.startswith(("model name", "Hardware", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> list[int]:
    """The cores that this process may run on, the fastest last (a phone's or board's big ones)."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    cores = sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))
    return sorted(cores, key=lambda core: (max_khz(core), core))


def max_khz(core: int) -> int:
    """The highest clock of a core; 0 where nobody says."""
    found = lines(f"{SYS}/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq")
    return int(found[0]) if found else 0


def pin(threads: int) -> list[int]:
    """Pins this process to as many cores as it has threads: the fastest, of these the last, as interrupts prefer the
    first; returns them, or nothing where a system cannot.
    """
    cores = usable_cores()[-threads:]
    if not hasattr(os, "sched_setaffinity"):
        return []
    os.sched_setaffinity(0, cores)
    return cores


def fingerprint() -> dict[str, str | int]:
    """What makes two runs the same device: a table is refused on another one."""
    return {"kind": "cpu", "name": cpu_name(), "arch": platform.machine(), "cores": os.cpu_count() or 1}


def state() -> dict[str, Any]:
    """What may explain a number later: kernel, clocks, governor, load, temperature."""
    governor = lines(f"{SYS}/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    clock = [line.partition(":")[2].strip() for line in lines("/proc/cpuinfo") if line.startswith("cpu MHz")]
    khz = [lines(str(path)) for path in sorted(Path(f"{SYS}/devices/system/cpu").glob("cpu*/cpufreq/scaling_cur_freq"))]
    return {
        "os": platform.platform(),
        "python": platform.python_version(),
        "governor": governor[0] if governor else None,
        "clock_mhz": [float(mhz) for mhz in clock] or [int(each[0]) / 1e3 for each in khz if each],
        "load": list(os.getloadavg()),
        "virtual": any("hypervisor" in line for line in lines("/proc/cpuinfo")),
        "temperature_c": temperature_c(),
    }


def temperature_c() -> float | None:
    """Of the hottest thermal zone."""
    zones = [lines(str(path)) for path in Path(f"{SYS}/class/thermal").glob("thermal_zone*/temp")]
    readings = [int(zone[0]) / 1e3 for zone in zones if zone and zone[0].lstrip("-").isdigit()]
    return max(readings, default=None)


def lines(path: str) -> list[str]:
    """Of a file; none where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux, or not in this container: the fact is then unknown
        return []


def resident_bytes() -> int | None:
    """Memory of this process, from which its peak is counted from now on; None where the system does not say.

    What was freed is given back before: else an operation would seem to need nothing that fits where another was.
    """
    give_back()
    try:
        Path(CLEAR).write_text("5", encoding="ascii")  # man 5 proc: the peak becomes what is resident now
    except OSError:
        return None
    return status_bytes("VmRSS")


def give_back() -> None:
    """Freed memory that the C library keeps for later goes back to the system, where the library can do that."""
    with contextlib.suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def peak_bytes() -> int | None:
    """The most memory that this process had since ``resident_bytes``."""
    return status_bytes("VmHWM")


def status_bytes(field: str) -> int | None:
    """A line of ``/proc/self/status``."""
    found = [line.split()[1] for line in lines("/proc/self/status") if line.startswith(field + ":")]
    return int(found[0]) * 1024 if found else None
