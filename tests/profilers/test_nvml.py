"""``--device gpu`` without one: what NVML says (a fake), which GPU is meant, and when it is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from profilers import registry
from profilers.devices import gpu
from profilers.devices.gpu import GpuProfiler
from profilers.devices.local import ProcessProfiler
from profilers.environment import changed, timing_warnings
from profilers.errors import ConversionError, MissingDependencyError, MissingDeviceError, UnknownNameError
from profilers.nvml import Nvml
from profilers.testing import QUICK, SMALL

UUID = "ffc79498-8ff3-c2dc-3b0d-fafd804516ae"
PCI = "00000000:65:00.0"
FACTS: dict[str, Any] = {"name": "GPU", "memory_bytes": 85_100_000_000, "capability": "9.0", "uuid": UUID, "pci": PCI}
OTHER = SimpleNamespace(pid=4711, usedGpuMemory=2**30)


class FakeNvml(ModuleType):
    """As much of pynvml as is called: one GPU, the third as NVML counts, which answers every question but one."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    class NVMLError(Exception):
        """What every other one is."""

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.uuid, self.opened = UUID, 0
        self.reasons, self.busy, self.others = 0x1, [0], [OTHER]

    def nvmlInit(self) -> None:  # noqa: N802
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.opened -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid != f"GPU-{self.uuid}":
            raise self.NVMLError("Not Found")
        return "handle"

    def nvmlDeviceGetHandleByPciBusId(self, pci: str) -> str:  # noqa: N802
        if pci != PCI:
            raise self.NVMLError("Not Found")
        return "handle"

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:  # noqa: N802
        assert handle == "handle"
        return SimpleNamespace(gpu=self.busy.pop(0) if len(self.busy) > 1 else self.busy[0], memory=0)

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:  # noqa: N802
        raise self.NVMLError("Not Supported")

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Any] = {
            "nvmlDeviceGetIndex": lambda gpu: 2,
            "nvmlSystemGetDriverVersion": lambda: "580.65",
            "nvmlSystemGetCudaDriverVersion_v2": lambda: 13010,
            "nvmlDeviceGetClockInfo": lambda gpu, kind: {1: 345, 2: 2619}[kind],
            "nvmlDeviceGetMaxClockInfo": lambda gpu, kind: {1: 1980, 2: 2619}[kind],
            "nvmlDeviceGetPowerUsage": lambda gpu: 71_500,
            "nvmlDeviceGetEnforcedPowerLimit": lambda gpu: 700_000,
            "nvmlDeviceGetTemperature": lambda gpu, sensor: 31,
            "nvmlDeviceGetCurrentClocksEventReasons": lambda gpu: self.reasons,
            "nvmlDeviceGetPersistenceMode": lambda gpu: 1,
            "nvmlDeviceGetComputeRunningProcesses": lambda gpu: self.others,
            "nvmlSystemGetProcessName": lambda pid: "/usr/bin/python3",
        }
        if name not in answers:
            raise AttributeError(name)
        return answers[name]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    yield fake
    assert fake.opened == 0  # everybody gave it back


def record(**changes: Any) -> dict[str, Any]:
    with Nvml(UUID) as opened:
        return opened.record(**changes)


# --- what NVML says -------------------------------------------------------------------------------------------------


def test_the_record_says_what_may_explain_a_number_and_none_where_the_gpu_does_not_tell(library: FakeNvml) -> None:
    found = record()
    assert (
        json.loads(json.dumps(found))
        == found
        == {
            "driver": "580.65",
            "driver_cuda": "13.1",
            "sm_mhz": 345,
            "sm_max_mhz": 1980,
            "memory_mhz": 2619,
            "memory_max_mhz": 2619,
            "power_w": 71.5,
            "power_limit_w": 700.0,
            "temperature_c": 31,
            "throttle_reasons": ["idle"],
            "persistence": True,
            "mig": None,
            "utilization_percent": 0,
            "processes": [{"pid": 4711, "name": "python3", "memory_bytes": 2**30}],
        }
    )
    assert record(ours=(4711,))["processes"] == []


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0, []),
        (0x44, ["power cap", "thermal slowdown by hardware"]),
        (0x10001, ["idle", "unknown (0x10001)"]),
    ],
)
def test_what_slows_the_clocks_is_said_in_words(library: FakeNvml, bits: int, words: list[str]) -> None:
    library.reasons = bits
    assert record()["throttle_reasons"] == words


def test_an_older_package_is_asked_by_the_older_name(library: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(gpu: str) -> int:
        raise library.NVMLError("Function Not Found")

    monkeypatch.setattr(library, "nvmlDeviceGetCurrentClocksEventReasons", missing, raising=False)
    assert record()["throttle_reasons"] is None
    monkeypatch.setattr(library, "nvmlDeviceGetCurrentClocksThrottleReasons", lambda gpu: 0x4, raising=False)
    assert record()["throttle_reasons"] == ["power cap"]


def test_a_gpu_is_found_by_what_it_is_not_by_its_number(library: FakeNvml) -> None:
    with Nvml(UUID) as opened:
        assert opened.index == 2
    library.uuid = "of the whole GPU"
    with Nvml("of a part", PCI) as opened:
        assert opened.index == 2
    with pytest.raises(MissingDeviceError, match="NVML does not know GPU of a part: Not Found"):
        Nvml("of a part")


def test_without_the_library_everything_is_unknown_and_a_warning_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MissingDependencyError, match="pynvml is not installed"):
        Nvml(UUID)
    (warning,) = timing_warnings({"gpu": gpu.look(FACTS)})
    assert "are unknown" in warning and "pip install 'unas-hw[gpu]'" in warning


@pytest.mark.parametrize(
    ("readings", "percent"),
    [([7, 90], 7), ([100, 100, 60] + [0] * 20, 0), ([100] * 30, 100), ([40, 30, 0] * 10, 30)],
)
def test_work_that_has_just_ended_does_not_count_and_work_that_goes_on_does(
    library: FakeNvml, readings: list[int], percent: float
) -> None:
    library.busy = readings
    with Nvml(UUID) as opened:
        assert opened.busy_percent() == percent


def test_what_disturbs_a_gpu_is_told_and_what_does_not_is_not(library: FakeNvml) -> None:
    assert timing_warnings({"gpu": record(ours=(4711,))}) == ()
    disturbed = record() | {"throttle_reasons": ["idle", "power cap"], "mig": True, "persistence": False}
    slowed, others, mig, persistence = timing_warnings({"gpu": disturbed})
    assert slowed == "the GPU is slowed down: power cap"
    assert others == "others use the GPU: process 4711 (python3)"
    assert "MIG" in mig and "nvidia-smi -pm 1" in persistence


def test_another_power_limit_makes_another_machine(library: FakeNvml) -> None:
    then = {"gpu": record()}
    assert changed(then, then) == "" == changed(then, {"gpu": {"power_limit_w": None}})
    now = {"gpu": record() | {"power_limit_w": 400.0}}
    assert changed(then, now) == "power limit of the GPU 700.0 -> 400.0"


# --- the profiler ---------------------------------------------------------------------------------------------------


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(ProcessProfiler, "_open", lambda self: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def profiler(device: str = "gpu", runtime: str | None = "torch") -> GpuProfiler:
    made = registry.open_profiler(device, runtime=runtime)
    assert isinstance(made, GpuProfiler)
    vars(made)["_facts"] = FACTS
    return made


@pytest.mark.usefixtures("two_gpus")
def test_where_it_runs_is_told_to_the_process_and_is_no_part_of_the_runtimes_name() -> None:
    made = profiler("gpu:1", "torch+graph")
    assert (made.device, made.runtime) == ("gpu:1", "torch+graph")
    assert made._command() == ["profilers.agent", "torch+graph+cuda", "1"]
    assert made._variables()["CUDA_VISIBLE_DEVICES"] == "1"
    assert profiler(runtime="onnxruntime+cuda")._command()[1] == "onnxruntime+cuda"


@pytest.mark.parametrize(
    ("index", "visible", "alone"),
    [(0, None, "0"), (1, None, "1"), (1, "", "1"), (1, "3, 5", "5"), (0, "GPU-ffc79498,GPU-1", "GPU-ffc79498")],
)
def test_a_gpu_is_counted_among_those_that_the_user_left_visible(index: int, visible: str | None, alone: str) -> None:
    assert gpu.only(index, visible) == alone


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("device", "runtime", "error", "what"),
    [
        ("gpu:2", "torch", MissingDeviceError, r"PyTorch sees 2 GPU\(s\)"),
        ("gpu:x", "torch", UnknownNameError, r"no device is called 'gpu:x'\n.*gpu:1"),
        ("gpu?shard=1", "torch", UnknownNameError, r"'gpu\?shard=1'"),
        ("gpu", "ncnn", UnknownNameError, "runtime 'ncnn' does not run on device 'gpu'"),
        ("gpu", "onnxruntime+xnnpack", UnknownNameError, "does not run on GPUs"),
    ],
)
def test_a_gpu_or_runtime_that_is_not_there_is_refused(device: str, runtime: str, error: type, what: str) -> None:
    with pytest.raises(error, match=what):
        profiler(device, runtime)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(("there", "runtime"), [(True, "tensorrt"), (False, "torch")])
def test_tensorrt_is_the_default_where_it_can_be_imported(
    monkeypatch: pytest.MonkeyPatch, there: bool, runtime: str
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt") if there else None)
    monkeypatch.setattr(registry, "is_installed", lambda name: True)
    assert profiler(runtime=None).runtime == runtime


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_others_keep_busy_is_refused_unless_it_is_said_to_be_shared(library: FakeNvml) -> None:
    library.busy = [93]
    with pytest.raises(MissingDeviceError) as caught, profiler("gpu:1"):
        pass
    assert caught.value.what == "gpu:1 is busy for 93% of 3 s with the work of others: process 4711 (python3)"
    assert "--device gpu:1?shared=1" in caught.value.mend
    library.others = []
    with pytest.raises(MissingDeviceError, match="a process that is not seen from here"), profiler("gpu:1"):
        pass
    with profiler("gpu:1?shared=1"):
        pass


@pytest.mark.usefixtures("two_gpus")
def test_others_are_those_from_before_it_was_opened(library: FakeNvml) -> None:
    made = profiler()
    with made:
        library.others = [OTHER, SimpleNamespace(pid=99, usedGpuMemory=None)]  # our own, by a number we do not know
        while_open = made.environment()
    assert [each["pid"] for each in while_open["gpu"]["processes"]] == [4711]
    assert [each["pid"] for each in made.environment()["gpu"]["processes"]] == [4711, 99]
    assert while_open["versions"]["nvidia-ml-py"] is not None and while_open["gpu"]["missing"] is None


@pytest.mark.usefixtures("two_gpus")
def test_it_opens_without_nvml_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with profiler() as made:
        assert "pynvml is not installed" in made.environment()["gpu"]["missing"]


@pytest.mark.usefixtures("two_gpus")
def test_a_newer_driver_does_not_make_another_gpu() -> None:
    made = profiler()
    before = made.fingerprint()
    assert before == {"kind": "gpu", "name": "GPU", "memory_bytes": 79 * 2**30, "capability": "9.0"}
    vars(made)["_facts"] = FACTS | {"memory_bytes": FACTS["memory_bytes"] - 100_000_000}
    assert made.fingerprint() == before


@pytest.mark.usefixtures("two_gpus")
def test_the_memory_of_the_host_is_not_taken_for_that_of_the_gpu() -> None:
    for runtime, kept in (("torch", True), ("onnxruntime+cuda", False)):
        made = profiler(runtime=runtime)
        made._details["key"] = {"peak_memory_bytes": 1, "clock": "cuda-events"}
        assert made.details("key") == {"clock": "cuda-events"} | ({"peak_memory_bytes": 1} if kept else {})


@pytest.mark.usefixtures("two_gpus")
def test_the_energy_is_that_of_the_gpu_that_is_timed(library: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(gpu, "find_meter", lambda command, index: asked.append(index))
    profiler("gpu:1").meter()
    assert asked == [2]


def test_the_gpus_that_are_there_are_listed_with_what_disturbs_them(
    library: FakeNvml, two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = SimpleNamespace(name="GPU", total_memory=1, major=9, minor=0, uuid=UUID)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    first, second = gpu.listing()
    assert (first["device"], second["device"]) == ("gpu", "gpu:1")
    assert first["name"] == "GPU" and "torch" in first["runtimes"] and "onnxruntime" not in first["runtimes"]
    assert first["warnings"] == ["others use the GPU: process 4711 (python3)"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert "onnxruntime" in gpu.listing()[0]["runtimes"]


# --- processes that find no GPU -------------------------------------------------------------------------------------


@pytest.fixture
def none_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")


@pytest.mark.usefixtures("none_visible")
def test_a_gpu_that_does_not_answer_is_one_line() -> None:
    with pytest.raises(MissingDeviceError) as caught:
        registry.open_profiler("gpu", runtime="torch").fingerprint()
    assert caught.value.what.startswith("gpu does not answer: ") and "\n" not in caught.value.what
    assert "nvidia-smi" in caught.value.mend


@pytest.mark.slow  # it imports PyTorch
@pytest.mark.usefixtures("none_visible")
def test_the_timing_process_runs_nothing_on_the_cpu_in_the_place_of_the_gpu(library: FakeNvml) -> None:
    with profiler() as made, pytest.raises(ConversionError, match=f"torch failed at {SMALL.key[:4]}"):
        made.measure(SMALL, QUICK)
