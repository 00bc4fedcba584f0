"""What the machine was: names, clocks, governor, versions, load."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

BRIEF_SPIN = ("GOMP_SPINCOUNT", "5000")


def spin_briefly() -> None:
    """Lets PyTorch's waiting threads sleep soon; call it before torch is imported.

    By default they spin for milliseconds, and where another process wants the cores a thread spins while the one that
    it waits for has none. Four epochs on two cores beside a busy process: 187 s by default, 58 s so; alone 20 and 21 s.
    """
    os.environ.setdefault(*BRIEF_SPIN)


def cpu_name() -> str:
    """The processor's name as the kernel knows it."""
    for line in _lines("/proc/cpuinfo"):
        if line.startswith(("model name", "Hardware", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> list[int]:
    """The cores that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))


def cpu_fingerprint() -> dict[str, str | int]:
    """What makes two runs the same device: a table is refused on another one."""
    return {"kind": "cpu", "name": cpu_name(), "arch": platform.machine(), "cores": os.cpu_count() or 1}


def cpu_environment(packages: tuple[str, ...]) -> dict[str, Any]:
    """What may explain a number later: kernel, clocks, governor, load, versions, git revision."""
    governor = _lines("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    clock = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("cpu MHz")]
    return {
        "os": platform.platform(),
        "python": platform.python_version(),
        "governor": governor[0] if governor else None,
        "clock_mhz": [float(mhz) for mhz in clock],
        "load": list(os.getloadavg()),
        "virtual": any("hypervisor" in line for line in _lines("/proc/cpuinfo")),
        "versions": {name: _version(name) for name in packages},
        "revision": _revision(),
    }


def timing_warnings(environment: Mapping[str, Any]) -> tuple[str, ...]:
    """What in this environment disturbs timing. Nothing is changed, only said."""
    found = []
    governor, load = environment.get("governor"), environment.get("load")
    if governor not in (None, "performance"):
        found.append(f"the governor is {governor!r}: clocks move while measuring")
    if load and load[0] > 1.5:
        found.append(f"load {load[0]:.1f}: other programs share this machine")
    return tuple(found)


LOAD_MOVE, CLOCK_MOVE = 0.5, 0.05
"""Change of the load per core, and relative change of the clocks, above which a machine is not what it was."""


def changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What makes the machine another one than it was, in words; empty where nothing does."""
    found = []
    if then.get("governor") != now.get("governor"):
        found.append(f"governor {then.get('governor')} -> {now.get('governor')}")
    clocks = [median(each["clock_mhz"]) for each in (then, now) if each.get("clock_mhz")]
    if len(clocks) == 2 and abs(clocks[1] / clocks[0] - 1) > CLOCK_MOVE:
        found.append(f"clock {clocks[0]:.0f} -> {clocks[1]:.0f} MHz")
    loads = [each["load"][0] / max(len(each.get("clock_mhz", ())), 1) for each in (then, now) if each.get("load")]
    if len(loads) == 2 and abs(loads[1] - loads[0]) > LOAD_MOVE:
        found.append(f"load per core {loads[0]:.1f} -> {loads[1]:.1f}")
    return ", ".join(found)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux, or not in this container: the fact is then unknown
        return []


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # installed from a wheel, or no git
        return None
