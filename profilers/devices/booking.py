"""What is checked before a device goes into the book."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path

from profilers.devices.adb import Adb
from profilers.devices.android import is_executable
from profilers.devices.book import Booked, add, check_name, read_book
from profilers.errors import DeviceNameError, FileError, MissingDependencyError, MissingDeviceError


def book(entry: Booked) -> tuple[Booked, str]:
    """Writes the device into the book, as it is kept there, and says what could not be checked.

    Raises:
        DeviceNameError: If the name is taken, or is none, or the serial number cannot be one.
        UnknownNameError: If the address is none.
        FileError: If a tool is neither here nor on the phone.
    """
    check_name(entry.name, read_book())
    for what, value in entry.to_record().items():
        if not value.strip() or (what in ("adb", "ssh") and not value.isprintable()):  # what nothing is called
            raise DeviceNameError(f"{what} is {value!r}", mend="see what there is: unas-hw devices")
    entry, note = _checked_phone(entry) if entry.adb is not None else (entry, _checked_host(entry))
    add(entry)
    return entry, note


def _checked_host(entry: Booked) -> str:
    try:
        from profilers.devices.ssh import Address
    except ModuleNotFoundError:
        return "asyncssh is not installed, so the address was not looked at: pip install 'unas-hw[ssh]'"
    Address.parse(entry.address)
    return ""


def _checked_phone(entry: Booked) -> tuple[Booked, str]:
    adb, note = Adb(entry.adb), ""
    try:
        abi = adb.shell("getprop ro.product.cpu.abi").strip()
    except (MissingDependencyError, MissingDeviceError) as error:
        abi, note = "", f"the device was not looked at: {error.what}"
    tools = {runtime: _path(path, adb, abi) for runtime, path in entry.tools.items()}
    if not tools:
        note = note or "no benchmark tool is named yet, and none is sent with unas-hw: see docs/android.md"
    return replace(entry, tools=tools), note


def _path(path: str, adb: Adb, abi: str) -> str:
    """The path as it is kept: absolute."""
    here = Path(os.path.expanduser(path))
    if here.is_file():
        return str(here.resolve())
    if not path.startswith("/"):
        raise FileError(f"{path}: there is no such file", mend=f"check the path: ls {shlex.quote(str(here.parent))}")
    if not abi:
        raise FileError(
            f"{path}: there is no such file here, and no device to look on",
            mend="check the path, or attach the device: adb devices",
        )
    if not is_executable(adb, path):
        raise FileError(
            f"{path}: there is no such file here, and no such program on {adb.serial}",
            mend="check the path, and that it can be run: "
            f"{adb.command} shell ls -l {shlex.quote(os.path.dirname(path))}",
        )
    return path
