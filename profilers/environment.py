"""What the machine was: names, clocks, governor, versions, load."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from profilers.agent import machine
from profilers.agent.engines import version
from profilers.nvml import gpu_warnings

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
BRIEF_SPIN = ("GOMP_SPINCOUNT", "5000")


def spin_briefly() -> None:
    """Lets PyTorch's waiting threads sleep soon; call it before torch is imported.

    By default they spin for milliseconds, and where another process wants the cores a thread spins while the one that
    it waits for has none. Four epochs on two cores beside a busy process: 187 s by default, 58 s so; alone 20 and 21 s.
    """
    os.environ.setdefault(*BRIEF_SPIN)


def cpu_environment(packages: tuple[str, ...]) -> dict[str, Any]:
    """What may explain a number later: kernel, clocks, governor, load, versions, git revision."""
    return {**machine.state(), "versions": {name: version(name) for name in packages}, "revision": revision()}


def timing_warnings(environment: Mapping[str, Any]) -> tuple[str, ...]:
    """What in this environment disturbs timing. Nothing is changed, only said."""
    found = []
    governor, load = environment.get("governor"), environment.get("load")
    if governor not in (None, "performance"):
        found.append(f"the governor is {governor!r}: clocks move while measuring")
    if load and load[0] > 1.5:
        found.append(f"load {load[0]:.1f}: other programs share this machine")
    found.extend(gpu_warnings(environment.get("gpu") or {}))
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
    gpus = [each.get("gpu") or {} for each in (then, now)]
    for fact in ("driver", "power_limit_w"):
        known = [gpu[fact] for gpu in gpus if gpu.get(fact) is not None]
        if len(set(known)) == 2:
            found.append(f"{fact.removesuffix('_w').replace('_', ' ')} of the GPU {known[0]} -> {known[1]}")
    return ", ".join(found)


def revision() -> str | None:
    """Of this project, where it is a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # installed from a wheel, or no git
        return None
