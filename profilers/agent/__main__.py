"""``python -m profilers.agent ENGINE[+OPTION...] THREADS [IDLE_S]``; ends when its input ends.

One process runs one runtime: two of them fight over cores (torch after ONNX Runtime was seen 50 times slower).
"""

from __future__ import annotations

import os
import signal
import sys

from profilers.agent import machine
from profilers.agent.engines import load_engine
from profilers.agent.serve import serve


def main() -> None:
    """Serves standard input."""
    engine, *options = sys.argv[1].split("+")
    threads = int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not answer for us
    machine.pin(threads)
    for end in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(end, lambda number, frame: sys.exit(128 + number))  # which removes the artifacts
    serve(
        lambda path, precision: load_engine(engine, path, threads, precision, options),
        sys.stdin.buffer,
        answers,
        int(sys.argv[3]) if len(sys.argv) > 3 else 0,
    )


if __name__ == "__main__":
    main()
