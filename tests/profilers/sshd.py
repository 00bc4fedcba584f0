"""A real sshd on loopback, with its own settings and keys, and a way to it that can be cut."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


def missing() -> str:
    """What such a server needs and this machine lacks."""
    if not Path(SSHD).is_file() or not shutil.which("ssh-keygen"):
        return "sshd is missing: apt-get install openssh-server"
    return ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass(frozen=True)
class Server:
    """Where it listens and what a client needs."""

    port: int
    key: Path
    known_hosts: Path
    temporary: Path
    """Where what it starts puts its files, so that others' are not taken for them."""

    def address(self, port: int | None = None, **changes: object) -> str:
        options = {"python": sys.executable, "key": self.key, "known_hosts": self.known_hosts, **changes}
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"ssh://{getpass.getuser()}@127.0.0.1:{port or self.port}?{query}"


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """A server until the end of the block."""
    for name in ("host_key", "user_key", "stranger_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    (temporary := folder / "tmp").mkdir()
    port = free_port()
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile {folder}/pid\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n"
        f"PermitRootLogin yes\nMaxStartups 100\nSetEnv TMPDIR={temporary}\n"
    )
    public = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"* {public}")
    if getpass.getuser() == "root":
        Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield Server(port, folder / "user_key", folder / "known_hosts", temporary)
    finally:
        server.terminate()
        server.wait()


class Cuttable:
    """Carries connections to a port until they are cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._open: list[socket.socket] = []
        self._all: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._all.append(client)
                server = socket.create_connection(("127.0.0.1", self._target))
                self._all.append(server)
                self.connections += 1
                self._open += [client, server]
                self._start(self._carry, client, server)
                self._start(self._carry, server, client)

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        self._end(source)
        self._end(sink)

    def _end(self, each: socket.socket) -> None:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Ends every connection; new ones are carried again."""
        while self._open:
            self._end(self._open.pop())

    def close(self) -> None:
        self.cut()
        self._end(self._listener)
        self._listener.close()
        for thread in self._threads:
            thread.join()
        for each in self._all:
            each.close()
