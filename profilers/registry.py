"""Names of devices and runtimes; nothing is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module, metadata
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from profilers.errors import MissingDependencyError, MissingDeviceError, UnknownNameError

if TYPE_CHECKING:
    from profilers.devices.book import Booked
    from profilers.profiler import Profiler
    from profilers.runtimes.base import Runtime

ENTRY_POINTS = "unas_hw.profilers"
"""Group under which other distributions add devices: ``name = module:Class``, called as ``Class(rest, threads)``."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One line of the catalogue."""

    target: str  # "module:Class"
    summary: str
    needs: str  # what to install


RUNTIMES: Mapping[str, Listing] = MappingProxyType(
    {
        "onnxruntime": Listing("profilers.runtimes.onnxruntime:OnnxRuntime", "ONNX Runtime", "onnxruntime"),
        "openvino": Listing("profilers.runtimes.openvino:OpenVino", "OpenVINO", "'unas-hw[openvino]'"),
        "ncnn": Listing("profilers.runtimes.ncnn:Ncnn", "ncnn, one image at a time", "'unas-hw[ncnn]'"),
        "litert": Listing("profilers.runtimes.litert:Litert", "LiteRT (TensorFlow Lite)", "'unas-hw[litert]'"),
        "torch": Listing("profilers.runtimes.torch:TorchRuntime", "PyTorch", "torch"),
        "tensorrt": Listing("profilers.runtimes.tensorrt:TensorRt", "TensorRT", "'unas-hw[tensorrt]'"),
    }
)
SIMULATED = ("sim:phone", "sim:gpu")


def _import(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def find_runtime(name: str, device: str | None = None, *, runs_here: bool = True) -> Runtime:
    """The runtime of that name, such as ``onnxruntime`` or ``torch+compile``.

    Args:
        name: With its options.
        device: The kind of device that it has to run on, ``cpu`` or ``gpu``.
        runs_here: Else it only converts here, and its library is elsewhere.

    Raises:
        UnknownNameError: If there is none of that name, or it does not run on the device.
        MissingDependencyError: If what is needed here is not installed.
    """
    base, *options = name.split("+")
    if base not in RUNTIMES:
        near = get_close_matches(base, RUNTIMES)
        raise UnknownNameError(
            f"no runtime is called {base!r}",
            mend=f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(RUNTIMES)}",
        )
    runtime: Runtime = _import(RUNTIMES[base].target)(*options)
    if device and device not in runtime.devices:
        raise UnknownNameError(
            f"runtime {name!r} does not run on device {device!r}", mend=f"add --device {runtime.devices[0]}"
        )
    if not (is_installed(base) if runs_here else all(map(find_spec, runtime.converters))):
        raise MissingDependencyError(f"runtime {base!r} is not installed", mend=f"pip install {RUNTIMES[base].needs}")
    return runtime


def devices_of(runtime: str) -> tuple[str, ...]:
    """The kinds of device that a runtime of the catalogue runs on, ``cpu`` and ``gpu``."""
    devices: tuple[str, ...] = _import(RUNTIMES[runtime].target).devices
    return devices


def package_of(runtime: str) -> str:
    """What pip calls the library of a runtime."""
    package: str = _import(RUNTIMES[runtime.partition("+")[0]].target).packages[0]
    return package


def is_installed(runtime: str) -> bool:
    """Whether the runtime's library can be imported."""
    from profilers.agent.engines import is_installed as is_there

    return is_there(runtime)


def open_profiler(device: str = "cpu", *, runtime: str | None = None, threads: int = 1) -> Profiler:
    """The profiler of a device; opened by ``with``.

    Args:
        device: ``cpu``, ``gpu``, ``gpu:1``, ``ssh://[user@]host``, ``adb``, ``adb://serial``, ``sim:NAME``, a name of
            the book (``profilers.devices.book``), or one that an installed package adds.
        runtime: One of ``RUNTIMES``; by default onnxruntime, on a GPU TensorRT or torch, over ssh what is found there,
            over adb what has a tool.
        threads: Threads an operation may use.

    Raises:
        MissingDeviceError: If the device is not there.
        UnknownNameError: If nothing has that name.
    """
    scheme, _, rest = device.partition(":")
    if device == "cpu":
        profiler: Profiler = _import("profilers.devices.local:LocalProfiler")(runtime or "onnxruntime", threads)
        return profiler
    if scheme == "adb":
        profiler = _import("profilers.devices.android:AndroidProfiler")(rest.strip("/") or None, runtime, threads)
        return profiler
    if scheme == "sim":
        if runtime not in (None, "simulated"):
            raise UnknownNameError(f"{device} runs no {runtime!r}, it is simulated", mend="leave --runtime out")
        profiler = _import("profilers.devices.simulated:SimulatedProfiler")(rest, threads)
        return profiler
    if scheme == "ssh":
        try:
            profiler = _import("profilers.devices.ssh:SshProfiler")(device, runtime, threads)
        except ModuleNotFoundError as error:
            if error.name != "asyncssh":
                raise
            raise MissingDependencyError("asyncssh is not installed", mend="pip install 'unas-hw[ssh]'") from None
        return profiler
    if scheme.partition("?")[0] == "gpu":
        if missing := gpu_absence():
            raise MissingDeviceError(f"--device {device}: {missing}", mend="unas-hw profile --device cpu")
        profiler = _import("profilers.devices.gpu:GpuProfiler")(device, runtime, threads)
        return profiler
    booked = _import("profilers.devices.book:read_book")()
    if device in booked:
        return _open_booked(booked[device], runtime, threads)
    added = added_devices()
    if scheme in added:
        profiler = added[scheme].load()(rest, threads)
        return profiler
    names = ("cpu", "gpu", "ssh://HOST", "adb://SERIAL", *SIMULATED, *booked, *added)
    near = get_close_matches(device, names)
    raise UnknownNameError(
        f"no device is called {device!r}",
        mend=f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names)}",
    )


def _open_booked(entry: Booked, runtime: str | None, threads: int) -> Profiler:
    """A device of the book, under its name: with that it is opened again."""
    if entry.adb is not None:
        profiler: Profiler = _import("profilers.devices.android:AndroidProfiler")(entry.adb, runtime, threads, entry)
    else:
        profiler = open_profiler(entry.address, runtime=runtime, threads=threads)
    profiler.device, profiler.power_command = entry.name, entry.power_command
    return profiler


def added_devices() -> dict[str, metadata.EntryPoint]:
    """What installed packages add, by name."""
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)}


def gpu_absence() -> str:
    """Why no GPU can be profiled here, in words; empty where one can."""
    import torch

    if torch.cuda.is_available():
        return ""
    return "no NVIDIA GPU is visible to PyTorch (torch.cuda.is_available() is False)"


def reachable() -> list[dict[str, Any]]:
    """What can be profiled from here: device, name, runtimes, what is missing, what disturbs timing.

    Phones and hosts have three seconds to answer; what does not is listed as missing.
    """
    elsewhere = _import("profilers.devices.reach:reach")()  # while it answers, the rest is looked at
    from profilers.agent.machine import cpu_name
    from profilers.environment import cpu_environment, timing_warnings

    runtimes = [name for name in RUNTIMES if is_installed(name) and "cpu" in devices_of(name)]
    cpu = {"device": "cpu", "name": cpu_name(), "runtimes": runtimes, "missing": ""}
    found = [{**cpu, "warnings": list(timing_warnings(cpu_environment(())))}]
    if missing := gpu_absence():
        found.append({"device": "gpu", "name": "-", "runtimes": [], "missing": missing, "warnings": []})
    else:
        found.extend(_import("profilers.devices.gpu:listing")())
    found.extend(
        {"device": name, "name": "simulated", "runtimes": ["simulated"], "missing": "", "warnings": []}
        for name in SIMULATED
    )
    return [*found, *elsewhere()]
