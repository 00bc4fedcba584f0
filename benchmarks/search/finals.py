"""Finals: on one worker, on two and on Ray; killed again and again; and whether they take the time that was asked for.

    python -m benchmarks.search.finals [--networks 16] [--kills 100] [--seconds 60 120 300]
        [--parts workers kills seconds]

A search of ``mbconv-small`` on the digits and ``sim:phone`` whose supernet hardly learns, so that nearly all of its
time is that of the finals. The machine has to be quiet, and to have two cores.

- workers: the same finals each time, of so many networks; seconds are those of the rungs, and all arms have to find the
  same, training by training;
- kills: searches of ``examples/tiny.yaml`` are killed so often in all, at random moments of their finals, and go on;
- seconds: of everything from the first training to the last, with two workers, beside what was asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.commands import PROGRAM, ROOT, environment, marked, unas_hw
from benchmarks.report import RESULTS, keep
from unas_hw.finals.trainings import JOURNAL
from unas_hw.jobs.search import search
from unas_hw.methods.settings import settings_of
from unas_hw.runs import Run

RECORD, PARTS = "search_finals", ("workers", "kills", "seconds")
QUICK = ("--latency-budget", "50%", "--warmup-epochs", "1", "--epochs", "1", "--device", "sim:phone")
ARMS: dict[str, dict[str, Any]] = {
    "one worker": {"workers": 1},
    "two workers": {"workers": 2},
    "ray, two CPUs": {"workers": 2, "ray": "local"},
}
LAST = "train to the end"
TINY = ("--space", str(ROOT / "examples" / "tiny.yaml"), "--set", "unas.compared=12")
QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def timed(finals: str, run: str, **place: Any) -> dict[str, Any]:
    """Seconds of the rungs and of all, and what was found."""
    settings = settings_of(budget="50%", warmup_epochs=1, epochs=1, device="sim:phone", finals=finals, run=run, **place)
    result, marks = marked(search(settings))
    begin = next(at for stage, at in marks if stage == "finals")
    rungs = [at for stage, at in marks if stage.startswith("finals, rung")]
    lines = Run.find(run).lines(JOURNAL)
    return {
        "rungs_s": rungs[-1] - begin,
        "all_s": max(at for stage, at in marks if stage == LAST or stage.startswith("finals")) - begin,
        "found": _found(result),
        "trainings": sorted((line["architecture"], line["rung"], line["seed"], line["loss"]) for line in lines),
    }


def by_workers(networks: int) -> dict[str, Any]:
    """The same finals by each arm: seconds, how much faster than one worker, whether it found the same."""
    arms: dict[str, Any] = {}
    for name, change in ARMS.items():
        arm = timed(str(networks), name.replace(", ", "-"), **change)
        one = arms.get("one worker", arm)
        arms[name] = arm | {
            "faster": one["rungs_s"] / arm["rungs_s"],
            "same": all(arm[key] == one[key] for key in ("found", "trainings")),
        }
    for arm in arms.values():
        arm["trainings"] = len(arm["trainings"])
    return arms


def killed(folder: Path, networks: int, kills: int) -> dict[str, Any]:
    """How often searches were killed in their finals, how many trainings were done twice, which found the same."""
    words = ["search", *QUICK, *TINY, "--finals", str(networks), "--workers", "2"]
    unas_hw(folder, "profile", "--device", "sim:phone", *TINY[:2])
    whole = _found(unas_hw(folder, *words, "--run", "whole"))
    rng, done, twice, found = random.Random(0), 0, 0, list[bool]()
    while done < kills:
        name = f"killed-{len(found)}"
        run = folder / "runs" / name
        while True:
            process = subprocess.Popen([*PROGRAM, *words, "--run", name], cwd=folder, env=environment(folder), **QUIET)
            goal = _trained(run) + rng.randint(1, 4)
            while process.poll() is None and (_trained(run) < goal or done >= kills):
                time.sleep(rng.uniform(0.01, 0.1))
            if process.poll() is not None:
                break  # it has ended
            process.kill()
            process.wait()
            done += 1
        often = Counter((line["architecture"], line["rung"], line["seed"]) for line in Run.open(run).lines(JOURNAL))
        twice += sum(count - 1 for count in often.values())
        found.append(_found(unas_hw(folder, *words, "--run", name)) == whole)
    return {"kills": done, "searches": len(found), "twice": twice, "same": sum(found)}


def _trained(run: Path) -> int:
    return len((run / JOURNAL).read_text("utf-8").splitlines()) if (run / JOURNAL).exists() else 0


def _found(result: dict[str, Any]) -> list[str]:
    return [result["architecture"], result["control"]["words"]]


def main() -> None:
    """All of it, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=16)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seconds", type=int, nargs="*", default=[60, 120, 300])
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="of the others what is kept stays")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="unas-hw-") as place:
        folder = Path(place)
        os.chdir(folder)
        os.environ["UNAS_HW_HOME"] = f"{place}/home"
        unas_hw(folder, "profile", "--device", "sim:phone")
        if "workers" in told.parts:
            keep_part("workers", {"networks": told.networks, **by_workers(told.networks)})
        if "kills" in told.parts:
            keep_part("kills", killed(folder, told.networks, told.kills))
        if "seconds" in told.parts:
            times = {each: timed(f"{each}s", f"time-{each}", workers=2)["all_s"] for each in told.seconds}
            keep_part("seconds", {"asked_and_taken": times})


def keep_part(name: str, found: dict[str, Any]) -> None:
    """Beside the other parts, which may be of another day."""
    print(name, json.dumps(found), flush=True)
    kept = RESULTS / f"{RECORD}.json"
    parts = json.loads(kept.read_text())["parts"] if kept.exists() else {}
    keep(RECORD, {"parts": {**parts, name: {"date": datetime.now(UTC).isoformat(timespec="seconds"), **found}}})


if __name__ == "__main__":
    main()
