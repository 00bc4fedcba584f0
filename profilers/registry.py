"""Names of devices and runtimes; nothing is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module, metadata
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from profilers.errors import MissingDependencyError, MissingDeviceError, UnknownNameError

if TYPE_CHECKING:
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
        "torch": Listing("profilers.runtimes.torch:TorchRuntime", "PyTorch", "torch"),
    }
)
SIMULATED = ("sim:phone", "sim:gpu")


def _import(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def find_runtime(name: str) -> Runtime:
    """The runtime of that name, such as ``onnxruntime`` or ``torch+compile``."""
    base, *options = name.split("+")
    if base not in RUNTIMES:
        near = get_close_matches(base, RUNTIMES)
        raise UnknownNameError(
            f"no runtime is called {base!r}",
            mend=f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(RUNTIMES)}",
        )
    runtime: Runtime = _import(RUNTIMES[base].target)(*options)
    if not is_installed(base):
        raise MissingDependencyError(f"runtime {base!r} is not installed", mend=f"pip install {RUNTIMES[base].needs}")
    return runtime


def is_installed(runtime: str) -> bool:
    """Whether the runtime's library can be imported."""
    from profilers.agent.engines import is_installed as is_there

    return is_there(runtime)


def open_profiler(device: str = "cpu", *, runtime: str | None = None, threads: int = 1) -> Profiler:
    """The profiler of a device; opened by ``with``.

    Args:
        device: ``cpu``, ``ssh://[user@]host``, ``sim:NAME`` or a name that an installed package adds.
        runtime: One of ``RUNTIMES``; by default onnxruntime, over ssh what is found there.
        threads: Threads an operation may use.

    Raises:
        MissingDeviceError: If the device is not there.
        UnknownNameError: If nothing has that name.
    """
    scheme, _, rest = device.partition(":")
    if device == "cpu":
        profiler: Profiler = _import("profilers.devices.local:LocalProfiler")(runtime or "onnxruntime", threads)
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
    if scheme == "gpu":
        raise MissingDeviceError(f"--device {device}: {gpu_absence()}", mend="unas-hw profile --device cpu")
    added = {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)}
    if scheme in added:
        profiler = added[scheme].load()(rest, threads)
        return profiler
    names = ("cpu", "gpu", "ssh://HOST", *SIMULATED, *added)
    near = get_close_matches(device, names)
    raise UnknownNameError(
        f"no device is called {device!r}",
        mend=f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names)}",
    )


def gpu_absence() -> str:
    """Why no GPU can be profiled here, in words."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()} is there, but this version profiles CPUs and simulated devices only"
    return "no NVIDIA GPU is visible to PyTorch (torch.cuda.is_available() is False)"


def reachable() -> list[dict[str, Any]]:
    """What can be profiled from here: device, name, runtimes, what is missing, what disturbs timing."""
    from profilers.agent.machine import cpu_name
    from profilers.environment import cpu_environment, timing_warnings

    runtimes = [name for name in RUNTIMES if is_installed(name)]
    cpu = {"device": "cpu", "name": cpu_name(), "runtimes": runtimes, "missing": ""}
    found = [{**cpu, "warnings": list(timing_warnings(cpu_environment(())))}]
    found.append({"device": "gpu", "name": "-", "runtimes": [], "missing": gpu_absence(), "warnings": []})
    found.extend(
        {"device": name, "name": "simulated", "runtimes": ["simulated"], "missing": "", "warnings": []}
        for name in SIMULATED
    )
    return found
