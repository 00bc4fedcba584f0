"""What works on this machine, what is missing, and what disturbs timing; each with what to type. Nothing is changed."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from profilers.agent import machine
from profilers.errors import UnasError
from profilers.registry import RUNTIMES, devices_of, find_runtime, is_installed

BUSY_SHARE = 0.1
"""Of a core, above which a process is named."""
WINDOW_S = 0.5
HOT_C = 85.0
CLOCK_MOVE, STOLEN_SHARE = 0.05, 0.01

PERFORMANCE = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
TURBO = {
    "intel_pstate/no_turbo": ("0", "1"),
    "cpufreq/boost": ("1", "0"),
}
"""Below ``/sys/devices/system/cpu``: what the file says where the clock rises above its base, and what stops that."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what it is, how it is, and what to type, which is empty where all is well."""

    section: Literal["works", "missing", "disturbs"]
    name: str
    what: str
    mend: str = ""


def _there(name: str, what: str | None, missing: str, mend: str) -> Finding:
    """That it works, where there is something to say of it; else what is missing."""
    return Finding("works", name, what) if what else Finding("missing", name, missing, mend)


def examine() -> list[Finding]:
    """Everything; the first finding is whether this CPU can be profiled. Takes some seconds."""
    return [cpu(), gpu(), *libraries(), *tools(), *meters(), *disturbances(), *gpu_processes()]


def can_profile(findings: list[Finding]) -> bool:
    """Whether ``unas-hw profile`` works on this CPU."""
    return any(finding.name == "cpu" and finding.section == "works" for finding in findings)


def cpu() -> Finding:
    """Tries it."""
    mend = "pip install -c constraints.txt unas-hw"
    try:
        from profilers.opspec import OpSpec
        from profilers.profiler import SENTINEL
        from profilers.registry import open_profiler
        from profilers.timing import TimingRule
        from profilers.workload import Workload

        convolution = Workload(OpSpec("conv", {"kernel": 3, "out": 16}, SENTINEL.op.shape), SENTINEL.build)
        rule = TimingRule(warmup_s=0.0, min_rounds=4, max_rounds=4, min_time_s=0)
        with open_profiler("cpu") as profiler:
            found = profiler.measure(convolution, rule)
    except UnasError as error:
        return Finding("missing", "cpu", error.what, error.mend)
    except (ImportError, OSError) as error:  # a library that is not whole
        return Finding("missing", "cpu", str(error), mend)
    kernel = f"a 3x3 convolution of 16 channels takes {found.median_ms:.3f} ms with {profiler.runtime}"
    return Finding("works", "cpu", f"{machine.cpu_name()}: {kernel}")


def libraries() -> Iterator[Finding]:
    """Runtimes, and what they need besides."""
    from profilers.agent.engines import version

    starting = {name: _start(name) for name in RUNTIMES if is_installed(name)}
    for name, listing in RUNTIMES.items():
        why_not = "it is not installed" if name not in starting else _why_not(starting[name])
        if why_not:
            yield Finding("missing", name, f"{listing.summary}: {why_not}", f"pip install {listing.needs}")
            continue
        versions = (f"{package} {version(package)}" for package in find_runtime(name).packages if version(package))
        where = "" if "cpu" in devices_of(name) else f", for {' and '.join(devices_of(name))}"
        yield Finding("works", name, f"{listing.summary}{where}, {next(versions, 'of unknown version')}")
    if is_installed("litert"):
        yield _converter()
    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++") or shutil.which("clang++")
    what = compiler and f"compiles with {compiler}"
    yield _there("torch+compile", what, "there is no C++ compiler", "apt-get install g++")


def _start(runtime: str) -> subprocess.Popen[str]:
    """Imports it, in a process of its own: a library for another processor ends the process."""
    from profilers.agent.engines import ENGINES

    module = next(module for module in ENGINES[runtime] if find_spec(module))
    command = [sys.executable, "-c", f"import {module}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")


def _why_not(importing: subprocess.Popen[str]) -> str:
    said = importing.communicate()[1].strip().splitlines()
    return "" if importing.returncode == 0 else (said or [f"it ends Python with {importing.returncode}"])[-1]


def gpu() -> Finding:
    """Whether there is one."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("missing", "gpu", f"PyTorch cannot be imported: {error}", "pip install torch")
    if torch.cuda.is_available():
        return Finding("works", "gpu", str(torch.cuda.get_device_name()))
    mend = "nvidia-smi shows whether there is one and its driver; then a PyTorch with CUDA: pip install torch"
    return Finding("missing", "gpu", "PyTorch sees no NVIDIA GPU", mend)


def _converter() -> Finding:
    from profilers.runtimes.litert import converter_python, how_to_install

    python = converter_python()
    there = str(python) if python.exists() else None
    return _there("litert converter", there, f"{python} is not there", how_to_install())


def tools() -> Iterator[Finding]:
    """What reaches other devices."""
    from profilers.agent.engines import version

    yield _there("adb", shutil.which("adb"), "phones cannot be reached", "apt-get install adb")
    asyncssh = version("asyncssh") if find_spec("asyncssh") else None
    yield _there("asyncssh", asyncssh, "no device behind ssh can be reached", "pip install 'unas-hw[ssh]'")


def meters() -> Iterator[Finding]:
    """GPU and energy."""
    from profilers.power import NvmlMeter, RaplMeter

    sources: dict[str, Callable[[], Any]] = {"RAPL (CPU energy)": RaplMeter, "NVML (GPU energy)": lambda: NvmlMeter(0)}
    for name, source in sources.items():
        try:
            source().close()
        except UnasError as error:
            yield Finding("missing", name, error.what, error.mend)
        else:
            yield Finding("works", name, "can be read")


def disturbances(root: Path = Path("/")) -> Iterator[Finding]:
    """What moves the times of this CPU, looked at over half a second."""
    state = machine.state()
    busy, stolen, clocks = _watch(root / "proc", state["clock_mhz"])
    yield from busy
    governor, load = state["governor"], state["load"][0]
    if governor not in (None, "performance"):
        yield Finding("disturbs", "governor", f"{governor!r}: clocks move while measuring", PERFORMANCE)
    if load > len(machine.usable_cores()) / 2:
        yield Finding("disturbs", "load", f"{load:.1f} in the last minute", "measure when the other programs are done")
    for file, (on, off) in TURBO.items():
        path = root / "sys/devices/system/cpu" / file
        if machine.lines(str(path)) == [on]:
            yield Finding("disturbs", "turbo", "clocks fall as it gets warm", f"echo {off} | sudo tee {path}")
    if clocks > CLOCK_MOVE:
        yield Finding("disturbs", "clocks", f"moved by {100 * clocks:.0f}% in {WINDOW_S} s", PERFORMANCE)
    if (temperature := state["temperature_c"] or 0) > HOT_C:
        yield Finding("disturbs", "temperature", f"{temperature:.0f} degrees: it may be throttled", "let it cool down")
    if state["virtual"]:
        share = f"; {100 * stolen:.0f}% of the last {WINDOW_S} s" if stolen > STOLEN_SHARE else ""
        what = f"this is a virtual machine: others take its cores{share}"
        yield Finding("disturbs", "virtual machine", what, "more rounds: unas-hw profile --rounds 100")


def _watch(proc: Path, clocks_mhz: list[float]) -> tuple[list[Finding], float, float]:
    """Busy processes, the share of time that was stolen, and by how much clocks moved."""
    before, then_s, stolen = _processes(proc), time.monotonic(), _stolen_s(proc)
    time.sleep(WINDOW_S)
    after, spent_s = _processes(proc), time.monotonic() - then_s
    stolen_share = (_stolen_s(proc) - stolen) / spent_s / (os.cpu_count() or 1)
    found = []
    for process, (name, used_s) in after.items():
        share = (used_s - before.get(process, (name, used_s))[1]) / spent_s
        if share > BUSY_SHARE and process != os.getpid():
            mend = f"ps -o args= -p {process}; stop it, or measure when it is done"
            found.append((share, Finding("disturbs", name, f"process {process} takes {share:.0%} of a core", mend)))
    now_mhz = machine.state()["clock_mhz"]
    moves = [abs(new / old - 1) for old, new in zip(clocks_mhz, now_mhz, strict=False) if old]
    ordered = sorted(found, key=lambda each: -each[0])
    return [finding for _, finding in ordered], stolen_share, max(moves, default=0.0)


def _processes(proc: Path) -> dict[int, tuple[str, float]]:
    """Name and seconds of processor time of every process."""
    tick_s, found = 1 / os.sysconf("SC_CLK_TCK"), {}
    for folder in proc.glob("[0-9]*"):
        for line in machine.lines(str(folder / "stat"))[:1]:  # none where it has just ended
            name, _, fields = line.partition("(")[2].rpartition(") ")
            words = fields.split()
            found[int(folder.name)] = (name, (int(words[11]) + int(words[12])) * tick_s)
    return found


def _stolen_s(proc: Path) -> float:
    words = (machine.lines(str(proc / "stat")) or [""])[0].split()
    return int(words[8]) / os.sysconf("SC_CLK_TCK") if len(words) > 8 else 0.0


def gpu_processes() -> Iterator[Finding]:
    """Other processes on this machine's NVIDIA GPUs."""
    try:
        pynvml = importlib.import_module("pynvml")  # it has no types
    except ImportError:  # no extra of ours: it is with the meters
        return
    try:
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
                if process.pid != os.getpid():
                    name = (machine.lines(f"/proc/{process.pid}/comm") or ["a process that is not seen from here"])[0]
                    what = f"{name}, process {process.pid}, is on it"
                    yield Finding("disturbs", f"gpu:{index}", what, f"ps -o args= -p {process.pid}; stop it")
    except pynvml.NVMLError:  # the meters have said why
        return
