"""The protocol of the timing process: a request is a line of JSON, followed by ``size`` bytes where it has a payload.

Answers have the same form. Artifacts travel as payloads, so nothing has to be copied beforehand and the process alone
knows where they lie; it removes them when its input ends, which is when the profiler closes it, was killed or lost
its connection.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import IO, Any

import numpy as np

from profilers.agent import machine
from profilers.agent.engine import Engine, random_input
from profilers.agent.engines import installed, version

INSTANCES = 2
"""How often each artifact is loaded; samples take turns. Where its memory lies makes an operation up to half a percent
slower or faster for as long as it is loaded, which no number of samples of one instance would show. With two, the odd
and the even samples differ by it, so it is in the noise floor."""


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """The next message and its payload; None where the stream ended, in the middle of one too."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    message: dict[str, Any] = json.loads(line)
    payload = stream.read(message.get("size", 0))
    return None if len(payload) < message.get("size", 0) else (message, payload)


def encode(message: dict[str, Any], payload: bytes = b"") -> bytes:
    """A message as it is sent."""
    if payload:
        message = {**message, "size": len(payload)}
    return json.dumps(message).encode() + b"\n" + payload


def serve(load: Callable[[str, str], Engine], requests: IO[bytes], answers: IO[bytes], idle_s: int = 0) -> None:
    """Answers requests until there are no more; everything that goes wrong with one of them is its answer.

    ``load`` makes an engine of the path and the precision of an artifact. Where no request came for ``idle_s`` seconds
    an alarm is raised; 0 waits for ever.
    """
    folder = Path(tempfile.mkdtemp(prefix="unas-hw-"))
    before, os.environ["TMPDIR"] = os.environ.get("TMPDIR"), str(folder)  # a runtime's own files are removed too
    try:
        _serve(load, requests, answers, idle_s, folder)
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


def _serve(
    load: Callable[[str, str], Engine], requests: IO[bytes], answers: IO[bytes], idle_s: int, folder: Path
) -> None:
    engines: dict[str, list[Engine]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    timers: dict[str, Iterator[Callable[[int], float]]] = {}
    number = 0
    while True:
        signal.alarm(idle_s)  # a connection that broke without a word leaves us waiting
        received = receive(requests)
        signal.alarm(0)
        if received is None:
            return
        request, payload = received
        key, content = request.get("key", ""), b""
        answer: dict[str, Any] = {}
        try:
            if request["do"] == "load":
                number += 1
                path = folder / "{}{}".format(number, request["suffix"])
                path.write_bytes(payload)
                shapes[key], engines[key] = tuple(request["shape"]), []
                before = peak = None
                for _ in range(INSTANCES):  # the memory of the last: the first brings in what the library needs once
                    before = machine.resident_bytes()
                    engines[key].append(load(str(path), request["precision"]))
                    engines[key][-1].bind(random_input(shapes[key]))()
                    peak = machine.peak_bytes()
                path.unlink()  # a process that is killed leaves none behind
                timers[key] = cycle([engine.timer(shapes[key]) for engine in engines[key]])
                known = {} if before is None or peak is None else {"peak_memory_bytes": peak - before}
                answer["details"] = {**known, **engines[key][0].details}
            elif request["do"] == "unload":
                del engines[key], timers[key]
            elif request["do"] == "time":
                answer["s"] = next(timers[key])(request["calls"])
            elif request["do"] == "spin":
                answer["calls"] = engines[key][0].spin(shapes[key], request["s"])
            elif request["do"] == "run":
                out = io.BytesIO()
                np.save(out, engines[key][0].run(np.load(io.BytesIO(payload), allow_pickle=False)))
                content = out.getvalue()
            else:
                answer.update(describe(request.get("packages", ())))
        except Exception as error:  # everything goes back to the process that can tell the user
            answer["error"] = f"{type(error).__name__}: {error}"
        answers.write(encode(answer, content))
        answers.flush()


def describe(packages: Sequence[str]) -> dict[str, Any]:
    """The machine, how it is just now, the engines it has and versions of packages."""
    return {
        "fingerprint": machine.fingerprint(),
        "state": {**machine.state(), "versions": {name: version(name) for name in packages}},
        "engines": installed(),
    }
