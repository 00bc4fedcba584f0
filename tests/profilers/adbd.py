"""A small adbd for tests: the device's end of adb's protocol over TCP, with a folder as its file system.

Messages are 24 bytes (command, two arguments, length, checksum, the command inverted) and a payload. Every stream
takes turns: a WRTE waits for the other side's OKAY.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

VERSION = 0x01000001  # from this one on checksums are not looked at
MAX_DATA = 256 * 1024
SYNC_CHUNK = 64 * 1024
STDOUT, STDERR, EXIT = 1, 2, 3


class _Stream:
    """One service that the client opened."""

    def __init__(self, device: FakeAdbd, link: socket.socket, local: int, remote: int) -> None:
        self._device, self._link, self.local, self.remote = device, link, local, remote
        self._incoming: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._turn = threading.Semaphore(0)
        self._buffer = b""
        self.closed = threading.Event()

    def feed(self, data: bytes) -> None:
        self._incoming.put(data)

    def acknowledge(self) -> None:
        self._turn.release()

    def end(self) -> None:
        self.closed.set()
        self._incoming.put(None)
        self._turn.release()

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), MAX_DATA):
            self._device.send(self._link, b"WRTE", self.local, self.remote, data[start : start + MAX_DATA])
            self._turn.acquire()
            if self.closed.is_set():
                raise ConnectionError("the stream was closed")

    def read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = self._incoming.get()
            if data is None:
                raise ConnectionError("the stream was closed")
            self._buffer += data
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data


class FakeAdbd:
    """Listens on a port of its own until it is left.

    Args:
        root: Its file system; ``/data``, ``/sys`` and ``/system`` of a command mean folders in it.
        shell_v2: Whether it knows the shell protocol with exit codes, as Android 7 and later do.
        authorized: Whether it trusts this computer.
    """

    def __init__(self, root: Path, *, shell_v2: bool = True, authorized: bool = True) -> None:
        self.root, self._shell_v2, self._authorized = root, shell_v2, authorized
        (root / "data/local/tmp").mkdir(parents=True, exist_ok=True)
        (root / "system/bin").mkdir(parents=True, exist_ok=True)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._port: int = self._socket.getsockname()[1]
        self._links: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._shells: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._dead = False
        self.received_bytes = 0
        self.kill_after_bytes: int | None = None
        self._start(self._accept)

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def busy(self) -> bool:
        """Whether a command is running."""
        return bool(self._shells)

    def __enter__(self) -> FakeAdbd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for thread in list(self._threads):
            if thread is not threading.current_thread():
                thread.join(10)

    def kill(self) -> None:
        """As if the cable were pulled."""
        with self._lock:
            self._dead = True
            links, shells = list(self._links), list(self._shells)
        for link in (self._socket, *links):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()
        for shell in shells:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)

    def send(self, link: socket.socket, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        number = int.from_bytes(command, "little")
        header = struct.pack("<6I", number, first, second, len(data), sum(data) & 0xFFFFFFFF, number ^ 0xFFFFFFFF)
        with self._lock:
            link.sendall(header + data)

    def _start(self, work: object, *arguments: object) -> None:
        assert callable(work)
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._socket.accept()
            except OSError:
                return
            with self._lock:
                if self._dead:
                    link.close()
                    return
                self._links.append(link)
            self._start(self._talk, link)

    def _talk(self, link: socket.socket) -> None:
        streams: dict[int, _Stream] = {}
        with contextlib.suppress(OSError), link:
            for command, first, second, data in _messages(link):
                self.received_bytes += len(data)
                if self.kill_after_bytes is not None and self.received_bytes > self.kill_after_bytes:
                    self.kill()
                    break
                self._answer(link, streams, command, first, second, data)
        for stream in list(streams.values()):
            stream.end()

    def _answer(
        self, link: socket.socket, streams: dict[int, _Stream], command: bytes, first: int, second: int, data: bytes
    ) -> None:
        if command in (b"CNXN", b"AUTH"):
            if self._authorized:
                features = "shell_v2,cmd" if self._shell_v2 else "cmd"
                about = (
                    f"device::ro.product.name=fake;ro.product.model=Fake_1;ro.product.device=fake;features={features}"
                )
                self.send(link, b"CNXN", VERSION, MAX_DATA, about.encode())
            elif first != 3:  # to its public key a device answers when somebody has tapped: never
                self.send(link, b"AUTH", 1, 0, os.urandom(20))
        elif command == b"OPEN":
            stream = streams[first] = _Stream(self, link, first, first)
            self.send(link, b"OKAY", stream.local, stream.remote)
            self._start(self._serve, link, streams, stream, data.rstrip(b"\0").decode())
        elif second in streams:
            if command == b"WRTE":
                streams[second].feed(data)
                self.send(link, b"OKAY", second, first)
            elif command == b"OKAY":
                streams[second].acknowledge()
            elif command == b"CLSE":
                streams.pop(second).end()

    def _serve(self, link: socket.socket, streams: dict[int, _Stream], stream: _Stream, service: str) -> None:
        kind, _, argument = service.partition(":")
        with contextlib.suppress(OSError):
            if kind.split(",")[0] == "shell":
                self._shell(stream, argument, framed="v2" in kind.split(","))
            elif kind == "sync":
                self._sync(stream)
            self.send(link, b"CLSE", stream.local, stream.remote)
            streams.pop(stream.local, None)

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _shell(self, stream: _Stream, command: str, *, framed: bool) -> None:
        command = re.sub(r"(?<![\w/.])/(?=(?:data|sys|system)/)", f"{self.root}/", command)
        environment = {**os.environ, "PATH": f"{self.root}/system/bin:{os.environ.get('PATH', '')}"}
        errors = subprocess.PIPE if framed else subprocess.STDOUT
        with subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=self.root,
            env=environment,
            start_new_session=True,
        ) as process:
            with self._lock:
                self._shells.add(process)
            output, complaints = process.communicate()
            with self._lock:
                self._shells.discard(process)
                dead = self._dead
        if dead:
            return
        if not framed:
            stream.write(output.replace(b"\n", b"\r\n"))  # an old device gives every command a terminal
            return
        for kind, data in ((STDOUT, output), (STDERR, complaints), (EXIT, bytes([process.returncode & 0xFF]))):
            if data:
                stream.write(struct.pack("<BI", kind, len(data)) + data)

    def _sync(self, stream: _Stream) -> None:
        while True:
            request, size = struct.unpack("<4sI", stream.read(8))
            name = stream.read(size).decode() if request != b"QUIT" else ""
            if request == b"QUIT":
                return
            if request == b"STAT":
                with contextlib.suppress(OSError):
                    about = self.path(name).stat()
                    stream.write(b"STAT" + struct.pack("<3I", about.st_mode, about.st_size, int(about.st_mtime)))
                    continue
                stream.write(b"STAT" + bytes(12))
            elif request == b"SEND":
                self._take(stream, self.path(name.rpartition(",")[0]))
            elif request == b"RECV":
                self._give(stream, self.path(name))
            else:
                _fail(stream, f"unknown request {request!r}")

    def _take(self, stream: _Stream, path: Path) -> None:
        content = bytearray()
        while True:
            kind, size = struct.unpack("<4sI", stream.read(8))
            if kind == b"DONE":
                break
            content += stream.read(size)
        try:
            path.write_bytes(content)
        except OSError as error:
            _fail(stream, f"couldn't create file: {error.strerror}")
        else:
            stream.write(struct.pack("<4sI", b"OKAY", 0))

    def _give(self, stream: _Stream, path: Path) -> None:
        try:
            content = path.read_bytes()
        except OSError as error:
            _fail(stream, f"open failed: {error.strerror}")
            return
        for start in range(0, len(content), SYNC_CHUNK):
            chunk = content[start : start + SYNC_CHUNK]
            stream.write(struct.pack("<4sI", b"DATA", len(chunk)) + chunk)
        stream.write(struct.pack("<4sI", b"DONE", 0))

    def wait_until_busy(self, timeout_s: float = 10.0) -> None:
        end = time.monotonic() + timeout_s
        while not self.busy and time.monotonic() < end:
            time.sleep(0.01)
        assert self.busy


def _fail(stream: _Stream, why: str) -> None:
    stream.write(struct.pack("<4sI", b"FAIL", len(why.encode())) + why.encode())


def _messages(link: socket.socket) -> Iterator[tuple[bytes, int, int, bytes]]:
    while True:
        header = _exactly(link, 24)
        if header is None:
            return
        command, first, second, size, _, _ = struct.unpack("<4s5I", header)
        data = _exactly(link, size)
        if data is None:
            return
        yield command, first, second, data


def _exactly(link: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        part = link.recv(size - len(data))
        if not part:
            return None
        data += part
    return bytes(data)
