"""All evidence for the tables, one after the other; about 40 minutes on two quiet cores.

    python -m benchmarks.tables [--data DIR]

``DIR`` holds the published NAS-Bench-201 latencies (see ``benchmarks.tables.nas_bench_201``); without it that part is
left out.
"""

from __future__ import annotations

import subprocess
import sys

PARTS = ("accuracy", "build_time", "mobile")


def main(words: list[str]) -> None:
    """Each in a process of its own: one runtime a process while timing."""
    parts = [*PARTS, *(["nas_bench_201"] if words else [])]
    for part in parts:
        print(f"--- {part}", flush=True)
        told = words if part == "nas_bench_201" else []
        subprocess.run([sys.executable, "-u", "-m", f"benchmarks.tables.{part}", *told], check=True)
    if not words:
        print("--- nas_bench_201 was left out: --data DIR names no folder of published latencies")


if __name__ == "__main__":
    main(sys.argv[1:])
