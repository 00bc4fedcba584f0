"""Profile and search killed with SIGKILL at random points and given again, against uninterrupted ones.

    python -m benchmarks.resume

Searches are killed after a random time, profiles once the table has a random share of its bytes. The search runs on a
simulated device, whose measurements repeat themselves: its metrics have to be equal bit for bit. The profile runs on
the simulated device and on this CPU: its table has to have the same keys.
"""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.commands import PROGRAM, environment, unas_hw
from benchmarks.report import keep

SEARCH = (
    "search",
    "--latency-budget",
    "50%",
    "--warmup-epochs",
    "2",
    "--epochs",
    "3",
    "--measure-every",
    "5",
    "--finals",
    "8",
    "--run",
    "r",
)


def killed(folder: Path, words: tuple[str, ...], ready: Callable[[], bool]) -> bool:
    """Starts a command and kills it once that is so; whether it was still running."""
    process = subprocess.Popen(
        [*PROGRAM, *words], cwd=folder, env=environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not ready():
        time.sleep(0.02)
    running = process.poll() is None
    process.kill()
    process.wait()
    return running


def after(seconds: float) -> Callable[[], bool]:
    """Whether so much time has passed from now."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def as_large(path: Path, bytes_: float) -> Callable[[], bool]:
    """Whether the file is there and has so many bytes."""
    return lambda: path.exists() and path.stat().st_size >= bytes_


def keys(path: Path) -> set[str]:
    """Keys of the rows of a table."""
    records = (json.loads(line) for line in path.read_text().splitlines())
    return {record["key"] for record in records if record["record"] == "row"}


def main() -> None:
    """Three searches with three kills each, two profiles with three kills each."""
    rng, rows = random.Random(0), []
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        whole.mkdir()
        unas_hw(whole, "profile", "--device", "sim:phone")
        begin = time.monotonic()
        wanted = unas_hw(whole, *SEARCH)
        lasts_s = time.monotonic() - begin
        for number in range(3):
            folder = Path(name) / f"search{number}"
            folder.mkdir()
            unas_hw(folder, "profile", "--device", "sim:phone")
            kills = [killed(folder, SEARCH, after(rng.uniform(4, 0.6 * lasts_s))) for _ in range(3)]
            seen = unas_hw(folder, *SEARCH)
            metrics = [(each / "runs" / "r" / "metrics.jsonl").read_bytes() for each in (whole, folder)]
            row = {
                "what": "search on sim:phone",
                "killed": sum(kills),
                "same_architecture": seen["architecture"] == wanted["architecture"],
                "same_metrics_bit_for_bit": metrics[0] == metrics[1],
                "same_measured_ms": seen["measured_ms"] == wanted["measured_ms"],
            }
            rows.append(row)
            print(row, flush=True)
        for device in ("sim:phone", "cpu"):
            words = ("profile", "--device", device, "--table", "t.jsonl")
            whole, folder = Path(name) / f"whole-{device}", Path(name) / f"killed-{device}"
            whole.mkdir()
            folder.mkdir()
            unas_hw(whole, *words)
            bytes_, table = (whole / "t.jsonl").stat().st_size, folder / "t.jsonl"
            shares = sorted(rng.uniform(0.1, 0.8) for _ in range(3))
            kills = [killed(folder, words, as_large(table, share * bytes_)) for share in shares]
            unas_hw(folder, *words)
            row = {
                "what": f"profile on {device}",
                "killed": sum(kills),
                "same_keys": keys(whole / "t.jsonl") == keys(folder / "t.jsonl"),
            }
            rows.append(row)
            print(row, flush=True)
    keep("resume", {"rows": rows})


if __name__ == "__main__":
    main()
