"""A board, or another computer, that ssh reaches: the agent is sent there and times, nothing is installed or left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import threading
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, final
from urllib.parse import parse_qsl, unquote, urlsplit

import asyncssh

from profilers.devices.agent import AgentProfiler
from profilers.environment import THREAD_VARIABLES, revision
from profilers.errors import DeviceLostError, MissingDependencyError, MissingDeviceError, UnknownNameError
from profilers.registry import RUNTIMES, devices_of, find_runtime, package_of

Result = TypeVar("Result")
OPTIONS = ("python", "runtime", "key", "known_hosts")
CONNECT_S, KEEPALIVE_S, IDLE_S = 15, 5, 900
"""A connection without answer to three keep-alives is lost; an agent without requests for the last ends itself."""
RECONNECTIONS, PATIENCE_S = 8, (0.1, 10.0)
"""Attempts before a device counts as lost, and the waits between them, doubling from the first to the last."""
NOT_FOUND = (126, 127)
"""What a shell exits with that cannot run a command."""
_HOST = re.compile(r"[^\s@/?#-][^\s@/?#]*")
"""What ssh takes for a name, and not for an option."""
BOOT = """
import importlib.abc, importlib.util, json, sys
sources = json.loads(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))
class Sent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name in sources:
            return importlib.util.spec_from_loader(name, self, is_package=sources[name][0])
    def exec_module(self, module):
        exec(compile(sources[module.__name__][1], module.__name__, "exec"), module.__dict__)
sys.meta_path.insert(0, Sent())
from profilers.agent.__main__ import main
main()
"""
"""What starts the agent there: its sources come through the connection, so that no file of it can be left behind."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """``ssh://[user@]host[:port][?python=...&runtime=...&key=...&known_hosts=...]``; else as ssh is set up."""

    host: str
    user: str | None = None
    port: int | None = None
    python: str = "python3"
    runtime: str | None = None
    key: str | None = None
    known_hosts: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ``UnknownNameError``."""
        mend = "write ssh://[user@]host[:port][?python=/path/to/python3&runtime=NAME], and [...] around an IPv6 address"
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UnknownNameError(f"{text} is no address: {error}", mend=mend) from error
        given = parse_qsl(parts.query, keep_blank_values=True)
        options, names = dict(given), [name for name, _ in given]
        if "://" not in text and text:
            reason, mend = "it does not begin with ssh://", f"write ssh://{text.removeprefix('ssh:').strip('/')}"
        elif unknown := [name for name in names if name not in OPTIONS]:
            reason = f"there is no option {unknown[0]!r}"
        elif wrong := [name for name in names if names.count(name) > 1 or not options[name]]:
            reason = f"its option {wrong[0]!r} is there twice, or empty"
        elif parts.password is not None:
            text = text.replace(f":{parts.password}@", ":...@")
            reason, mend = "a password cannot be given", "let it take a key: ssh-copy-id, or ssh://...?key=PATH"
        elif not host or parts.path.strip("/") or parts.fragment or port == 0 or not _HOST.fullmatch(host):
            reason = "it has to name a host and nothing else"
        else:
            beside = parts.netloc.rpartition("@")[2]  # the names of ~/.ssh/config differ by case, hostname does not
            host = unquote(beside[(begin := beside.lower().index(host.lower())) : begin + len(host)])
            return cls(host=host, user=parts.username and unquote(parts.username), port=port, **options)
        raise UnknownNameError(f"{text} is no address of a device: {reason}", mend=mend)

    def __str__(self) -> str:
        return (f"{self.user}@" if self.user else "") + self.host

    @property
    def command(self) -> str:
        """As one would type it."""
        return "ssh " + (f"-p {self.port} " if self.port else "") + shlex.quote(str(self))


def sources() -> bytes:
    """The agent's modules, as ``BOOT`` reads them: name to (is a package, text)."""
    root = Path(__file__).parents[1]
    found: dict[str, tuple[bool, str]] = {"profilers": (True, "")}
    for path in sorted((root / "agent").rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        package = parts[-1] == "__init__"
        found[".".join(parts[:-1] if package else parts)] = (package, path.read_text(encoding="utf-8"))
    content = json.dumps(found).encode()
    return b"%d\n" % len(content) + content


@final
class SshProfiler(AgentProfiler):
    """Times on another machine; a connection that breaks is made again, with everything that was loaded.

    The address is as in ``Address``; without a runtime it takes what is found there, onnxruntime first. ``engines`` are
    what is found there, by the names of runtimes.
    """

    def __init__(self, address: str, runtime: str | None, threads: int, *, connect_s: float = CONNECT_S) -> None:
        super().__init__()
        self.device = address
        self.threads = threads
        self.address = Address.parse(address)
        self.reconnections = 0
        self._connect_s = connect_s
        self._artifacts: dict[str, tuple[dict[str, Any], bytes]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._connection: asyncssh.SSHClientConnection | None = None
        self._agent: asyncssh.SSHClientProcess[bytes] | None = None
        self._said: deque[str] = deque(maxlen=20)
        self.runtime = runtime or self.address.runtime or next(iter(RUNTIMES))
        with self:  # what it is, and what is there
            described = self._exchange({"do": "describe", "key": ""})[0]
        self._fingerprint: dict[str, str | int] = described["fingerprint"]
        known = [engine for engine in described["engines"] if engine in RUNTIMES]
        self.engines = engines = [engine for engine in known if "cpu" in devices_of(engine)]
        if runtime is None and self.address.runtime is None and engines:
            self.runtime = engines[0]
        self._runtime = find_runtime(self.runtime, runs_here=False)
        if self.runtime.partition("+")[0] not in known:  # a board's GPU only where it is asked for: TensorRT
            raise MissingDependencyError(
                f"{self.address.python} of {self.address} has no {self.runtime}; it has {', '.join(known) or 'none'}",
                mend=f"{self.address.command} {self.address.python} -m pip install {package_of(self.runtime)}"
                " (or name another Python: ssh://...?python=PATH)",
            )
        self.runtime = self._runtime.name
        if threads > (cores := int(self._fingerprint["cores"])):
            raise MissingDeviceError(f"{threads} threads on {cores} core(s)", mend=f"add --threads {cores}")

    def fingerprint(self) -> dict[str, str | int]:
        return self._fingerprint

    def environment(self) -> dict[str, Any]:
        if self._loop is None:
            with self:
                return self.environment()
        described = self._exchange({"do": "describe", "key": "", "packages": self._runtime.packages})[0]
        return {**described["state"], "revision": revision(), "reconnections": self.reconnections}

    def _open(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._wait(self._connect())
        except (asyncssh.Error, OSError) as error:
            self._close()
            raise self._unreachable(error) from error
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        self._artifacts.clear()
        if self._loop is not None and self._thread is not None:
            self._wait(self._disconnect())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = self._thread = None

    def _unreachable(self, error: Exception) -> MissingDeviceError:
        where, mend = self.address, f"check that this works: {self.address.command}"
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            mend = f"compare its key and accept it, once: {where.command}"
        elif isinstance(error, asyncssh.PermissionDenied):
            mend = f"{where.command.replace('ssh ', 'ssh-copy-id ', 1)} (or name a key: ssh://...?key=PATH)"
        return MissingDeviceError(f"{where} cannot be reached: {str(error) or type(error).__name__}", mend=mend)

    def _wait(self, job: Coroutine[Any, Any, Result]) -> Result:
        assert self._loop is not None  # Profiler.load refuses a closed one
        return asyncio.run_coroutine_threadsafe(job, self._loop).result()

    async def _connect(self) -> None:
        where = self.address
        told: dict[str, Any] = {
            "known_hosts": where.known_hosts and os.path.expanduser(where.known_hosts),
            "client_keys": where.key and [os.path.expanduser(where.key)],
            "username": where.user,
            "port": where.port,
        }
        settings = {name: value for name, value in told.items() if value is not None}
        self._connection = await asyncssh.connect(
            where.host, connect_timeout=self._connect_s, keepalive_interval=KEEPALIVE_S, **settings
        )
        variables = [f"{name}={self.threads}" for name in THREAD_VARIABLES]
        words = ["env", *variables, where.python, "-u", "-c", BOOT, self.runtime, str(self.threads), str(IDLE_S)]
        self._agent = await self._connection.create_process(shlex.join(words), encoding=None)
        self._agent.stdin.write(sources())
        self._said.clear()
        self._listener = asyncio.ensure_future(self._listen(self._agent))

    async def _listen(self, agent: asyncssh.SSHClientProcess[bytes]) -> None:
        """What it says beside its answers: the reason, where it does not start."""
        with contextlib.suppress(asyncssh.Error, OSError):  # whoever waits for an answer is told
            async for line in agent.stderr:
                if said := line.decode(errors="replace").strip():  # the end may come as an empty line
                    self._said.append(said)

    async def _disconnect(self) -> int | None:
        """Ends the agent and the connection; the agent's exit status, where it came through."""
        connection, self._connection, agent, self._agent = self._connection, None, self._agent, None
        status = None
        if agent is not None:
            try:
                agent.stdin.write_eof()  # the agent removes its files and ends
                await asyncio.wait_for(self._listener, 10)  # first: waiting for the agent takes what is unread
                status = (await asyncio.wait_for(agent.wait(), 10)).exit_status
            except (TimeoutError, asyncssh.Error, OSError):  # it is lost, and ends by itself when it sees that
                agent.close()
        if connection is not None:
            connection.close()
            await connection.wait_closed()
        return status

    async def _send(self, request: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        from profilers.agent.serve import encode

        assert self._agent is not None  # Profiler.load refuses a closed one
        self._agent.stdin.write(encode(request, payload))
        line = await self._agent.stdout.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the connection ended")
        answer = json.loads(line)
        return answer, await self._agent.stdout.readexactly(answer.get("size", 0))

    def _exchange(self, request: dict[str, Any], payload: bytes = b"") -> tuple[dict[str, Any], bytes]:
        wait_s, reason = PATIENCE_S[0], ""
        for _ in range(RECONNECTIONS):
            try:
                if self._agent is None:
                    self._wait(self._connect())
                    self.reconnections += 1
                    for again, content in self._artifacts.values():
                        self._wait(self._send(again, content))
                answer = self._wait(self._send(request, payload))
            except (asyncssh.HostKeyNotVerifiable, asyncssh.PermissionDenied) as error:
                raise self._unreachable(error) from error
            except (asyncssh.Error, OSError, EOFError) as error:
                status = self._wait(self._disconnect())
                reason = (self._said[-1] if self._said else "") or str(error) or type(error).__name__
                if status in NOT_FOUND:
                    raise MissingDeviceError(
                        f"{self.address} cannot run {self.address.python}: {reason}",
                        mend="name a Python that is there: ssh://...?python=/path/to/python3",
                    ) from error
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, PATIENCE_S[1])
                continue
            if request["do"] == "load":
                self._artifacts[request["key"]] = (request, payload)
            elif request["do"] == "unload":
                self._artifacts.pop(request["key"], None)
            return answer
        raise DeviceLostError(
            f"{self.address} was lost at {request['key'] or 'the start'}, {RECONNECTIONS} times in a row: {reason}",
            mend=f"check {self.address.command}, and run the same command again: what was measured is kept",
        )
