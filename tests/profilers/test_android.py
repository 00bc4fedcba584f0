"""An Android device end to end: the real adb client, and benchmark tools that run what was pushed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from latency_tables.collect import Planned, fill
from latency_tables.rows import OP
from latency_tables.table import LatencyTable
from profilers import testing
from profilers.devices import android
from profilers.devices.android import AndroidProfiler
from profilers.devices.book import Booked
from profilers.errors import (
    DeviceLostError,
    MissingDependencyError,
    MissingDeviceError,
    ToolOutputError,
    UnknownNameError,
)
from profilers.testing import LARGE, QUICK, SMALL, convolution
from tests.profilers import phone
from tests.profilers.adbd import FakeAdbd

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with phone.adb_server(tmp_path_factory.mktemp("adb") / "home") as started:
        yield started


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    with phone.tools(tmp_path_factory.mktemp("tools")) as made:
        yield made


@pytest.fixture
def device(client: str, tmp_path: Path) -> Iterator[FakeAdbd]:
    with FakeAdbd(phone.android(tmp_path / "device")) as fake:
        assert "connected to" in phone.adb(client, "connect", fake.serial)
        yield fake
        phone.adb(client, "disconnect", fake.serial)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(android, "BLOCK_S", 0.002)
    monkeypatch.setenv("UNAS_HW_HOME", str(tmp_path / "home"))


def booked(device: FakeAdbd, tools: dict[str, Path], *runtimes: str) -> Booked:
    return Booked(name="phone", adb=device.serial, tools={each: str(tools[each]) for each in runtimes})


def opened(device: FakeAdbd, tools: dict[str, Path], runtime: str) -> AndroidProfiler:
    return AndroidProfiler(device.serial, None, 1, booked(device, tools, runtime))


def left_behind(device: FakeAdbd) -> list[str]:
    return [path.name for path in (device.root / "data/local/tmp").iterdir()]


@pytest.mark.timing
class TestOnnxRuntimeOnAPhone(testing.ProfilerContract):
    @pytest.fixture
    def profiler(self, device: FakeAdbd, tools: dict[str, Path]) -> AndroidProfiler:
        return opened(device, tools, "onnxruntime")


@pytest.mark.slow
class TestNcnnOnAPhone(testing.ProfilerContract):
    @pytest.fixture
    def profiler(self, device: FakeAdbd, tools: dict[str, Path]) -> AndroidProfiler:
        return opened(device, tools, "ncnn")


def test_rows_say_what_a_sample_is_and_nothing_stays_on_the_device(
    device: FakeAdbd, tools: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "table.jsonl"
    plan = [Planned(convolution(channels), OP) for channels in (8, 16, 32)]
    with opened(device, tools, "onnxruntime") as profiler:
        assert profiler.device == f"adb://{device.serial}"
        for _ in fill(path, "three", plan, profiler, QUICK, extensions=0):
            pass
        (folder,) = left_behind(device)
        assert folder.startswith("unas-hw-")
    assert left_behind(device) == []
    table = LatencyTable.load(path)
    assert len(table.measurements) == 4  # and the sentinel
    for planned in plan:
        row = table.rows[planned.workload.key]
        assert row.details["tool"] == "onnxruntime_perf_test" and row.details["statistic"] == "samples"
        assert android.LEAST_RUNS <= row.calls <= android.MOST_RUNS
    assert table.header["fingerprint"] == {"kind": "android", "name": "Fake 1", "arch": "arm64-v8a", "cores": 2}
    environment = table.sessions[0]["environment"]
    assert (environment["os"], environment["governor"]) == ("Android 13", "schedutil")
    assert environment["temperature_c"] == 41.5 and environment["serial"] == device.serial
    assert environment["cool_downs"]["waits"] == 0


def test_a_tflite_file_is_timed_by_litert_s_tool(device: FakeAdbd, tools: dict[str, Path]) -> None:
    workload = convolution(24)
    with opened(device, tools, "litert") as profiler:
        assert profiler.runtime == "litert"
        profiler.load_artifact(workload, DATA / "block-float32.tflite", QUICK)
        assert profiler.time_block(workload.key) > 0
        details = profiler.details(workload.key)
        assert (details["tool"], details["statistic"], details["resolution_ms"]) == ("benchmark_model", "mean", 0.001)
        assert details["peak_memory_bytes"] == int(12.5 * 2**20)
    assert left_behind(device) == []


def test_the_fastest_cores_are_used_where_a_process_can_be_bound(device: FakeAdbd, tools: dict[str, Path]) -> None:
    calls = device.root / "calls"
    phone.script(device.root / "system/bin/taskset", f'#!/bin/sh\necho "$1 $2" >> {calls}\nshift\nexec "$@"\n')
    with opened(device, tools, "onnxruntime") as profiler:
        list(profiler.load([SMALL], QUICK))
        assert profiler.environment()["affinity"] == "2"
    first, *others = calls.read_text().splitlines()
    assert first == "2 true" and others and set(others) == {"2 sh"}


def test_without_such_a_command_it_is_timed_all_the_same(device: FakeAdbd, tools: dict[str, Path]) -> None:
    phone.script(device.root / "system/bin/taskset", "#!/bin/sh\necho 'failed to set affinity' >&2\nexit 1\n")
    with opened(device, tools, "onnxruntime") as profiler:
        list(profiler.load([SMALL], QUICK))
        assert profiler.environment()["affinity"] is None


def test_a_tool_that_lies_on_the_device_is_used_there_and_stays(device: FakeAdbd, tools: dict[str, Path]) -> None:
    there = phone.script(device.root / "data/local/tmp/perf", tools["onnxruntime"].read_text())
    entry = Booked(name="phone", adb=device.serial, tools={"onnxruntime": "/data/local/tmp/perf"})
    with AndroidProfiler(device.serial, None, 1, entry) as profiler:
        list(profiler.load([SMALL], QUICK))
    assert left_behind(device) == ["perf"]
    there.unlink()
    with pytest.raises(MissingDependencyError, match="neither a file here nor a program"), profiler:
        pass
    assert left_behind(device) == []


def test_what_is_unloaded_is_removed_at_once(device: FakeAdbd, tools: dict[str, Path]) -> None:
    with opened(device, tools, "onnxruntime") as profiler:
        list(profiler.load([SMALL, LARGE], QUICK))
        (folder,) = (device.root / "data/local/tmp").iterdir()
        assert len(list(folder.glob("*.onnx"))) == 2
        profiler.unload([SMALL.key])
        assert len(list(folder.glob("*.onnx"))) == 1


@pytest.mark.timing
def test_samples_wait_for_a_hot_device_but_not_for_ever(
    device: FakeAdbd, tools: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("LOOK_S", 0.02), ("COOL_S", 0.1), ("COOL_TOTAL_S", 0.25)):
        monkeypatch.setattr(android, name, value)
    (device.root / "sys/class/thermal/thermal_zone0/temp").write_text("63000\n")
    with opened(device, tools, "onnxruntime") as profiler:
        profiler.measure_all([SMALL], replace(QUICK, min_rounds=4, max_rounds=4))
        waited = profiler.environment()["cool_downs"]
    assert waited["waits"] == waited["not_reached"] and 2 <= waited["waits"] <= 4
    assert waited["hottest_c"] == 63 and 0.25 <= waited["waited_s"] < 2


def test_energy_windows_are_one_run_of_the_tool(device: FakeAdbd, tools: dict[str, Path]) -> None:
    with opened(device, tools, "onnxruntime") as profiler:
        profiler.power_command = "echo 2.0W"
        list(profiler.load([LARGE], QUICK))
        one_ms = profiler.time_block(LARGE.key) * 1e3 / profiler._loaded[LARGE.key]
        with profiler.meter() as meter:
            reading = profiler.energy(LARGE.key, meter, seconds=0.3, idle_w=0.0)
    assert 0.3 < reading.calls * one_ms / 300 < 3
    assert reading.energy_mj == pytest.approx(2000 * reading.window_s / reading.calls, rel=0.05)


def test_a_device_that_is_lost_keeps_the_table_and_the_same_call_goes_on(
    device: FakeAdbd, tools: dict[str, Path], client: str, tmp_path: Path
) -> None:
    path, rule = tmp_path / "table.jsonl", replace(QUICK, min_rounds=4, max_rounds=4)
    plan = [Planned(SMALL, OP), Planned(LARGE, OP)]

    def until_it_is_lost() -> None:
        with opened(device, tools, "onnxruntime") as profiler:
            for step in fill(path, "two", plan, profiler, rule, extensions=0):
                if step.stage == "measure" and step.done == 3:
                    device.kill()

    with pytest.raises(DeviceLostError, match="went away"):
        until_it_is_lost()
    assert len(LatencyTable.load(path).rows) == 3
    with FakeAdbd(phone.android(tmp_path / "again")) as again:
        phone.adb(client, "connect", again.serial)
        with opened(again, tools, "onnxruntime") as profiler:  # the same kind of phone by another cable
            for _ in fill(path, "two", plan, profiler, rule, extensions=0):
                pass
        phone.adb(client, "disconnect", again.serial)
        assert left_behind(again) == []
    assert len(LatencyTable.load(path).sessions) == 2


def test_a_cable_that_is_pulled_in_a_run_of_the_tool_is_a_lost_device(device: FakeAdbd, tmp_path: Path) -> None:
    slow = phone.script(tmp_path / "slow", "#!/bin/sh\nsleep 30\n")
    profiler = opened(device, {"onnxruntime": slow}, "onnxruntime")

    def pull_the_cable() -> None:
        while not any(path.suffix == ".onnx" for path in device.root.glob("data/local/tmp/*/*")):
            pass
        device.wait_until_busy()
        device.kill()

    thread = threading.Thread(target=pull_the_cable)
    thread.start()
    with pytest.raises(DeviceLostError), profiler:
        list(profiler.load([SMALL], QUICK))
    thread.join()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\necho STARTING; echo 'Load model failed: bad magic'; echo bye; exit 1\n", "bad magic"),
        ("#!/bin/sh\nexit 139\n", "status 139"),
        ("#!/bin/nowhere/at/all\n", "not found"),
        ("#!/bin/sh\necho fine\n", "neither its result file nor its output has a time"),
    ],
)
def test_a_tool_that_fails_is_quoted_with_the_operation(device: FakeAdbd, tmp_path: Path, text: str, said: str) -> None:
    broken = {"onnxruntime": phone.script(tmp_path / "broken", text)}
    with pytest.raises(ToolOutputError) as caught, opened(device, broken, "onnxruntime") as profiler:
        list(profiler.load([SMALL], QUICK))
    assert said in str(caught.value) and SMALL.key in str(caught.value)
    assert left_behind(device) == []


def test_a_time_below_the_tool_s_last_digit_is_half_of_it(device: FakeAdbd, tmp_path: Path) -> None:
    coarse = phone.script(tmp_path / "coarse", "#!/bin/sh\necho 'm  min = 0.00  max = 0.00  avg = 0.00'\n")
    with opened(device, {"ncnn": coarse}, "ncnn") as profiler:
        (key,) = profiler.load([SMALL], QUICK)
        assert profiler.time_block(key) == pytest.approx(0.005e-3 * profiler._loaded[key])
        assert profiler.details(key)["resolution_ms"] == 0.01
        assert "float16" in profiler.details(key)["computed_in"]


def test_a_phone_without_a_tool_names_the_line_that_adds_one(device: FakeAdbd, tools: dict[str, Path]) -> None:
    with pytest.raises(MissingDependencyError) as caught:
        AndroidProfiler(device.serial, None, 1)
    assert f"unas-hw devices add phone --adb {device.serial} --litert-benchmark PATH" in caught.value.mend
    assert "arm64-v8a" in caught.value.mend and "https://" in caught.value.mend
    with pytest.raises(MissingDependencyError) as caught:
        AndroidProfiler(device.serial, "ncnn", 1, booked(device, tools, "onnxruntime"))
    assert "it has those of onnxruntime" in caught.value.what
    kept = f"--onnxruntime-benchmark {tools['onnxruntime']} --ncnn-benchmark PATH"
    assert "unas-hw devices remove phone; unas-hw devices add phone" in caught.value.mend and kept in caught.value.mend


def test_what_cannot_be_asked_of_a_phone(device: FakeAdbd, tools: dict[str, Path]) -> None:
    with pytest.raises(UnknownNameError, match="'torch' has no benchmark tool"):
        AndroidProfiler(device.serial, "torch", 1)
    with pytest.raises(MissingDeviceError, match=r"3 threads on 2 core[\s\S]*--threads 2"):
        AndroidProfiler(device.serial, None, 3, booked(device, tools, "ncnn"))
    with pytest.raises(MissingDeviceError, match="'nobody' not found"):
        AndroidProfiler("nobody", None, 1)
