"""Names are found without importing what they name, and a wrong or missing one says what to type."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
import torch

from profilers import registry
from profilers.devices.simulated import SimulatedProfiler
from profilers.errors import MissingDependencyError, MissingDeviceError, UnknownNameError
from profilers.registry import RUNTIMES, SIMULATED, find_runtime, open_profiler

ROOT = Path(__file__).parents[2]


def test_the_catalogue_costs_nothing_to_import() -> None:
    code = (
        "import sys, profilers.registry; "
        "print([name for name in ('torch', 'onnxruntime', 'onnx', 'pandas', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_device_with_a_typo_is_answered_with_the_near_one() -> None:
    with pytest.raises(UnknownNameError) as caught:
        open_profiler("cpuu")
    assert caught.value.what == "no device is called 'cpuu'"
    assert caught.value.mend == "did you mean 'cpu'?"


def test_an_unlike_device_is_answered_with_all_there_are() -> None:
    with pytest.raises(UnknownNameError) as caught:
        open_profiler("toaster")
    for name in ("cpu", "gpu", *SIMULATED):
        assert name in caught.value.mend


def test_a_runtime_with_a_typo_is_answered_with_the_near_one() -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_runtime("onxruntime")
    assert caught.value.mend == "did you mean 'onnxruntime'?"


def test_an_unlike_runtime_is_answered_with_all_there_are() -> None:
    with pytest.raises(UnknownNameError) as caught:
        open_profiler("cpu", runtime="abacus")
    assert "'abacus'" in caught.value.what
    for name in RUNTIMES:
        assert name in caught.value.mend


def test_a_runtime_that_is_not_installed_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "is_installed", lambda _: False)
    with pytest.raises(MissingDependencyError) as caught:
        find_runtime("onnxruntime")
    assert caught.value.mend == "pip install onnxruntime"


@pytest.mark.parametrize("name", [name for name in RUNTIMES if registry.is_installed(name)])
def test_every_runtime_of_the_catalogue_is_there_under_its_own_name(name: str) -> None:
    assert find_runtime(name).name == name


def test_a_runtime_of_gpus_is_refused_on_the_cpu_installed_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for installed in (True, False):
        monkeypatch.setattr(registry, "is_installed", lambda _, there=installed: there)
        with pytest.raises(UnknownNameError) as caught:
            open_profiler("cpu", runtime="tensorrt")
        assert caught.value.what == "runtime 'tensorrt' does not run on device 'cpu'"
        assert caught.value.mend == "add --device gpu"


def test_what_the_cpu_is_said_to_run_is_what_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "is_installed", lambda _: True)
    (cpu,) = [each for each in registry.reachable() if each["device"] == "cpu"]
    assert cpu["runtimes"] == [name for name in RUNTIMES if name != "tensorrt"]


@pytest.mark.parametrize("device", ["gpu", "gpu:1"])
def test_a_gpu_that_is_not_there_names_the_device_that_is(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingDeviceError) as caught:
        open_profiler(device)
    assert f"--device {device}" in caught.value.what
    assert "torch.cuda.is_available() is False" in caught.value.what
    assert "--device cpu" in caught.value.mend


def test_simulated_devices_are_opened_by_name() -> None:
    for device in SIMULATED:
        profiler = open_profiler(device, threads=2)
        assert isinstance(profiler, SimulatedProfiler)
        assert (profiler.device, profiler.runtime, profiler.threads) == (device, "simulated", 2)


def test_a_simulated_device_takes_no_runtime_of_its_own_choice() -> None:
    assert open_profiler("sim:phone", runtime="simulated").runtime == "simulated"
    with pytest.raises(UnknownNameError) as caught:
        open_profiler("sim:phone", runtime="torch")
    assert "leave --runtime out" in caught.value.mend


def test_a_device_of_another_distribution_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("board", "profilers.devices.simulated:SimulatedProfiler", registry.ENTRY_POINTS)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda *, group: EntryPoints([point]).select(group=group))
    assert open_profiler("board:phone").device == "sim:phone"
    with pytest.raises(UnknownNameError, match="bord") as caught:
        open_profiler("bord")
    assert caught.value.mend == "did you mean 'board'?"
