"""The real adb client against a small adbd, on a server of its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from profilers.devices.adb import Adb
from profilers.errors import DeviceCommandError, DeviceLostError, FileError, MissingDependencyError, MissingDeviceError
from tests.profilers import phone
from tests.profilers.adbd import FakeAdbd

CLUSTERS = {0: 1_800_000, 1: 1_800_000, 2: 2_400_000, 3: 3_000_000}
ZONES = (("cpu-0-0", "41500"), ("battery", "305"), ("off", "-274000"), ("vbat", "4200"), ("gpu", "52000"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with phone.adb_server(tmp_path / "home") as client:
        yield client


@pytest.fixture
def device(server: str, tmp_path: Path) -> Iterator[FakeAdbd]:
    with FakeAdbd(phone.android(tmp_path / "device", list(CLUSTERS.values()), ZONES)) as fake:
        assert "connected to" in phone.adb(server, "connect", fake.serial)
        yield fake
        phone.adb(server, "disconnect", fake.serial)


def test_devices_are_listed_with_state_and_model(device: FakeAdbd) -> None:
    found = {one.serial: one for one in Adb.devices()}[device.serial]
    assert (found.state, found.model) == ("device", "Fake_1")
    assert Adb.only().serial == device.serial
    assert Adb(None).shell("echo hello") == "hello\n"


def test_without_a_device_the_error_says_how_to_attach_one(server: str) -> None:
    with pytest.raises(MissingDeviceError, match=r"no Android device is attached[\s\S]*adb connect"):
        Adb.only()


def test_of_several_devices_all_are_named(device: FakeAdbd, server: str, tmp_path: Path) -> None:
    with FakeAdbd(phone.android(tmp_path / "second")) as second:
        phone.adb(server, "connect", second.serial)
        with pytest.raises(MissingDeviceError) as caught:
            Adb.only()
        assert device.serial in str(caught.value) and second.serial in str(caught.value)
        assert Adb(second.serial).shell("pwd").strip() == str(tmp_path / "second")
        phone.adb(server, "disconnect", second.serial)


def test_exit_codes_and_both_streams_arrive(device: FakeAdbd) -> None:
    adb = Adb(device.serial)
    assert adb.shell("printf 'no newline'") == "no newline"
    assert adb.shell("echo out; echo err >&2") == "out\n"
    assert adb.shell("echo err 2>&1 >&2 | cat; echo 'it'\"'\"'s'").endswith("it's\n")
    assert len(adb.shell("head -c 900000 /dev/zero | tr '\\0' x")) == 900_000
    with pytest.raises(DeviceCommandError, match=r"ended with status 3: not today") as caught:
        adb.shell("echo not today >&2; exit 3")
    assert caught.value.status == 3


def test_exit_codes_arrive_from_a_device_without_the_shell_protocol(server: str, tmp_path: Path) -> None:
    with FakeAdbd(tmp_path / "old", shell_v2=False) as old:
        phone.adb(server, "connect", old.serial)
        assert Adb(old.serial).shell("echo one; echo two") == "one\ntwo\n"
        with pytest.raises(DeviceCommandError, match="status 7: why"):
            Adb(old.serial).shell("echo why; exit 7")
        phone.adb(server, "disconnect", old.serial)


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_001])
def test_files_arrive_as_they_went(device: FakeAdbd, tmp_path: Path, size: int) -> None:
    sent = tmp_path / "sent.bin"
    sent.write_bytes(os.urandom(size))
    adb = Adb(device.serial)
    adb.push(sent, "/data/local/tmp/x.bin")
    assert adb.shell("wc -c < /data/local/tmp/x.bin").strip() == str(size)
    assert adb.shell("sha256sum < /data/local/tmp/x.bin").split()[0] == hashlib.sha256(sent.read_bytes()).hexdigest()


def test_files_that_are_not_there(device: FakeAdbd, tmp_path: Path) -> None:
    adb = Adb(device.serial)
    with pytest.raises(FileError, match="no such file"):
        adb.push(tmp_path / "none", "/data/local/tmp/none")
    (tmp_path / "some").write_bytes(b"1")
    with pytest.raises(DeviceCommandError, match="adb push between"):
        adb.push(tmp_path / "some", "/nowhere/at/all")


def test_an_unknown_serial_is_a_missing_device(server: str, tmp_path: Path) -> None:
    (tmp_path / "some").write_bytes(b"1")
    with pytest.raises(MissingDeviceError, match="'nobody' not found"):
        Adb("nobody").shell("true")
    with pytest.raises(MissingDeviceError, match="'nobody' not found"):
        Adb("nobody").push(tmp_path / "some", "/data/local/tmp/some")


def test_a_device_that_does_not_trust_this_computer(server: str, tmp_path: Path) -> None:
    with FakeAdbd(tmp_path / "locked", authorized=False) as locked:
        phone.adb(server, "connect", locked.serial)
        with pytest.raises(MissingDeviceError, match=r"unauthorized[\s\S]*unlock the screen"):
            Adb(locked.serial).shell("true")
        with pytest.raises(MissingDeviceError, match=f"{locked.serial} is unauthorized"):
            Adb.only()
        phone.adb(server, "disconnect", locked.serial)


def test_a_device_that_goes_away_in_a_command_is_lost(device: FakeAdbd) -> None:
    adb = Adb(device.serial)

    def pull_the_cable() -> None:
        device.wait_until_busy()
        device.kill()

    thread = threading.Thread(target=pull_the_cable)
    thread.start()
    with pytest.raises(DeviceLostError, match="went away"):
        adb.shell("sleep 30")  # its first call: nothing but the broken connection tells it from a missing device
    thread.join()
    with pytest.raises(DeviceLostError):
        adb.shell("true")


def test_a_device_that_goes_away_in_a_copy_is_lost(device: FakeAdbd, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(8_000_000))
    device.kill_after_bytes = 2_000_000
    with pytest.raises(DeviceLostError, match="went away"):
        Adb(device.serial).push(tmp_path / "big", "/data/local/tmp/big")


def test_a_command_that_takes_too_long_is_a_lost_device(device: FakeAdbd) -> None:
    with pytest.raises(DeviceLostError, match=r"did not finish .* within 0\.5 s"):
        Adb(device.serial).shell("sleep 30", timeout_s=0.5)


def test_a_client_that_is_not_installed(tmp_path: Path) -> None:
    for call in (
        lambda: Adb("x", binary=str(tmp_path / "adb")).shell("true"),
        lambda: Adb.devices(binary="no-adb-here"),
    ):
        with pytest.raises(MissingDependencyError, match="apt-get install adb"):
            call()


def test_an_offline_device_says_so(tmp_path: Path) -> None:
    client = tmp_path / "adb"
    client.write_text("#!/bin/sh\necho 'error: device offline' >&2\nexit 1\n")
    client.chmod(0o755)
    with pytest.raises(MissingDeviceError, match=r"device offline[\s\S]*reconnect"):
        Adb("x", binary=str(client)).shell("true")


def test_facts(device: FakeAdbd) -> None:
    facts = Adb(device.serial).facts()
    assert (facts.model, facts.abi, facts.governors) == ("Fake 1", "arm64-v8a", ("schedutil",))
    assert {core.index: core.max_khz for core in facts.cores} == CLUSTERS
    assert [facts.mask(count) for count in (1, 2, 3, 4)] == ["8", "c", "d", "f"]
    assert [(zone.name, zone.temperature_c) for zone in facts.zones] == [
        ("cpu-0-0", 41.5),
        ("battery", 30.5),
        ("gpu", 52.0),
    ]
    with pytest.raises(MissingDeviceError, match="has 4 cores and cannot run on 5"):
        facts.mask(5)


def test_cores_without_a_clock_are_all_alike(device: FakeAdbd) -> None:
    for index in CLUSTERS:
        shutil.rmtree(device.root / f"sys/devices/system/cpu/cpu{index}/cpufreq")
    facts = Adb(device.serial).facts()
    assert facts.mask(2) == "3" and facts.governors == ()


def test_cooling_down_ends_when_it_is_cool_or_time_is_up(device: FakeAdbd) -> None:
    adb = Adb(device.serial)
    waited = adb.cool_down(45, 0.3, poll_s=0.05)
    assert not waited.reached and waited.hottest is not None and waited.hottest.name == "gpu"
    assert 0.3 <= waited.waited_s < 5
    (device.root / "sys/class/thermal/thermal_zone4/temp").write_text("44000\n")
    assert adb.cool_down(45, 60).reached
    shutil.rmtree(device.root / "sys/class/thermal")
    assert adb.cool_down(45, 60).hottest is None
