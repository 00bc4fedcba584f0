"""An Android device by the ``adb`` client that everybody has: commands, files, and what decides how fast it runs.

Nothing here speaks adb's protocol: every call is one run of the client with ``-s SERIAL``, and the client finds its
server as always (``ANDROID_ADB_SERVER_PORT``).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profilers.errors import (
    DeviceCommandError,
    DeviceLostError,
    FileError,
    MissingDependencyError,
    MissingDeviceError,
    UnasError,
)

ANSWER_S = 30.0
"""How long a small command may take before the device counts as lost."""
PUSH_S = 600.0

_END = "unas-hw-status:"
_GONE = re.compile(
    r"device '.*' not found|device not found|no devices/emulators found|device offline|device unauthorized"
    r"|device still \w+|no permissions|insufficient permissions|more than one device",
)
STATES = (
    "device", "offline", "unauthorized", "authorizing", "connecting", "no permissions", "recovery", "rescue",
    "sideload", "bootloader", "host", "detached", "download", "unknown",
)  # fmt: skip
"""What ``adb devices`` says that a device is; only ``device`` can be worked with."""
_FIELDS = r"((?:\s+(?:\w+:\S*|\d[\d.-]*))*)"  # usb:1-4 product:x model:y; some versions write 1-4 alone
_LINE = re.compile(rf"(.*\S)\s+({'|'.join(STATES)})(?:(?<=permissions)[ ;(].*?)??{_FIELDS}\s*")
_OTHER_LINE = re.compile(rf"(.*\S)\s+([^\s:]+){_FIELDS}\s+transport_id:\d+\s*")
"""The serial number may have blanks, states and parentheses in it: the last state with nothing but fields after it is
the state, or, of versions to come, the last word before them."""
_NOT_DEGREES = re.compile(r"vbat|ibat|bcl|ocv|^soc$|-lvl|-step$", re.IGNORECASE)
"""Zones that Qualcomm's kernels file under thermal although they count millivolts, milliamperes or per cent."""

_MENDS = {
    "unauthorized": "unlock the screen and allow USB debugging for this computer",
    "authorizing": "unlock the screen and allow USB debugging for this computer",
    "offline": "unplug it and plug it in again, or run: adb reconnect offline",
    "connecting": "wait a moment, then see: adb devices",
    "permissions": "apt-get install android-sdk-platform-tools-common, plug it in again, then: adb kill-server",
    "recovery": "start Android on it: adb reboot",
    "rescue": "start Android on it: adb reboot",
    "sideload": "start Android on it: adb reboot",
    "bootloader": "start Android on it: fastboot reboot",
    "more than one": "unplug all but one of those with this serial number",
}
SERIAL = "ANDROID_SERIAL"
"""The variable that names a device to adb where no command line does."""


@dataclass(frozen=True)
class Attached:
    """One line of ``adb devices``; only the state ``device`` can be worked with."""

    serial: str
    state: str
    model: str | None

    @property
    def how(self) -> str:
        """As the end of a sentence about it."""
        return f"{'has' if self.state.startswith('no ') else 'is'} {self.state}"

    def __str__(self) -> str:
        how = "" if self.state == "device" else f" {self.how}"
        return f"{shlex.quote(self.serial)}{how}" + (f" ({self.model})" if self.model else "")


@dataclass(frozen=True)
class Core:
    """A processor core; without frequency scaling its highest clock is not known."""

    index: int
    max_khz: int | None
    governor: str | None


@dataclass(frozen=True)
class ThermalZone:
    """A sensor and what it says."""

    name: str
    temperature_c: float


@dataclass(frozen=True)
class CoolDown:
    """How a wait for a cooler device ended; ``hottest`` is None where no sensor can be read."""

    waited_s: float
    hottest: ThermalZone | None
    reached: bool


@dataclass(frozen=True)
class AndroidFacts:
    """What a measurement has to be filed under."""

    model: str
    abi: str
    cores: tuple[Core, ...]
    zones: tuple[ThermalZone, ...]

    @property
    def governors(self) -> tuple[str, ...]:
        return tuple(sorted({core.governor for core in self.cores if core.governor}))

    def mask(self, count: int) -> str:
        """The mask for ``taskset`` that holds the ``count`` fastest cores, in hexadecimal as Android's wants it."""
        if not 1 <= count <= len(self.cores):
            raise MissingDeviceError(
                f"{self.model} has {len(self.cores)} cores and cannot run on {count}",
                mend=f"ask for 1 to {len(self.cores)} threads",
            )
        fastest_first = sorted(self.cores, key=lambda core: (-(core.max_khz or 0), core.index))
        return f"{sum(1 << core.index for core in fastest_first[:count]):x}"


class Adb:
    """One device behind the client.

    Args:
        serial: As ``adb devices`` shows it; None for the only one there is, looked up at the first call.
        binary: The client.
    """

    def __init__(self, serial: str | None, *, binary: str = "adb") -> None:
        self._serial = serial
        self._binary = binary
        self._reached = False  # whether it ever answered: the same refusal means "missing" before and "lost" after

    @staticmethod
    def devices(*, binary: str = "adb") -> tuple[Attached, ...]:
        """Everything that is attached, whatever its state."""
        try:
            done = _client([binary, "devices", "-l"], ANSWER_S)
        except subprocess.TimeoutExpired:
            raise MissingDeviceError(f"adb did not answer within {ANSWER_S:g} s", mend="run: adb kill-server") from None
        if done.returncode != 0:
            raise MissingDeviceError(f"adb cannot list devices: {_last(done.stderr)}", mend="run: adb kill-server")
        return _parse_devices(done.stdout)

    @classmethod
    def only(cls, *, binary: str = "adb") -> Adb:
        """The device that ``ANDROID_SERIAL`` names, or the one that is attached and ready."""
        found, named = cls.devices(binary=binary), os.environ.get(SERIAL)
        meant = [device for device in found if named in (None, "", device.serial)]
        ready = [device for device in meant if device.state == "device"]
        if len(ready) == 1:
            return cls(ready[0].serial, binary=binary)
        names, by = ", ".join(map(str, meant or found)), f" ({SERIAL} is set)" if named else ""
        if ready:
            twice = max(Counter(device.serial for device in ready).values()) > 1
            raise MissingDeviceError(
                f"{len(ready)} devices are ready{by}: {names}",
                mend=_MENDS["more than one"] if twice else f"name one: --device {address(ready[0].serial)}",
            )
        if meant:
            mends = dict.fromkeys(_mend_for(device.state) for device in meant)
            raise MissingDeviceError(f"no attached device is ready{by}: {names}", mend="; ".join(mends))
        if named:
            raise MissingDeviceError(
                f"{SERIAL} is {named!r}, which is not attached" + (f"; attached: {names}" if names else ""),
                mend=f"attach it, or: unset {SERIAL}",
            )
        raise MissingDeviceError(
            "no Android device is attached",
            mend="plug one in with USB debugging allowed, or run: adb connect HOST:PORT; then: adb devices",
        )

    @property
    def serial(self) -> str:
        if self._serial is None:
            self._serial = Adb.only(binary=self._binary).serial
        return self._serial

    @property
    def command(self) -> str:
        """As one would type it."""
        return f"adb -s {shlex.quote(self.serial)}"

    def shell(self, command: str, *, timeout_s: float = ANSWER_S) -> str:
        """Standard output of a command; ``2>&1`` is the command's own business.

        The exit status travels in the output: Android before 7 has no other way, and without it a connection that
        breaks cannot be told from a command that ended.
        """
        done = self._run(["shell", f'({command}\n); echo "\n{_END}$?"'], timeout_s)
        text, mark, status = done.stdout.replace("\r\n", "\n").rpartition(f"\n{_END}")
        if not mark or not status.strip().isdigit():
            refused = _GONE.search(done.stderr)
            if refused:
                raise self._gone(refused[0])
            self._reached = True  # no refusal: the command was on its way when the connection broke
            raise self._gone(_last(done.stderr) or "the connection broke")
        self._reached = True
        if int(status) != 0:
            raise DeviceCommandError(
                f"{_shorten(command)!r} on {self.serial} ended with status {int(status)}: "
                f"{_last(done.stderr) or _last(text) or 'it said nothing'}",
                mend=f"try it by hand: {self.command} shell",
                status=int(status),
            )
        return text

    def push(self, local: Path, remote: str) -> None:
        """Copies a file there."""
        if not local.exists():
            raise FileError(f"{local}: there is no such file", mend="check the path")
        done = self._run(["push", str(local), remote], PUSH_S)
        if done.returncode == 0:
            self._reached = True
            return
        said = _last(done.stderr) or _last(done.stdout)  # some versions complain on the one, some on the other
        refused = _GONE.search(said)
        if refused:
            raise self._gone(refused[0])
        self._reached = True
        # The client's words for a broken copy differ by version and moment; whether the device is still there does not.
        if not any(
            found.serial == self.serial and found.state == "device" for found in self.devices(binary=self._binary)
        ):
            raise self._gone(said)
        raise DeviceCommandError(
            f"adb push between this computer and {self.serial} failed: {said}",
            mend=f"check the paths, and the free space: {self.command} shell df /data/local/tmp",
            status=done.returncode,
        )

    def facts(self) -> AndroidFacts:
        """Model, instruction set, cores and temperatures."""
        model, _, abi = self.shell("getprop ro.product.model; getprop ro.product.cpu.abi").strip().partition("\n")
        return AndroidFacts(model=model.strip(), abi=abi.strip(), cores=self.cores(), zones=self.thermal_zones())

    def cores(self) -> tuple[Core, ...]:
        """Every core of the machine, also those that are asleep."""
        lines = self.shell(
            "for c in /sys/devices/system/cpu/cpu[0-9]*; do "
            'echo "${c##*/cpu} $(cat $c/cpufreq/cpuinfo_max_freq 2>/dev/null || echo -)'
            ' $(cat $c/cpufreq/scaling_governor 2>/dev/null || echo -)"; done'
        ).splitlines()
        words = [line.split() for line in lines]
        cores = [
            Core(int(index), int(khz) if khz.isdigit() else None, None if governor == "-" else governor)
            for index, khz, governor in (word for word in words if len(word) == 3 and word[0].isdigit())
        ]
        if not cores:
            raise DeviceCommandError(
                f"{self.serial} does not show its cores: {_shorten(' '.join(lines))!r}",
                mend=f"look: {self.command} shell ls /sys/devices/system/cpu",
                status=0,
            )
        return tuple(sorted(cores, key=lambda core: core.index))

    def thermal_zones(self) -> tuple[ThermalZone, ...]:
        """The sensors that can be read and say something believable."""
        lines = self.shell(
            "for z in /sys/class/thermal/thermal_zone*; do "
            'echo "$(cat $z/temp 2>/dev/null || echo -) $(cat $z/type 2>/dev/null || echo -)"; done'
        ).splitlines()
        zones = []
        for line in lines:
            number, _, name = line.strip().partition(" ")
            celsius = _celsius(number)
            if celsius is not None and not _NOT_DEGREES.search(name):
                zones.append(ThermalZone(name, celsius))
        return tuple(zones)

    def cool_down(self, limit_c: float, timeout_s: float, *, poll_s: float = 5.0) -> CoolDown:
        """Waits until the hottest sensor is at most ``limit_c``, but no longer than ``timeout_s``."""
        start = time.monotonic()
        while True:
            hottest = max(self.thermal_zones(), key=lambda zone: zone.temperature_c, default=None)
            waited_s = time.monotonic() - start
            reached = hottest is not None and hottest.temperature_c <= limit_c
            if hottest is None or reached or waited_s >= timeout_s:
                return CoolDown(waited_s, hottest, reached)
            time.sleep(min(poll_s, timeout_s - waited_s))

    def _run(self, words: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        try:
            return _client([self._binary, "-s", self.serial, *words], timeout_s)
        except subprocess.TimeoutExpired:
            raise DeviceLostError(
                f"{self.serial} did not finish {_shorten(' '.join(words))!r} within {timeout_s:g} s",
                mend="see whether it still answers: adb devices; then run the same command again",
            ) from None

    def _gone(self, said: str) -> UnasError:
        if self._reached:
            return DeviceLostError(
                f"{self.serial} went away: {said}", mend="attach it again (adb devices) and run the same command again"
            )
        return MissingDeviceError(f"{self.serial} cannot be used: {said}", mend=_mend_for(said))


def _client(words: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    # Whatever the locale; bytes that are no UTF-8 are kept, not raised: a tool, and a serial number, may be anything.
    told: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}
    encoded = [word.encode(**told) for word in words]
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, **told}
    try:
        return subprocess.run(encoded, timeout=timeout_s, check=False, **options)
    except OSError as error:  # not there, not to be run, or of another machine
        raise MissingDependencyError(
            f"the Android debug bridge is not installed: {words[0]!r} cannot be run ({error.strerror})",
            mend="apt-get install adb",
        ) from None


def _parse_devices(listing: str) -> tuple[Attached, ...]:
    found = []
    for line in listing.split("\n"):
        read = _LINE.fullmatch(line) or _OTHER_LINE.fullmatch(line)
        if read is not None:  # else the heading, or what the client says about its server
            serial, state, fields = read.groups()
            model = re.search(r"\bmodel:(\S+)", fields)
            found.append(Attached(serial, state, model[1] if model else None))
    return tuple(found)


def address(serial: str) -> str:
    """As ``--device`` takes it, quoted for the shell where it has to be."""
    return shlex.quote(f"adb://{serial}")


def _celsius(number: str) -> float | None:
    """Degrees of a sensor that speaks thousandths (nearly all), tenths (some batteries) or degrees."""
    try:
        value = int(number)
    except ValueError:
        return None
    celsius = value / 1000 if abs(value) >= 1000 else value / 10 if abs(value) >= 150 else float(value)
    # Sensors that are switched off say 0 or -274.
    return celsius if -40 < celsius < 150 and value != 0 else None


def _mend_for(said: str) -> str:
    return next((mend for word, mend in _MENDS.items() if word in said), "see what is attached: adb devices")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
