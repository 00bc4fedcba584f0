"""The terminal and phones: what adb lists, and names that a terminal cannot show."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from itertools import product
from unittest.mock import patch

from benchmarks.commands import PROGRAM, ROOT
from benchmarks.input_kinds.images import folder_of
from benchmarks.input_kinds.judging import Inputs
from profilers.devices import adb

SERIALS = (
    "0123456789ABCDEF", "emulator-5554", "192.168.1.5:5555", "adb-2233fd19-9mU6UL._adb-tls-connect._tcp",
    "adb-2233fd19-9mU6UL (2)._adb-tls-connect._tcp", "my device", "a b (3)", "[fe80::1]:5555",
)  # fmt: skip
STATES = {
    **{each: each for each in (
        "device", "offline", "unauthorized", "authorizing", "recovery", "sideload", "bootloader", "rescue", "host",
    )},
    "no permissions (missing udev rules? user is in the plugdev group); see [http://developer.android.com/tools]":
        "no permissions",
}  # fmt: skip
FIELDS = "product:sunfish model:Pixel_4a device:sunfish transport_id:3"
LISTING = (
    "* daemon not running; starting now at tcp:5037\n* daemon started successfully\nList of devices attached\n{}\n\n"
)
ENCODINGS = "latin-1", "ascii", "cp1252", "utf-8"


def listed(line: str) -> list[tuple[str, str]]:
    """Serial numbers and states."""
    done = subprocess.CompletedProcess([], 0, LISTING.format(line), "")
    with patch.object(adb, "_client", lambda *_: done):
        return [(device.serial, device.state) for device in adb.Adb.devices()]


def shown(encoding: str) -> bool:
    """Whether a command with classes of Cyrillic names ends without a traceback."""
    root = folder_of({".": ("собака", "b", "c", "d")})
    words = [*PROGRAM, "search", "--dataset", root, "--latency-budget", "1fs", "--device", "sim:собака"]
    place = {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=os.environ | place, capture_output=True, check=False)
    return done.returncode == 2 and b"Traceback" not in done.stderr


def terminal() -> Inputs:
    """All of them."""
    assert sys.platform != "win32", "adb is patched, but terminals are real"
    for serial, (state, short) in product(SERIALS, STATES.items()):
        for line in (f"{serial:<22} {state} {FIELDS}", f"{serial}\t{state}"):
            yield f"adb: {line[:70]!r}", partial(listed, line), [(serial, short)]
    for encoding in ENCODINGS:
        yield f"Cyrillic on a terminal of {encoding}", partial(shown, encoding), True
