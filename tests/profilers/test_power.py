"""The machine's own counters (a fake sysfs, a fake NVML), and what is made of a meter's windows."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from profilers import power
from profilers.errors import FileError, MissingDependencyError, MissingDeviceError, PowerError, UnasError
from profilers.power import (
    CommandMeter,
    NvmlMeter,
    RaplMeter,
    find_meter,
    idle_power_w,
    measure_energy,
    net_energy_mj,
)
from profilers.power_base import Energy, PowerMeter

RANGE_UJ = 1_000_000


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "power-meter"]


def _zone(root: Path, folder: str, name: str, energy_uj: int) -> Path:
    zone = root / folder
    zone.mkdir(parents=True)
    (zone / "name").write_text(f"{name}\n")
    (zone / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (zone / "energy_uj").write_text(f"{energy_uj}\n")
    return zone / "energy_uj"


# RAPL


def test_rapl_adds_the_packages_and_nothing_that_they_contain_or_that_contains_them(tmp_path: Path) -> None:
    counters = [
        _zone(tmp_path, "intel-rapl:0", "package-0", 1000),
        _zone(tmp_path, "intel-rapl:1", "package-1", 5000),
        _zone(tmp_path, "intel-rapl:2", "psys", 0),
        _zone(tmp_path, "intel-rapl:0:0", "core", 0),
        _zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0),
    ]
    with RaplMeter(tmp_path) as meter:
        meter.start()
        for counter in counters:
            counter.write_text(str(int(counter.read_text()) + 2000))
        energy = meter.stop()
    assert (energy.energy_mj, energy.readings) == (4.0, 2)
    assert energy.seconds > 0


def test_a_rapl_counter_that_wraps_around_is_put_right(tmp_path: Path) -> None:
    counter = _zone(tmp_path, "intel-rapl:0", "package-0", RANGE_UJ - 1000)
    meter = RaplMeter(tmp_path)
    meter.start()
    counter.write_text("500")
    assert meter.stop().energy_mj == 1.5


def test_a_machine_without_rapl_is_told_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(MissingDeviceError, match=r"intel-rapl:\*/energy_uj") as caught:
        RaplMeter(tmp_path / "none")
    assert "--power-command" in caught.value.mend


def test_an_unreadable_rapl_counter_names_the_file_and_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = _zone(tmp_path, "intel-rapl:0", "package-0", 0)
    read_text = Path.read_text

    def refused(path: Path, encoding: str | None = None, errors: str | None = None) -> str:
        if path == counter:  # not by chmod: the tests may run as root, whom no mode keeps out
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, encoding, errors)

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(FileError, match="Permission denied") as caught:
        RaplMeter(tmp_path)
    assert str(counter) in caught.value.what
    assert f"sudo chmod a+r {tmp_path}/intel-rapl:*/energy_uj" in caught.value.mend
    monkeypatch.setattr(power, "POWERCAP_ROOT", str(tmp_path))
    with pytest.raises(MissingDeviceError, match="Permission denied") as caught_by_find:
        find_meter(None, None)
    assert "sudo chmod" in caught_by_find.value.mend


def test_a_rapl_counter_without_a_number_is_an_error(tmp_path: Path) -> None:
    _zone(tmp_path, "intel-rapl:0", "package-0", 0).write_text("\n")
    with pytest.raises(PowerError, match="not a number"):
        RaplMeter(tmp_path)


# NVML


class FakeNvml(ModuleType):
    """As much of pynvml as the meter calls; GPU 0 exists and draws 100 W."""

    class NVMLError(Exception):
        """What every other one is."""

    class NVMLError_NotSupported(NVMLError):  # noqa: N801, N818 - the library's own name
        """A GPU without the value."""

    class NVMLError_FunctionNotFound(NVMLError):  # noqa: N801, N818 - as above
        """A driver without the function."""

    def __init__(self, *, driver: bool = True, counter: bool = True, power: bool = True) -> None:
        super().__init__("pynvml")
        self.driver, self.counter, self.power = driver, counter, power
        self.opened = 0
        self.energy_mj = 7_000_000_000
        self.power_readings = 0

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise self.NVMLError("Driver Not Loaded")
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.opened -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index:
            raise self.NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:  # noqa: N802
        if not self.counter:
            raise self.NVMLError_NotSupported("Not Supported")
        return self.energy_mj

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        if not self.power:
            raise self.NVMLError_NotSupported("Not Supported")
        self.power_readings += 1
        return 100_000


def _nvml(monkeypatch: pytest.MonkeyPatch, fake: FakeNvml) -> FakeNvml:
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_nvml_subtracts_the_counter_and_gives_the_library_back(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _nvml(monkeypatch, FakeNvml())
    with find_meter(None, 0) as meter:
        assert meter.name == "nvml:0"
        meter.start()
        fake.energy_mj += 1234
        energy = meter.stop()
        assert fake.opened == 1
    assert (energy.energy_mj, energy.readings) == (1234.0, 2)
    assert (fake.opened, fake.power_readings) == (0, 0)


def test_a_gpu_without_a_counter_has_its_power_integrated(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _nvml(monkeypatch, FakeNvml(counter=False))
    with NvmlMeter(0, interval_s=0.01) as meter:
        assert meter.name == "nvml:0 (power, polled)"
        meter.start()
        time.sleep(0.1)
        energy = meter.stop()
    assert energy.readings > 2
    assert energy.seconds >= 0.1
    assert energy.energy_mj == pytest.approx(100 * energy.seconds * 1000)
    assert fake.opened == 0


def test_a_binding_too_old_for_the_counter_has_its_power_integrated(monkeypatch: pytest.MonkeyPatch) -> None:
    _nvml(monkeypatch, FakeNvml())
    monkeypatch.delattr(FakeNvml, "nvmlDeviceGetTotalEnergyConsumption")
    with NvmlMeter(0) as meter:
        assert meter.name.endswith("polled)")


@pytest.mark.parametrize("fake", [FakeNvml(driver=False), FakeNvml(counter=False, power=False)])
def test_no_driver_or_no_reading_is_a_missing_device(monkeypatch: pytest.MonkeyPatch, fake: FakeNvml) -> None:
    _nvml(monkeypatch, fake)
    with pytest.raises(MissingDeviceError, match=r"no energy and no power of GPU 0: (Driver|Not Supported)"):
        NvmlMeter(0)
    assert fake.opened == 0


def test_a_gpu_that_is_not_there_is_named_and_the_library_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _nvml(monkeypatch, FakeNvml())
    with pytest.raises(MissingDeviceError, match="GPU 3") as caught:
        find_meter(None, 3)
    assert "--power-command" in caught.value.what and "--power-command" in caught.value.mend
    assert fake.opened == 0


def test_a_missing_library_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MissingDependencyError, match="pip install nvidia-ml-py"):
        NvmlMeter(0)


def test_a_gpu_that_goes_away_in_the_window_is_told_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _nvml(monkeypatch, FakeNvml(counter=False))
    with NvmlMeter(0, interval_s=0.005) as meter:
        meter.start()
        fake.power = False
        time.sleep(0.05)
        with pytest.raises(PowerError, match="stopped giving readings"):
            meter.stop()
    assert fake.opened == 0


# What is made of a meter


class ScriptedMeter(PowerMeter):
    """Says what it was told, and how it was treated."""

    def __init__(self, energy: Energy) -> None:
        self.name = "scripted"
        self.energy = energy
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> Energy:
        self.calls.append("stop")
        return self.energy

    def cancel(self) -> None:
        self.calls.append("cancel")


def test_the_energy_of_a_call_is_above_idle() -> None:
    asked: list[float] = []

    def run_for(seconds: float) -> int:
        asked.append(seconds)
        return 50

    meter = ScriptedMeter(Energy(10_000, 2.5, 9))
    reading = measure_energy(run_for, meter, window_s=2.0, idle_w=1.0)
    assert reading == power.EnergyReading(150.0, 50, 2.5, 1.0, "scripted")
    assert (asked, meter.calls) == ([2.0], ["start", "stop"])


def test_less_than_idle_stays_negative() -> None:
    assert net_energy_mj(Energy(1000, 1.0, 2), 3.0) == -2000


def test_idle_power_is_the_mean_over_the_window() -> None:
    slept: list[float] = []
    assert idle_power_w(ScriptedMeter(Energy(6000, 2.0, 2)), 1.5, slept.append) == 3.0
    assert slept == [1.5]


def test_work_that_fails_closes_the_window() -> None:
    def run_for(seconds: float) -> int:
        raise RuntimeError("out of memory")

    meter = CommandMeter("echo 5", interval_s=0.01)
    with pytest.raises(RuntimeError, match="out of memory"):
        measure_energy(run_for, meter, window_s=1.0, idle_w=0.0)


def test_a_window_without_calls_or_without_time_is_an_error() -> None:
    with pytest.raises(PowerError, match="no call was finished"):
        measure_energy(lambda seconds: 0, ScriptedMeter(Energy(1, 1.0, 2)), window_s=1.0, idle_w=0.0)
    with pytest.raises(PowerError, match="took 0 s"):
        idle_power_w(ScriptedMeter(Energy(1, 0.0, 2)), 0.0, lambda seconds: None)


def test_stop_before_start_is_an_error(tmp_path: Path) -> None:
    _zone(tmp_path, "intel-rapl:0", "package-0", 0)
    for meter in (RaplMeter(tmp_path), CommandMeter("echo 5")):
        with pytest.raises(PowerError, match="before it was started"):
            meter.stop()


def test_the_command_comes_first_and_rapl_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _zone(tmp_path, "intel-rapl:0", "package-0", 0)
    monkeypatch.setattr(power, "POWERCAP_ROOT", str(tmp_path))
    assert find_meter("echo 5", 0).name == "command:echo 5"
    assert find_meter(None, None).name == "rapl"


def test_where_nothing_exists_everything_that_was_looked_for_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "POWERCAP_ROOT", str(tmp_path))
    with pytest.raises(UnasError) as caught:
        find_meter(None, None)
    for word in ("--power-command", "NVML", "RAPL", str(tmp_path)):
        assert word in caught.value.what
    assert "--power-command" in caught.value.mend
