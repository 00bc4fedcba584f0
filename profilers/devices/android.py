"""An Android device: models are made here, pushed, and timed there by the runtime's own benchmark tool."""

from __future__ import annotations

import contextlib
import itertools
import math
import secrets
import shlex
import tempfile
import time
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

from profilers.agent.engines import version
from profilers.devices.adb import Adb
from profilers.devices.benchmark_tools import TOOLS, OnnxRuntimeBenchmark, Tool, ToolTiming
from profilers.devices.book import TOOL_FIELDS, Booked, book_path, find_serial
from profilers.devices.converting import ConvertingProfiler
from profilers.environment import revision
from profilers.errors import (
    DeviceCommandError,
    MissingDependencyError,
    MissingDeviceError,
    ToolOutputError,
    UnasError,
    UnknownNameError,
)
from profilers.registry import find_runtime
from profilers.runtimes.base import Runtime
from profilers.timing import TimingRule, calls_per_block
from profilers.workload import Workload

TEMPORARY: Final = "/data/local/tmp"
BLOCK_S = 0.1
"""A sample lasts at least so long: less than that, clocks that follow the load would still be rising, and to start the
tool would cost much more than what it times."""
LEAST_RUNS, MOST_RUNS = 5, 2000
"""Of the model in one sample."""
TOOL_S = 600.0
"""How long the tool may take before the device counts as lost."""
COOL_C, COOL_S, COOL_TOTAL_S = 45.0, 60.0, 600.0
"""Samples wait for the hottest sensor to be no warmer, each so long at most, and all together so long."""
LOOK_S = 5.0
"""Between two looks at the sensors: each takes time from the device that it could cool in."""
SOURCES = {
    "litert": "at https://storage.googleapis.com/tensorflow-nightly-public/"
    "prod/tensorflow/release/lite/tools/nightly/latest/android_aarch64_benchmark_model",
    "ncnn": "built from https://github.com/Tencent/ncnn with its Android toolchain",
    "onnxruntime": "built from https://github.com/microsoft/onnxruntime by build.sh --android",
}
"""Where the tools come from; nobody ships them with a package."""
_END = "unas-hw-tool:"


@dataclass(frozen=True)
class _Model:
    path: str  # on the device
    shape: tuple[int, ...]


@final
class Cooling:
    """Waits, while a device is open, until its sensors are cool enough for a sample; ``seen`` says what came of it."""

    def __init__(self, adb: Adb) -> None:
        self._adb, self._looked_s = adb, -math.inf
        self.seen: dict[str, Any] = {
            "limit_c": COOL_C, "waits": 0, "waited_s": 0.0, "not_reached": 0, "hottest_c": None
        }  # fmt: skip

    def begin(self) -> None:
        """A session of samples begins: looks now."""
        self._looked_s = -math.inf
        self.wait()

    def wait(self) -> None:
        """A sample is about to be taken."""
        left_s = COOL_TOTAL_S - self.seen["waited_s"]
        if time.monotonic() - self._looked_s < LOOK_S or left_s <= 0:
            return
        found = self._adb.cool_down(COOL_C, min(COOL_S, left_s), poll_s=LOOK_S)
        self._looked_s = time.monotonic()
        if found.hottest is None:
            return
        hottest_c = self.seen["hottest_c"]
        self.seen["hottest_c"] = max(found.hottest.temperature_c, hottest_c or found.hottest.temperature_c)
        if found.waited_s >= min(LOOK_S, COOL_S, left_s):  # else one look was enough
            self.seen["waits"] += 1
            self.seen["waited_s"] += found.waited_s
            self.seen["not_reached"] += not found.reached


@final
class AndroidProfiler(ConvertingProfiler):
    """A sample is one run of the tool; what it needs lies in a folder there, which is removed at the end.

    Args:
        serial: As ``adb devices`` shows it; None for the only device there is.
        runtime: Whose tool times; None for the first that the device has.
        threads: Threads an operation may use.
        booked: The device's tools; by default those that its serial number has in the book.

    Raises:
        MissingDeviceError: If it is not there, or has fewer cores than threads.
        MissingDependencyError: If no tool is known for the runtime.
    """

    def __init__(self, serial: str | None, runtime: str | None, threads: int, booked: Booked | None = None) -> None:
        super().__init__()
        self._adb = Adb(serial)
        self.serial = self._adb.serial
        self.device = f"adb://{self.serial}"
        self.threads = threads
        self._facts = self._adb.facts()
        if threads > (cores := len(self._facts.cores)):
            raise MissingDeviceError(f"{threads} threads on {cores} core(s)", mend=f"add --threads {cores}")
        booked = booked or find_serial(self.serial)
        self.power_command = booked.power_command if booked else None
        self._tool_path, self._runtime = self._choose(runtime, booked)
        self.runtime = self._runtime.name
        self._folder: str | None = None
        self._tool: Tool | None = None
        self._mask: str | None = None
        self._numbers = itertools.count()
        self._models: dict[str, _Model] = {}
        self._timings: dict[str, ToolTiming] = {}
        self._cooling = Cooling(self._adb)

    def _choose(self, runtime: str | None, booked: Booked | None) -> tuple[str, Runtime]:
        tools = booked.tools if booked else {}
        name = runtime or next((each for each in TOOL_FIELDS if each in tools), "litert")
        base = name.partition("+")[0]
        if base not in TOOLS:
            raise UnknownNameError(
                f"{base!r} has no benchmark tool for Android", mend=f"choose one of {', '.join(TOOLS)}"
            )
        if base not in tools:
            known = f"it has those of {', '.join(tools)}" if tools else "it has none"
            raise MissingDependencyError(
                f"no benchmark tool of {base} is known for {self.device}; {known}",
                mend=how_to_add(self.serial, self._facts.abi, base, booked),
            )
        return tools[base], find_runtime(name, runs_here=False)

    def _open(self) -> None:
        self._folder = f"{TEMPORARY}/unas-hw-{secrets.token_hex(4)}"
        self._cooling = Cooling(self._adb)
        try:
            self._adb.shell(f"mkdir {self._folder}")
            self._tool = self._install()
            self._mask = self._affinity()
        except BaseException:
            self._close()
            raise

    def _install(self) -> Tool:
        path, local = self._tool_path, Path(self._tool_path)
        if local.is_file():
            path = f"{self._folder}/{local.name}"
            self._adb.push(local, path)
            self._adb.shell(f"chmod 755 {shlex.quote(path)}")
        elif not is_executable(self._adb, path):
            raise MissingDependencyError(
                f"{path} is neither a file here nor a program on {self.device}",
                mend=f"correct the path in {book_path()}",
            )
        if self._runtime.options:  # only onnxruntime has any, and they are names of providers
            return OnnxRuntimeBenchmark(path, provider=self._runtime.options[0])
        return TOOLS[self._runtime.engine](path)

    def _affinity(self) -> str | None:
        """The mask of the fastest cores, where a process can be bound to them from outside."""
        if self._runtime.engine == "ncnn":  # its tool binds itself, whatever it was bound to
            return None
        mask = self._facts.mask(self.threads)
        with contextlib.suppress(DeviceCommandError):  # no such command, or cores that are switched off
            self._adb.shell(f"taskset {mask} true")
            return mask
        return None

    def _close(self) -> None:
        self._models.clear()
        self._timings.clear()
        folder, self._folder = self._folder, None
        if folder is not None:
            with contextlib.suppress(UnasError):  # it is gone: the error that says so is on its way
                self._adb.shell(f"rm -rf {folder}")

    def _load_artifact(self, workload: Workload, path: Path) -> None:
        assert self._tool is not None  # Profiler.load refuses a closed one
        remote = f"{self._folder}/{next(self._numbers)}{self._tool.suffix}"
        if path.suffix == self._tool.suffix:
            self._adb.push(path, remote)
        else:  # ncnn's archive, of which the tool wants one half
            with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder, zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.endswith(self._tool.suffix))
                self._adb.push(Path(archive.extract(name, folder)), remote)
        self._models[workload.key] = _Model(remote, workload.op.shape)

    def _unload(self, key: str) -> None:
        self._adb.shell(f"rm -f {self._models.pop(key).path}")

    def _calls_per_block(self, key: str, rule: TimingRule) -> int:
        # The tool warms up by itself, each time.
        longer = replace(rule, min_block_s=max(rule.min_block_s, BLOCK_S), warmup_calls=1)
        return max(LEAST_RUNS, min(calls_per_block(self._time_s, key, longer), MOST_RUNS))

    def _time_s(self, key: str, calls: int) -> float:
        self._cooling.wait()
        timing = self._run(key, max(LEAST_RUNS, min(calls, MOST_RUNS)))
        latency_ms = max(timing.latency_ms, timing.resolution_ms / 2)  # a tool that prints 0.00 means less than 0.005
        if not latency_ms > 0:
            raise ToolOutputError(f"{key} took no time, says {timing.tool}", mend="choose another --runtime")
        return latency_ms * calls / 1e3

    def _spin(self, key: str, seconds: float) -> int:
        runs = max(LEAST_RUNS, math.ceil(seconds * 1e3 / self._timings[key].latency_ms))
        return self._run(key, runs).runs or runs

    def _run(self, key: str, runs: int) -> ToolTiming:
        assert self._tool is not None  # Profiler.load refuses a closed one
        model, result = self._models[key], f"{self._folder}/result"
        command = self._tool.command(model.path, shape=model.shape, threads=self.threads, runs=runs, result_file=result)
        if self._mask is not None:
            command = f"taskset {self._mask} sh -c {shlex.quote(command)}"
        said = self._adb.shell(
            f'{command}; echo "\n{_END}$?"; cat {result} 2>/dev/null || true',
            timeout_s=TOOL_S,
        )
        printed, _, rest = said.partition(f"\n{_END}")
        status, _, written = rest.partition("\n")
        try:
            if status.strip() != "0":
                raise self._tool.unreadable(printed, f"it ended with status {status.strip()}")
            timing = self._tool.parse(printed, written)
        except ToolOutputError as error:
            raise ToolOutputError(f"{key}: {error.what}", mend=error.mend) from error
        self._timings[key] = timing
        return timing

    def _begin(self, label: str) -> None:
        self._cooling.begin()

    def details(self, key: str) -> dict[str, Any]:
        timing = self._timings[key]
        memory = {None: None, "growth": "peak_memory_bytes", "peak": "process_peak_bytes"}[timing.memory]
        return {
            "tool": timing.tool,
            "statistic": timing.statistic,
            "resolution_ms": timing.resolution_ms,
            **({memory: timing.memory_bytes} if memory else {}),
            # Its tool allows 16 bits always; the file's weights are not even read.
            **({"computed_in": "float16 where the processor can"} if self._runtime.engine == "ncnn" else {}),
        }

    def fingerprint(self) -> dict[str, str | int]:
        facts = self._facts  # not the serial number: phones of one kind share their tables
        return {"kind": "android", "name": facts.model, "arch": facts.abi, "cores": len(facts.cores)}

    def environment(self) -> dict[str, Any]:
        facts = self._adb.facts()
        release = self._adb.shell("getprop ro.build.version.release").strip()
        bound = "by the tool, to its big cores" if self._runtime.engine == "ncnn" else self._mask
        return {
            "os": f"Android {release}",
            "model": facts.model,
            "abi": facts.abi,
            "serial": self.serial,
            "max_mhz": [core.max_khz and core.max_khz / 1e3 for core in facts.cores],
            "governor": "/".join(facts.governors) or None,
            "temperature_c": max((zone.temperature_c for zone in facts.zones), default=None),
            "tool": {"name": TOOLS[self._runtime.engine].name, "path": self._tool_path},
            "affinity": bound,
            "cool_downs": dict(self._cooling.seen),
            "versions": {name: version(name) for name in self._runtime.packages},
            "revision": revision(),
        }


def is_executable(adb: Adb, path: str) -> bool:
    """Whether the device has this program."""
    with contextlib.suppress(DeviceCommandError):
        adb.shell(f"test -x {shlex.quote(path)} && test -f {shlex.quote(path)}")
        return True
    return False


def how_to_add(serial: str, abi: str, runtime: str = "litert", booked: Booked | None = None) -> str:
    """The line that names a tool, and where that comes from."""
    first = f"unas-hw devices remove {booked.name}; " if booked else ""
    name, record = (booked.name, booked.to_record()) if booked else ("phone", {"adb": serial})
    options = {**{each: shlex.quote(value) for each, value in record.items()}, TOOL_FIELDS[runtime]: "PATH"}
    words = " ".join(f"--{each.replace('_', '-')} {value}" for each, value in options.items())
    return f"{first}unas-hw devices add {name} {words} ({TOOLS[runtime].name} for {abi}: {SOURCES[runtime]})"
