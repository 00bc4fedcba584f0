"""The real adb client against a small adbd, on a server of its own."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from profilers.devices import adb
from profilers.devices.adb import STATES, Adb, Attached
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


WIRELESS = "adb-2233fd19-9mU6UL (2)._adb-tls-connect._tcp"


def saying(folder: Path, *lines: str) -> str:
    """A client that lists these, and knows none of them otherwise."""
    folder.mkdir(exist_ok=True)
    (folder / "listing").write_text("\n".join(("List of devices attached", *lines, "", "")))
    listing = shlex.quote(str(folder / "listing"))
    words = shlex.quote(str(folder / "words"))  # with which it was called otherwise
    script = f'#!/bin/sh\n[ "$1" = devices ] && exec cat {listing}\nprintf "%s\\n" "$@" > {words}\n'
    return str(phone.script(folder / "adb", script))


@pytest.mark.parametrize(
    ("line", "serial", "state", "model"),
    [
        (f"{WIRELESS}   device product:rtwo model:XT2301 device:rtwo transport_id:7", WIRELESS, "device", "XT2301"),
        ("emulator-5554  device product:sdk model:sdk device:x transport_id:1", "emulator-5554", "device", "sdk"),
        ("192.168.1.5:5555       offline transport_id:4", "192.168.1.5:5555", "offline", None),
        ("R58M12345              unauthorized usb:1-4 transport_id:3", "R58M12345", "unauthorized", None),
        ("R58M12345              authorizing usb:1-1.4 transport_id:3", "R58M12345", "authorizing", None),
        ("bd9d00cc               device 3-1 product:m model:237 device:m transport_id:2", "bd9d00cc", "device", "237"),
        ("my device (2)          device product:x", "my device (2)", "device", None),
        ("offline device         recovery usb:1-4", "offline device", "recovery", None),
        (" 0123                  device usb:1-4 model:Leading", " 0123", "device", "Leading"),
        ("R58M12345\tdevice\r", "R58M12345", "device", None),
        ("(no serial number)     sideload usb:1-4 transport_id:1", "(no serial number)", "sideload", None),
        ("????????????           no permissions usb:1-4", "????????????", "no permissions", None),
        (
            "0123456789ABCDEF       no permissions (missing udev rules? user is in the plugdev group); "
            "see [http://developer.android.com/tools/device.html] usb:1-4 transport_id:3",
            "0123456789ABCDEF", "no permissions", None,
        ),
        (
            "a b                    no permissions (user in plugdev group; are your udev rules wrong?); "
            "see [http://developer.android.com/tools/device.html",
            "a b", "no permissions", None,
        ),
        ("R58M12345              sleepy usb:1-4 transport_id:3", "R58M12345", "sleepy", None),  # of a version to come
        ("\u043a\u043e\u0442 2                  device", "\u043a\u043e\u0442 2", "device", None),
    ],
)  # fmt: skip
def test_a_line_is_read_from_its_right(tmp_path: Path, line: str, serial: str, state: str, model: str | None) -> None:
    assert Adb.devices(binary=saying(tmp_path, line)) == (Attached(serial, state, model),)


@pytest.mark.parametrize("state", STATES)
def test_every_state_is_told_apart_from_the_serial_number(state: str) -> None:
    assert adb._parse_devices(f"my {state} (2)  {state} usb:1-4\n") == (Attached(f"my {state} (2)", state, None),)


def test_what_the_client_says_of_its_server_is_no_device(tmp_path: Path) -> None:
    said = (
        "* daemon not running; starting now at tcp:5037",
        "* daemon started successfully *",
        "adb server version (40) doesn't match this client (41); killing...",
        "adb server is out of date.  killing...",
    )
    assert Adb.devices(binary=saying(tmp_path, *said)) == ()


def test_a_wireless_phone_is_the_one_that_is_ready_and_is_called_by_its_whole_name(tmp_path: Path) -> None:
    stale = "adb-2233fd19-9mU6UL._adb-tls-connect._tcp   offline transport_id:6"
    client = saying(tmp_path, stale, f"{WIRELESS}   device product:x model:y device:z transport_id:7")
    found = Adb.only(binary=client)
    assert found.serial == WIRELESS
    assert shlex.split(found.command) == ["adb", "-s", WIRELESS]
    with pytest.raises(DeviceLostError):
        found.shell("true")
    assert (tmp_path / "words").read_text().startswith(f"-s\n{WIRELESS}\nshell\n")


def test_of_several_phones_states_and_a_mend_for_each_are_named(tmp_path: Path) -> None:
    client = saying(
        tmp_path, "A 1  unauthorized usb:1-1", "B    offline", "C  no permissions (x); see [http://y] usb:1-2"
    )
    with pytest.raises(MissingDeviceError) as caught:
        Adb.only(binary=client)
    assert caught.value.what == "no attached device is ready: 'A 1' is unauthorized, B is offline, C has no permissions"
    for mend in ("unlock the screen", "adb reconnect offline", "android-sdk-platform-tools-common"):
        assert mend in caught.value.mend
    two = saying(tmp_path / "two", "A 1  device model:Pixel", "B  device", "C  unauthorized")
    with pytest.raises(MissingDeviceError) as caught:
        Adb.only(binary=two)
    assert caught.value.what == "2 devices are ready: 'A 1' (Pixel), B, C is unauthorized"
    assert caught.value.mend == "name one: --device 'adb://A 1'"


def test_two_phones_of_one_serial_number_are_told(tmp_path: Path) -> None:
    client = saying(tmp_path, "0123456789ABCDEF  device usb:1-1", "0123456789ABCDEF  device usb:1-2")
    with pytest.raises(MissingDeviceError, match=r"2 devices are ready[\s\S]*unplug all but one"):
        Adb.only(binary=client)
    client = str(phone.script(tmp_path / "adb", "#!/bin/sh\necho 'adb: more than one device/emulator' >&2\nexit 1\n"))
    with pytest.raises(MissingDeviceError, match=r"0123 cannot be used: more than one device[\s\S]*unplug all but one"):
        Adb("0123", binary=client).shell("true")


def test_the_variable_of_adb_says_which_phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = saying(tmp_path, "A  device", " B (2)  device", "C  unauthorized")
    monkeypatch.setenv("ANDROID_SERIAL", " B (2)")
    assert Adb.only(binary=client).serial == " B (2)"
    monkeypatch.setenv("ANDROID_SERIAL", "C")
    with pytest.raises(MissingDeviceError, match=r"ready \(ANDROID_SERIAL is set\): C is unauth[\s\S]*unlock"):
        Adb.only(binary=client)
    monkeypatch.setenv("ANDROID_SERIAL", "D")
    with pytest.raises(MissingDeviceError, match=r"ANDROID_SERIAL is 'D', which is not attached[\s\S]*unset") as caught:
        Adb.only(binary=client)
    assert "A, ' B (2)', C is unauthorized" in caught.value.what
    monkeypatch.setenv("ANDROID_SERIAL", "")  # as none
    with pytest.raises(MissingDeviceError, match="2 devices are ready"):
        Adb.only(binary=client)


def test_the_variable_chooses_with_the_real_client(
    device: FakeAdbd, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeAdbd(phone.android(tmp_path / "second")) as second:
        phone.adb(server, "connect", second.serial)
        monkeypatch.setenv("ANDROID_SERIAL", second.serial)
        assert Adb(None).shell("pwd").strip() == str(tmp_path / "second")
        phone.adb(server, "disconnect", second.serial)


def test_a_client_that_hangs_or_is_no_program_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adb, "ANSWER_S", 0.05)
    with pytest.raises(MissingDeviceError, match=r"did not answer within 0\.05 s[\s\S]*adb kill-server"):
        Adb.devices(binary=str(phone.script(tmp_path / "slow", "#!/bin/sh\nexec sleep 5\n")))
    with pytest.raises(MissingDependencyError, match="Exec format error"):
        Adb.devices(binary=str(phone.script(tmp_path / "other", "\x7fELF of another machine")))
