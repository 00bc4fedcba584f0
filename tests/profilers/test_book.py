"""The book of devices: what is written is read, what is damaged is said, and a name opens what it stands for."""

from __future__ import annotations

import json
import re
import shlex
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from latency_tables.home import default_path
from latency_tables.published import open_device
from profilers.devices import reach
from profilers.devices.android import AndroidProfiler
from profilers.devices.book import Booked, add, book_path, check_name, find_serial, read_book, remove
from profilers.devices.booking import book
from profilers.errors import DeviceNameError, FileError, UnknownNameError
from profilers.power import CommandMeter
from profilers.registry import open_profiler, reachable
from tests.profilers import phone, sshd
from tests.profilers.adbd import FakeAdbd

PHONE = Booked(name="phone", adb="R58M12345", tools={"litert": "/opt/benchmark_model"}, power_command="echo 1W")
BOARD = Booked(name="board", ssh="ssh://pi@raspberrypi.local?runtime=ncnn")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNAS_HW_HOME", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[FakeAdbd]:
    with (
        phone.adb_server(tmp_path / "home") as client,
        FakeAdbd(phone.android(tmp_path / "device")) as fake,
    ):
        phone.adb(client, "connect", fake.serial)
        yield fake
        phone.adb(client, "disconnect", fake.serial)


def test_what_is_added_is_read_back_until_it_is_removed() -> None:
    assert read_book() == {}
    add(PHONE)
    add(BOARD)
    assert read_book() == {"phone": PHONE, "board": BOARD}
    assert find_serial("R58M12345") == PHONE and find_serial("other") is None
    assert json.loads(book_path().read_text())["devices"]["phone"] == {
        "adb": "R58M12345",
        "litert_benchmark": "/opt/benchmark_model",
        "power_command": "echo 1W",
    }
    assert remove("phone") == PHONE
    assert read_book() == {"board": BOARD}
    with pytest.raises(UnknownNameError, match=r"'phone'[\s\S]*choose one of board"):
        remove("phone")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{not json", "line 1"),
        ("[]", "no object 'devices'"),
        ('{"devices": {"x": 3}}', "'x' is 3"),
        ('{"devices": {"x": {}}}', "needs one of 'adb' and 'ssh'"),
        ('{"devices": {"x": {"adb": "1", "ssh": "ssh://y"}}}', "needs one of 'adb' and 'ssh'"),
        ('{"devices": {"x": {"adb": 5}}}', "'adb' of 'x' is 5"),
        ('{"devices": {"x": {"adb": "1", "tflite": "/y"}}}', "'tflite'"),
    ],
)
def test_a_damaged_book_names_the_file_and_is_left_alone(home: Path, content: str, said: str) -> None:
    home.mkdir()
    book_path().write_text(content)
    with pytest.raises(FileError) as caught:
        add(PHONE)
    assert said in caught.value.what and str(book_path()) in caught.value.what
    assert caught.value.mend.endswith(f"rm {book_path()}")
    assert book_path().read_text() == content
    assert open_profiler("sim:phone").device == "sim:phone"  # what needs no book goes on without it


@pytest.mark.parametrize("name", ["cpu", "gpu", "adb", "sim", "", "a b", "sim:phone", "../x", "-x"])
def test_names_that_mean_something_else_or_nothing_are_refused(name: str) -> None:
    with pytest.raises(DeviceNameError):
        check_name(name, {})


def test_a_name_that_is_taken_names_the_command_that_frees_it() -> None:
    with pytest.raises(DeviceNameError, match=r"R58M12345 already[\s\S]*unas-hw devices remove phone"):
        check_name("phone", {"phone": PHONE})


def test_names_of_the_book_are_among_those_that_an_unknown_one_is_answered_with() -> None:
    add(BOARD)
    with pytest.raises(UnknownNameError, match="did you mean 'board'"):
        open_profiler("bord")
    with pytest.raises(UnknownNameError, match=r"choose one of .*board"):
        open_device("toaster")


def test_a_phone_is_opened_by_name_by_serial_number_or_as_the_only_one(device: FakeAdbd, tmp_path: Path) -> None:
    tool = phone.script(tmp_path / "tool", "#!/bin/sh\n")
    tools = {"onnxruntime": str(tool)}
    add(Booked(name="pixel1", adb=device.serial, tools=tools, power_command="echo 1W"))  # as a published table's
    for name, stored in (
        ("pixel1", "pixel1"),
        (f"adb://{device.serial}", f"adb://{device.serial}"),
        ("adb", f"adb://{device.serial}"),
    ):
        profiler = open_device(name)
        assert isinstance(profiler, AndroidProfiler)
        assert (profiler.device, profiler.runtime, profiler.serial) == (stored, "onnxruntime", device.serial)
        assert isinstance(profiler.meter(), CommandMeter)
    assert default_path("x", "pixel1", "onnxruntime", 1).name == "pixel1-onnxruntime-1t-x.jsonl"


def test_two_names_of_one_phone_have_their_own_tools(device: FakeAdbd, tmp_path: Path) -> None:
    tool = str(phone.script(tmp_path / "tool", "#!/bin/sh\n"))
    for runtime in ("onnxruntime", "ncnn"):
        add(Booked(name=f"with-{runtime}", adb=device.serial, tools={runtime: tool}))
    assert open_profiler("with-ncnn").runtime == "ncnn"
    assert open_profiler("with-onnxruntime").runtime == "onnxruntime"


@pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())
def test_a_host_is_opened_by_name_and_listed_with_what_it_has(tmp_path: Path) -> None:
    with sshd.running(tmp_path) as server:
        add(Booked(name="board", ssh=server.address()))
        assert open_profiler("board").device == "board"
        (found,) = reach.reach()()
    assert found["device"] == "board" and "onnxruntime" in found["runtimes"] and not found["missing"]


def test_a_host_that_does_not_answer_costs_no_more_than_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "CONNECT_S", 0.5)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        add(Booked(name="silent", ssh=f"ssh://me@127.0.0.1:{port}"))
        add(Booked(name="closed", ssh=f"ssh://me@127.0.0.1:{sshd.free_port()}"))
        begin = time.monotonic()
        found = {each["device"]: each for each in reach.reach()()}
        assert time.monotonic() - begin < reach.PATIENCE_S + 0.5
    assert "cannot be reached" in found["silent"]["missing"] and not found["silent"]["runtimes"]
    assert "cannot be reached" in found["closed"]["missing"]


def test_an_answer_that_comes_too_late_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "PATIENCE_S", 0.1)
    monkeypatch.setattr(reach, "_describe", lambda entry: time.sleep(0.5))
    monkeypatch.setattr("shutil.which", lambda _: None)
    add(BOARD)
    (found,) = reach.reach()()
    assert found["missing"] == "no answer within 0.1 s"


def test_phones_are_listed_with_their_state(device: FakeAdbd, tmp_path: Path) -> None:
    stranger = {each["device"]: each for each in reachable()}[f"adb://{device.serial}"]
    assert stranger["name"] == "Fake_1"
    assert f"unas-hw devices add phone --adb {device.serial} --litert-benchmark PATH" in stranger["missing"]
    add(Booked(name="mine", adb=device.serial, tools={"ncnn": "/opt/benchncnn"}))
    add(PHONE)
    with FakeAdbd(tmp_path / "locked", authorized=False) as locked:
        phone.adb("adb", "connect", locked.serial)
        found = {each["device"]: each for each in reach.reach()()}
        phone.adb("adb", "disconnect", locked.serial)
    assert (found["mine"]["runtimes"], found["mine"]["missing"]) == (["ncnn"], "")
    assert (found["phone"]["runtimes"], found["phone"]["missing"]) == ([], "R58M12345 is not attached")
    assert found[f"adb://{locked.serial}"]["missing"] == "it is unauthorized"
    assert f"adb://{device.serial}" not in found


def test_phones_of_the_book_miss_the_client_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    add(PHONE)
    (found,) = reach.reach()()
    assert "the Android debug bridge is not installed" in found["missing"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"adb": ""},
        {"adb": "  "},
        {"adb": "a\nb"},
        {"ssh": ""},
        {"ssh": "ssh://a\x1b[31m"},
        {"adb": "1", "power_command": " "},
    ],
)
def test_what_would_damage_the_book_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DeviceNameError):
        book(Booked(name="phone", **wrong))
    assert not book_path().exists()


def test_a_wireless_phone_is_listed_with_a_line_that_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serial = "adb-2233fd19-9mU6UL (2)._adb-tls-connect._tcp"
    lines = (f"{serial}   device model:X", "0123  device usb:1-1", "0123  device usb:1-2")
    phone.script(tmp_path / "adb", "#!/bin/sh\ncat <<END\n" + "\n".join(lines) + "\nEND\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    add(Booked(name="mine", adb="0123", tools={"ncnn": "/opt/benchncnn"}))
    found = {each["device"]: each for each in reach.reach()()}
    words = shlex.split(found[f"adb://{serial}"]["missing"])
    assert words[words.index("--adb") + 1] == serial
    assert found["mine"]["missing"] == "0123 is 2 of one number"


def test_tables_of_phones_with_like_names_are_not_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"adb://{serial}" for serial in ("a (2)", "a_2_", "a [2]", " a_2_")]
    paths = {default_path("x", name, "litert", 1) for name in names}
    assert len(paths) == len(names)
    assert all(re.fullmatch(r"[\w.@=-]+", path.name) for path in paths)
    assert (
        default_path("x", "adb://127.0.0.1:5555", "litert", 1).name == "adb_127.0.0.1_5555-litert-1t-x.jsonl"
    )  # as ever
