"""The book of devices with names: how each is reached, its benchmark tools, and what measures its energy.

``devices.json`` in the folder of tables and caches, for people to read and to correct::

    {"devices": {"phone": {"adb": "R58M12345", "litert_benchmark": "/home/me/benchmark_model"}}}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from profilers.errors import DeviceNameError, FileError, UnknownNameError
from profilers.files import once, read_text, write_atomic
from profilers.home import home

TOOL_FIELDS = {"litert": "litert_benchmark", "ncnn": "ncnn_benchmark", "onnxruntime": "onnxruntime_benchmark"}
"""By the name of the runtime, in the order in which one is chosen where none is named."""
SCHEMES = ("cpu", "gpu", "sim", "ssh", "adb")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, kw_only=True)
class Booked:
    """One device of the book.

    Attributes:
        name: As in ``--device``.
        adb: Its serial number, or ...
        ssh: ... its address, ``ssh://[user@]host``.
        tools: Paths of benchmark tools, here or on the device, by the name of the runtime.
        power_command: Prints watts or joules.
    """

    name: str
    adb: str | None = None
    ssh: str | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    power_command: str | None = None

    @property
    def address(self) -> str:
        """Where it is, as in ``--device`` without the book."""
        return self.ssh or f"adb://{self.adb}"

    def to_record(self) -> dict[str, str]:
        """As in the file."""
        where = {"adb": self.adb, "ssh": self.ssh, "power_command": self.power_command}
        tools = {TOOL_FIELDS[runtime]: path for runtime, path in self.tools.items()}
        return {name: value for name, value in (where | tools).items() if value is not None}

    @classmethod
    def from_record(cls, name: str, record: Any) -> Self:
        """Raises ``ValueError`` where it cannot be that of a device."""
        if not isinstance(record, dict):
            raise ValueError(f"{name!r} is {record!r}, not an object")
        known = ("adb", "ssh", "power_command", *TOOL_FIELDS.values())
        for key, value in record.items():
            if key not in known:
                raise ValueError(f"{name!r} has {key!r}, which is none of {', '.join(known)}")
            if not isinstance(value, str) or not value:
                raise ValueError(f"{key!r} of {name!r} is {value!r}, not a text")
        if ("adb" in record) == ("ssh" in record):
            raise ValueError(f"{name!r} needs one of 'adb' and 'ssh'")
        tools = {runtime: record[key] for runtime, key in TOOL_FIELDS.items() if key in record}
        return cls(
            name=name,
            adb=record.get("adb"),
            ssh=record.get("ssh"),
            tools=tools,
            power_command=record.get("power_command"),
        )


def book_path() -> Path:
    """The file."""
    return home() / "devices.json"


def read_book() -> dict[str, Booked]:
    """All of them by name; raises ``FileError`` where the file is damaged."""
    path = book_path()
    if not path.exists():
        return {}
    try:
        content = json.loads(read_text(path), object_pairs_hook=once)
        if not isinstance(content, dict) or not isinstance(content.get("devices"), dict):
            raise ValueError("it has no object 'devices'")
        return {name: Booked.from_record(name, record) for name, record in content["devices"].items()}
    except ValueError as error:
        raise FileError(f"{path} cannot be read: {error}", mend=f"correct it, or begin anew: rm {path}") from error


def add(entry: Booked) -> None:
    """Writes it into the book; raises ``DeviceNameError`` where the name is taken or none."""
    book = read_book()
    check_name(entry.name, book)
    _write({**book, entry.name: entry})


def check_name(name: str, book: Mapping[str, Booked]) -> None:
    """Raises ``DeviceNameError`` where a device cannot be called so."""
    from profilers.registry import added_devices

    if not _NAME.fullmatch(name):
        raise DeviceNameError(
            f"{name!r} is no name for a device", mend="use letters, digits, '-', '_' and '.', such as: phone"
        )
    if name in book:
        raise DeviceNameError(f"{name!r} is {book[name].address} already", mend=f"unas-hw devices remove {name}")
    if name in (*SCHEMES, *added_devices()):
        raise DeviceNameError(f"{name!r} is the name of another device", mend=f"choose another, such as my-{name}")


def remove(name: str) -> Booked:
    """Takes it out of the book and says what it was; raises ``UnknownNameError``."""
    book = read_book()
    if name not in book:
        raise UnknownNameError(
            f"no device is booked as {name!r}",
            mend=f"choose one of {', '.join(book)}" if book else "see what there is: unas-hw devices",
        )
    _write({other: entry for other, entry in book.items() if other != name})
    return book[name]


def find_serial(serial: str) -> Booked | None:
    """The first device of that serial number."""
    return next((entry for entry in read_book().values() if entry.adb == serial), None)


def _write(book: Mapping[str, Booked]) -> None:
    records = {name: entry.to_record() for name, entry in book.items()}
    write_atomic(book_path(), json.dumps({"devices": records}, indent=2, ensure_ascii=False) + "\n")
