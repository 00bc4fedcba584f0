"""Profile and search killed with SIGKILL at random points and given again, against uninterrupted ones.

    python -m benchmarks.resume

The search runs on a simulated device, whose measurements repeat themselves: its metrics have to be equal bit for bit.
The profile runs on the simulated device and on this CPU: its table has to have the same keys.
"""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
import time
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
    "--run",
    "r",
)


def killed(folder: Path, words: tuple[str, ...], after_s: float) -> bool:
    """Starts a command and kills it; whether it was still running."""
    process = subprocess.Popen(
        [*PROGRAM, *words], cwd=folder, env=environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(after_s)
    running = process.poll() is None
    process.kill()
    process.wait()
    return running


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
            kills = [killed(folder, SEARCH, rng.uniform(4, 0.6 * lasts_s)) for _ in range(3)]
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
            begin = time.monotonic()
            unas_hw(whole, *words)
            lasts_s = time.monotonic() - begin
            kills = [killed(folder, words, rng.uniform(0.4 * lasts_s, 0.9 * lasts_s)) for _ in range(3)]
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
