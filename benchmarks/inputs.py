"""Inputs as people have them, and with the faults that they have: read right, refused with a mend, or wrong.

    python -m benchmarks.inputs [--kinds numbers images networks terminal runs] [--all]

Of each input ``benchmarks/input_kinds`` says beforehand what is right; where a fault leaves no right answer, only a
refusal is. Wrong is any other answer, a traceback, and a refusal without a mend. ``--all`` lists what became of each.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.input_kinds.images import images
from benchmarks.input_kinds.judging import OUTCOMES, Inputs, judged
from benchmarks.input_kinds.networks import networks
from benchmarks.input_kinds.numbers import numbers
from benchmarks.input_kinds.terminal import terminal
from benchmarks.report import keep

KINDS: dict[str, Callable[[], Inputs]] = {
    "numbers": numbers,
    "images": images,
    "networks": networks,
    "terminal": terminal,
}


def counted(kind: str, folder: Path, list_all: bool) -> dict[str, int]:
    """How many of the kind became what; each is tried in a folder of its own."""
    tally: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
    for number, (name, answer, right) in enumerate(KINDS[kind]()):
        place = folder / kind / str(number)
        place.mkdir(parents=True)
        os.chdir(place)
        became, answered = judged(answer, right)
        tally[became] += 1
        if list_all or became in OUTCOMES[2:]:
            print(f"{kind}: {name}: {became}: {answered[:300]}", flush=True)
    print(kind, tally, flush=True)
    return tally


def main() -> None:
    """All kinds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=[*KINDS])
    parser.add_argument("--all", action="store_true", help="list what became of each")
    told = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
        os.environ["UNAS_HW_HOME"] = f"{folder}/home"
        counts = {kind: counted(kind, Path(folder), told.all) for kind in told.kinds}
        os.chdir("/")
    total = {outcome: sum(tally[outcome] for tally in counts.values()) for outcome in OUTCOMES}
    print(f"{sum(total.values())} inputs: {total}")
    if told.kinds == [*KINDS]:
        keep("inputs", {"kinds": counts, "total": total})


if __name__ == "__main__":
    main()
