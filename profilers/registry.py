"""Names of devices and runtimes; nothing is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from profilers.errors import MissingDependencyError, MissingDeviceError, UnknownNameError, did_you_mean

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
    """The runtime of that name, with its options, such as ``onnxruntime`` or ``torch+compile``.

    It has to run on the kind of device, ``cpu`` or ``gpu``; unless ``runs_here`` it only converts here, and its library
    is elsewhere.

    Raises:
        UnknownNameError: If there is none of that name, or it does not run on the device.
        MissingDependencyError: If what is needed here is not installed.
    """
    base, *options = name.split("+")
    if base not in RUNTIMES:
        raise UnknownNameError(f"no runtime is called {base!r}", mend=did_you_mean(base, RUNTIMES))
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
        return _profiler("local:LocalProfiler", runtime or "onnxruntime", threads)
    if scheme == "adb":
        return _profiler("android:AndroidProfiler", rest.strip("/") or None, runtime, threads)
    if scheme == "sim":
        if runtime not in (None, "simulated"):
            raise UnknownNameError(f"{device} runs no {runtime!r}, it is simulated", mend="leave --runtime out")
        return _profiler("simulated:SimulatedProfiler", rest, threads)
    if scheme == "ssh":
        try:
            return _profiler("ssh:SshProfiler", device, runtime, threads)
        except ModuleNotFoundError as error:
            if error.name != "asyncssh":
                raise
            raise MissingDependencyError("asyncssh is not installed", mend="pip install 'unas-hw[ssh]'") from None
    if scheme.partition("?")[0] == "gpu":
        if missing := gpu_absence():
            raise MissingDeviceError(f"--device {device}: {missing}", mend="unas-hw profile --device cpu")
        return _profiler("gpu:GpuProfiler", device, runtime, threads)
    booked = _import("profilers.devices.book:read_book")()
    if device in booked:
        return _open_booked(booked[device], runtime, threads)
    added = added_devices()
    if scheme in added:
        theirs: Profiler = added[scheme].load()(rest, threads)
        return theirs
    names = ("cpu", "gpu", "ssh://HOST", "adb://SERIAL", *SIMULATED, *booked, *added)
    raise UnknownNameError(f"no device is called {device!r}", mend=did_you_mean(device, names))


def _profiler(target: str, *arguments: Any) -> Profiler:
    opened: Profiler = _import(f"profilers.devices.{target}")(*arguments)
    return opened


def _open_booked(entry: Booked, runtime: str | None, threads: int) -> Profiler:
    """A device of the book, under its name: with that it is opened again."""
    if entry.adb is not None:
        profiler = _profiler("android:AndroidProfiler", entry.adb, runtime, threads, entry)
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
