"""`devices add`, `remove` and the list; a phone profiled by its name; `doctor`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_tables import collect
from latency_tables.table import LatencyTable
from profilers import doctor, measurement
from profilers.devices import android
from profilers.doctor import Finding
from tests.cli.conftest import TINY, Run, read
from tests.cli.test_bad_input import refused
from tests.profilers import phone
from tests.profilers.adbd import FakeAdbd


@pytest.fixture
def client(folder: Path) -> Iterator[str]:
    with phone.adb_server(folder / "adb") as started:
        yield started


@pytest.fixture
def device(client: str, folder: Path) -> Iterator[FakeAdbd]:
    with FakeAdbd(phone.android(folder / "device")) as fake:
        phone.adb(client, "connect", fake.serial)
        yield fake
        phone.adb(client, "disconnect", fake.serial)


@pytest.fixture
def tool(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(android, "BLOCK_S", 0.002)
    monkeypatch.setattr(collect, "MAX_NOISE_FLOOR", 1e3)  # samples this short are noisy, and would be taken again
    monkeypatch.setattr(measurement, "UNSTABLE", 1e3)
    with phone.tools(folder) as made:
        yield str(made["onnxruntime"])


@pytest.mark.slow
def test_a_phone_is_added_listed_profiled_by_its_name_and_forgotten(
    unas_hw: Run, device: FakeAdbd, tool: str, images: str
) -> None:
    added = read(unas_hw("devices", "add", "mine", "--adb", device.serial, "--onnxruntime-benchmark", tool, "--json"))
    assert added == {"device": "mine", "adb": device.serial, "onnxruntime_benchmark": str(Path(tool).resolve())}
    listed = {each["device"]: each for each in read(unas_hw("devices", "--json"))}
    assert listed["mine"]["runtimes"] == ["onnxruntime"] and listed["mine"]["name"] == "Fake_1"
    assert "mine " in unas_hw("devices").stdout

    words = ("profile", "--device", "mine", *TINY, "--dataset", images, "--networks", "0")
    found = read(unas_hw(*words, "--rounds", "4", "--json"))
    assert (found["device"], found["runtime"]) == ("mine", "onnxruntime")
    assert found["fingerprint"] == {"kind": "android", "name": "Fake 1", "arch": "arm64-v8a", "cores": 2}
    assert found["rows_measured"] > 10 and Path(found["path"]).name.startswith("mine-onnxruntime-1t-")
    shown = read(unas_hw("tables", "show", "--device", "mine", "--json"))
    assert min(row["samples"] for row in shown["rows"] if row["role"] == "op") >= 4
    assert [path.name for path in (device.root / "data/local/tmp").iterdir()] == []

    assert "is forgotten" in unas_hw("devices", "remove", "mine").stdout
    refused(unas_hw("devices", "remove", "mine"), 2, "no device is booked as 'mine'")
    refused(unas_hw(*words), 2, "no device is called 'mine'")


@pytest.mark.slow
def test_a_phone_that_is_lost_ends_with_exit_code_1_and_its_table_is_kept(
    unas_hw: Run, device: FakeAdbd, tool: str, folder: Path
) -> None:
    unas_hw("devices", "add", "mine", "--adb", device.serial, "--onnxruntime-benchmark", tool)

    def pull_the_cable() -> None:
        end_s = time.monotonic() + 120
        while time.monotonic() < end_s:
            tables = list(folder.glob("home/tables/*.jsonl"))
            if tables and tables[0].read_text().count('"record":"sample"') > 5:
                break
            time.sleep(0.02)
        device.kill()

    thread = threading.Thread(target=pull_the_cable)
    thread.start()
    words = ("--device", "adb", "--space", "mbconv-small", "--networks", "0", "--time-budget", "3s")
    result = unas_hw("profile", *words, "--rounds", "4")
    thread.join()
    refused(result, 1, "went away", "run the same command again")
    (path,) = folder.glob("home/tables/*.jsonl")
    assert sum(len(samples) for samples in LatencyTable.load(path).samples.values()) > 5
    assert LatencyTable.load(path).header["device"] == f"adb://{device.serial}"


def test_what_cannot_be_added_is_refused_and_nothing_is_written(unas_hw: Run, device: FakeAdbd, folder: Path) -> None:
    adb = ("--adb", device.serial)
    tool = str(phone.script(folder / "tool", "#!/bin/sh\n"))
    refused(unas_hw("devices", "add", "pixel1", *adb), 2, "published table's device", "my-pixel1")
    for taken in ("cpu", "gpu"):
        refused(unas_hw("devices", "add", taken, *adb), 2, f"{taken!r} is the name of another device")
    refused(unas_hw("devices", "add", "sim:phone", *adb), 2, "no name for a device")
    refused(unas_hw("devices", "add", "x", *adb, "--litert-benchmark", "nowhere"), 1, "nowhere: there is no such file")
    words = ("--litert-benchmark", "/data/local/tmp/nowhere")
    refused(unas_hw("devices", "add", "x", *adb, *words), 1, "no such program on", "shell ls -l /data/local/tmp")
    refused(unas_hw("devices", "add", "x", "--adb", "nobody", *words), 1, "no device to look on")
    refused(unas_hw("devices", "add", "x", "--ssh", "ssh://"), 2, "no address of a device")
    for misused in ((), (*adb, "--ssh", "ssh://y"), ("--ssh", "ssh://y", "--ncnn-benchmark", tool)):
        assert unas_hw("devices", "add", "x", *misused).exit_code == 2
    assert not (folder / "home/devices.json").exists()


def test_a_phone_that_is_not_attached_is_added_with_a_note(unas_hw: Run, client: str, folder: Path) -> None:
    tool = str(phone.script(folder / "tool", "#!/bin/sh\n"))
    result = unas_hw("devices", "add", "mine", "--adb", "R58M12345", "--litert-benchmark", tool)
    assert result.exit_code == 0 and "use" in result.stdout
    assert "note: the device was not looked at: R58M12345 cannot be used" in result.stderr
    refused(unas_hw("devices", "add", "mine", "--adb", "other"), 2, "is adb://R58M12345 already")
    refused(unas_hw("profile", "--device", "mine"), 1, "R58M12345")
    refused(unas_hw("profile", "--device", "adb://nobody"), 1, "nobody", "adb devices")
    refused(unas_hw("profile", "--device", "adb"), 1, "no Android device is attached")


def test_a_phone_without_a_tool_names_the_line_that_adds_one(unas_hw: Run, device: FakeAdbd) -> None:
    line = f"unas-hw devices add phone --adb {device.serial} --litert-benchmark PATH"
    refused(unas_hw("profile", "--device", "adb"), 1, "no benchmark tool of litert", line)
    assert line in unas_hw("devices").stdout


def test_a_host_is_added_by_its_address(unas_hw: Run) -> None:
    words = ("--ssh", "ssh://pi@raspberrypi.local", "--power-command", "echo 3W")
    added = read(unas_hw("devices", "add", "board", *words, "--json"))
    assert added == {"device": "board", "ssh": "ssh://pi@raspberrypi.local", "power_command": "echo 3W"}


def test_a_damaged_book_is_named_with_the_mend(unas_hw: Run, folder: Path) -> None:
    (folder / "home").mkdir()
    (folder / "home/devices.json").write_text("{")
    for words in (("devices",), ("devices", "remove", "x"), ("profile", "--device", "x")):
        refused(unas_hw(*words), 1, "devices.json cannot be read", "begin anew: rm")


def test_the_doctor_ends_well_where_this_cpu_can_be_profiled(unas_hw: Run) -> None:
    result = unas_hw("doctor", "--json")
    found = read(result)
    assert result.exit_code == 0 and found["ready"]
    assert {"section", "name", "what", "mend"} == set(found["findings"][0])


def test_the_doctor_ends_with_1_where_it_cannot(unas_hw: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("missing", "cpu", "it broke", "mend it")])
    result = unas_hw("doctor")
    assert result.exit_code == 1
    assert result.stdout.split("\n")[2:5] == ["is missing:", "  cpu  it broke", "       mend: mend it"]
