"""The doctor: names what is missing with what to type, and what disturbs timing by its name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from profilers import doctor, registry
from profilers.agent import machine
from profilers.agent.engines import ENGINES
from profilers.doctor import Finding, can_profile, cpu, disturbances, gpu, gpu_processes, libraries, meters, tools
from profilers.errors import ConversionError


def named(findings: list[Finding], name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "WINDOW_S", 0.2)


def test_a_cpu_that_works_was_tried() -> None:
    found = cpu()
    assert found.section == "works" and " ms with onnxruntime" in found.what
    assert can_profile([found])


@pytest.mark.parametrize("error", [ConversionError("it broke", mend="mend it"), ImportError("libfoo.so is missing")])
def test_a_cpu_that_does_not_work_says_why(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(_: str) -> object:
        raise error

    monkeypatch.setattr(registry, "open_profiler", refuse)
    found = cpu()
    assert found.section == "missing" and str(error).splitlines()[0] in found.what and found.mend
    assert not can_profile([found])


def test_every_runtime_is_there_or_named_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {finding.name: finding for finding in libraries()}
    assert set(registry.RUNTIMES) <= set(there)
    monkeypatch.setattr(doctor, "is_installed", lambda _: False)
    monkeypatch.setattr("shutil.which", lambda _: None)
    found = list(libraries())
    assert {finding.section for finding in found} == {"missing"}
    assert named(found, "openvino").mend == "pip install 'unas-hw[openvino]'"
    assert named(found, "torch+compile").mend == "apt-get install g++"
    assert named(list(tools()), "adb").mend == "apt-get install adb"


def test_a_runtime_that_is_there_but_cannot_be_imported_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("raise OSError('libfoo.so: wrong ELF class')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(ENGINES, "ncnn", ("broken",))
    monkeypatch.setattr(doctor, "RUNTIMES", {"ncnn": registry.RUNTIMES["ncnn"]})  # the others take seconds
    found = named(list(libraries()), "ncnn")
    assert (found.section, found.mend) == ("missing", "pip install 'unas-hw[ncnn]'")
    assert "wrong ELF class" in found.what


def test_a_gpu_is_there_or_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu().section == "missing" and "nvidia-smi" in gpu().mend
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H100")
    assert gpu() == Finding("works", "gpu", "NVIDIA H100")


def test_without_asyncssh_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    assert named(list(tools()), "asyncssh").mend == "pip install 'unas-hw[ssh]'"


def test_meters_are_readable_or_said_why_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    for name, text in (("name", "package-0"), ("energy_uj", "5"), ("max_energy_range_uj", "100")):
        (zone / name).write_text(text)
    monkeypatch.setattr("profilers.power.RaplMeter.__init__.__defaults__", (tmp_path,))
    assert named(list(meters()), "RAPL (CPU energy)").section == "works"
    (zone / "energy_uj").unlink()
    found = named(list(meters()), "RAPL (CPU energy)")
    assert found.section == "missing" and "chmod" in found.mend


@pytest.mark.timing
def test_a_busy_process_is_named_with_its_share() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
    ) as busy:
        assert busy.stdout is not None
        busy.stdout.readline()  # it has started
        found = [finding for finding in disturbances() if f"process {busy.pid} " in finding.what]
        busy.kill()
    assert len(found) == 1 and found[0].name.startswith("python") and "% of a core" in found[0].what
    assert f"-p {busy.pid}" in found[0].mend


def test_governor_turbo_clocks_heat_load_and_hypervisor_are_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clocks = iter(([2000.0, 2000.0], [2000.0, 2500.0]))
    still = {"governor": "powersave", "load": [99.0, 0, 0], "virtual": True, "temperature_c": 91.0}
    monkeypatch.setattr(machine, "state", lambda: {**still, "clock_mhz": next(clocks)})
    boost = tmp_path / "sys/devices/system/cpu/cpufreq/boost"
    boost.parent.mkdir(parents=True)
    boost.write_text("1\n")
    found = list(disturbances(tmp_path))
    assert {finding.section for finding in found} == {"disturbs"} and all(finding.mend for finding in found)
    assert "'powersave'" in named(found, "governor").what
    assert named(found, "turbo").mend == f"echo 0 | sudo tee {boost}"
    assert "25%" in named(found, "clocks").what
    assert "91 degrees" in named(found, "temperature").what
    assert "99.0" in named(found, "load").what
    assert "virtual machine" in named(found, "virtual machine").what


def test_a_quiet_machine_has_nothing_to_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = {"governor": "performance", "load": [0.1], "virtual": False, "temperature_c": 40.0, "clock_mhz": [2000.0]}
    monkeypatch.setattr(machine, "state", lambda: state)
    assert list(disturbances(tmp_path)) == []


def test_stolen_time_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = {"governor": None, "load": [0.1], "virtual": True, "temperature_c": None, "clock_mhz": []}
    monkeypatch.setattr(machine, "state", lambda: state)
    readings = iter((0.0, 100.0))
    monkeypatch.setattr(doctor, "_stolen_s", lambda _: next(readings))
    assert "% of the last" in named(list(disturbances(tmp_path)), "virtual machine").what


def test_a_process_on_the_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sh", "-c", "echo; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()  # it has its name by now
        nvml = SimpleNamespace(
            NVMLError=RuntimeError,
            nvmlInit=lambda: None,
            nvmlDeviceGetCount=lambda: 1,
            nvmlDeviceGetHandleByIndex=lambda index: index,
            nvmlDeviceGetComputeRunningProcesses=lambda _: [SimpleNamespace(pid=other.pid)],
        )
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        (found,) = gpu_processes()
        other.kill()
    assert found.name == "gpu:0" and f"sh, process {other.pid}" in found.what
