"""``unas-hw`` as a user runs it: in a process, in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unas_hw.progress import Job

ROOT = Path(__file__).parent.parent
PROGRAM = [sys.executable, "-c", "from cli.main import main; main(prog_name='unas-hw')"]


def environment(folder: Path) -> dict[str, str]:
    """Tables in the folder; the code of this checkout."""
    return os.environ | {"UNAS_HW_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}


@contextmanager
def working_folder(named: Path | None) -> Iterator[Path]:
    """Where a benchmark goes on, or one for this time only; what runs in it has one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        folder = (named or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def unas_hw(folder: Path, *words: str, codes: tuple[int, ...] = (0,)) -> Any:
    """Runs a command and returns its JSON; fails on another exit code than these."""
    done = subprocess.run(
        [*PROGRAM, *words, "--json"], cwd=folder, env=environment(folder), capture_output=True, text=True
    )
    if done.returncode not in codes:
        raise SystemExit(f"unas-hw {' '.join(words)}: exit code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)


def marked(job: Job[dict[str, Any]]) -> tuple[dict[str, Any], list[tuple[str, float]]]:
    """The result of a job, and the stage of every step with the time at which it was told."""
    marks = list[tuple[str, float]]()
    while True:
        try:
            marks.append((next(job).stage, time.monotonic()))
        except StopIteration as end:
            result: dict[str, Any] = end.value
            return result, marks
