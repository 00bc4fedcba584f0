"""The process in which operations are timed: one runtime, pinned cores, nothing else.

Two runtimes in one process fight over cores (torch after an ONNX Runtime session was seen 50 times slower), so
the profiler's own process does no timing. Requests and answers are JSON, one a line.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import IO, Any

import numpy as np

from profilers.environment import usable_cores
from profilers.errors import UnasError
from profilers.registry import find_runtime
from profilers.runtimes.base import Engine

INSTANCES = 2
"""How often each artifact is loaded; samples take turns. Where its memory lies makes an operation up to half a percent
slower or faster for as long as it is loaded, which no number of samples of one instance would show. With two, the odd
and the even samples differ by it, so it is in the noise floor."""


def main() -> None:
    """``python -m profilers.devices.worker RUNTIME THREADS FOLDER``; ends when its input ends.

    That is when the profiler closes it, or was killed: then nobody else removes the folder of artifacts.
    """
    runtime_name, threads, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a library that prints must not answer for us
    if hasattr(os, "sched_setaffinity"):
        # The last cores: interrupts prefer the first.
        os.sched_setaffinity(0, usable_cores()[-threads:])
    serve(find_runtime(runtime_name), threads, sys.stdin, answers)
    shutil.rmtree(folder, ignore_errors=True)


def serve(runtime: Any, threads: int, requests: IO[str], answers: IO[str]) -> None:
    """Answers requests until there are no more."""
    engines: dict[str, list[Engine]] = {}
    timers: dict[str, Iterator[Callable[[int], float]]] = {}
    for line in requests:
        request = json.loads(line)
        key = request["key"]
        answer: dict[str, Any] = {}
        try:
            if request["do"] == "load":
                engines[key] = [runtime.load(Path(request["path"]), threads) for _ in range(INSTANCES)]
                shape, dtype = tuple(request["shape"]), request["dtype"]
                timers[key] = cycle([engine.timer(shape, dtype) for engine in engines[key]])
            elif request["do"] == "unload":
                del engines[key], timers[key]
            elif request["do"] == "time":
                answer["s"] = next(timers[key])(request["calls"])
            else:
                inputs = np.load(request["inputs"], allow_pickle=False)
                np.save(request["outputs"], engines[key][0].run(inputs))
        except Exception as error:  # everything goes back to the process that can tell the user
            answer["error"] = error.what if isinstance(error, UnasError) else f"{type(error).__name__}: {error}"
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
