"""Which phones and which devices of the book answer: all are asked at once, and none may take long."""

from __future__ import annotations

import shlex
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from profilers.devices.adb import Adb, Attached
from profilers.devices.book import Booked, read_book
from profilers.errors import UnasError

PATIENCE_S, CONNECT_S = 3.0, 2.0
"""For an answer, and of that for the connection."""

Found = dict[str, Any]
"""``device``, ``name``, ``runtimes``, ``missing``, ``warnings``."""
Answer = tuple[str, list[str]]
"""What a host is, and the engines that it has."""


class _Question:
    """Asks in a thread, which nobody waits for longer than an answer is wanted."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask, self.answer, self.why_not = ask, None, ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.answer = self._ask()
        except UnasError as error:
            self.why_not = error.what
        except ModuleNotFoundError as error:
            self.why_not = f"{error.name} is not installed: unas-hw doctor"

    def wait(self, end_s: float) -> None:
        self._thread.join(max(0.0, end_s - time.monotonic()))
        if self._thread.is_alive():
            self.why_not = f"no answer within {PATIENCE_S:g} s"


def reach() -> Callable[[], list[Found]]:
    """Begins to ask; what is returned waits for the answers."""
    book, end_s = list(read_book().values()), time.monotonic() + PATIENCE_S
    attached = _Question(_attached)
    hosts = {entry.name: _Question(partial(_describe, entry)) for entry in book if entry.ssh}

    def answers() -> list[Found]:
        for question in (attached, *hosts.values()):
            question.wait(end_s)
        listed: tuple[Attached, ...] = attached.answer or ()
        times = Counter(phone.serial for phone in listed)  # makers have given one number to all of their phones
        phones = {
            phone.serial: phone
            if times[phone.serial] == 1
            else replace(phone, state=f"{times[phone.serial]} of one number")
            for phone in listed
        }
        found = [
            _host(entry, hosts[entry.name]) if entry.ssh else _phone(entry, phones, attached.why_not) for entry in book
        ]
        booked = {entry.adb for entry in book}
        return [*found, *(_stranger(phone) for phone in phones.values() if phone.serial not in booked)]

    return answers


def _attached() -> tuple[Attached, ...]:
    # Without the client there is nothing to list; a phone of the book then misses it by name.
    return Adb.devices() if shutil.which("adb") or any(entry.adb for entry in read_book().values()) else ()


def _describe(entry: Booked) -> Answer:
    from profilers.devices.ssh import SshProfiler

    assert entry.ssh is not None  # only those are asked
    profiler = SshProfiler(entry.ssh, None, 1, connect_s=CONNECT_S)
    return str(profiler.fingerprint()["name"]), profiler.engines


def _host(entry: Booked, question: _Question) -> Found:
    answer: Answer = question.answer or ("-", [])
    name, engines = answer
    return _found(entry.name, name, engines, question.why_not)


def _phone(entry: Booked, phones: dict[str, Attached], why_not: str) -> Found:
    phone = phones.get(entry.adb or "")
    if phone is None:
        missing = why_not or f"{entry.adb} is not attached"
    elif phone.state != "device":
        missing = f"{entry.adb} {phone.how}"
    elif not entry.tools:
        missing = f"no benchmark tool is named: unas-hw devices remove {entry.name}, and add it with one"
    else:
        missing = ""
    return _found(entry.name, (phone and phone.model) or "-", list(entry.tools), missing)


def _stranger(phone: Attached) -> Found:
    add = f"unas-hw devices add phone --adb {shlex.quote(phone.serial)} --litert-benchmark PATH"
    missing = f"no benchmark tool is named: {add}" if phone.state == "device" else f"it {phone.how}"
    return _found(f"adb://{phone.serial}", phone.model or "-", [], missing)


def _found(device: str, name: str, runtimes: list[str], missing: str) -> Found:
    runtimes = [] if missing else runtimes  # as of a GPU that is not there
    return {"device": device, "name": name, "runtimes": runtimes, "missing": missing, "warnings": []}
