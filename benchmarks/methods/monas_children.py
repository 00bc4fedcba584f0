"""MONAS that trains its children for real: on one worker, on two, and on a local Ray cluster of two CPUs.

    python -m benchmarks.methods.monas_children [--children 24] [--epochs 12]

Children are of ``mbconv-small`` and learn the digits; costs are the energies of ``sim:phone``. Each arm is a search of
its own from nothing to a network; the machine has to be quiet, and to have two cores. Seconds are those of the children
(the start of their processes included) and of the whole search. All arms have to find the same, child by child.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from typing import Any

from benchmarks.commands import marked
from benchmarks.report import keep
from profilers.registry import open_profiler
from unas_hw.jobs.profile import profile
from unas_hw.jobs.search import search
from unas_hw.methods.monas.config import MonasConfig
from unas_hw.progress import finish
from unas_hw.runs import Run
from unas_hw.search.settings import SearchSettings
from unas_hw.spaces import find_space

SPACE, DEVICE = "mbconv-small", "sim:phone"
ARMS: dict[str, dict[str, Any]] = {
    "one worker": {"workers": 1},
    "two workers": {"workers": 2},
    "ray, two CPUs": {"workers": 2, "ray": "local"},
}


def timed(settings: SearchSettings) -> dict[str, Any]:
    """A search, with the seconds that its children took."""
    begin = time.monotonic()
    result, told = marked(search(settings))
    marks = dict(reversed(told))  # the first time of each stage
    lines = Run.find(settings.run).lines("children.jsonl")
    return {
        "children_seconds": marks["measure candidates"] - marks["children"],
        "seconds": time.monotonic() - begin,
        "busy_seconds": sum(line["seconds"] for line in lines),
        "found": {name: result[name] for name in ("architecture", "child_accuracy", "hypervolume", "front")},
        "accuracies": {line["architecture"]: line["accuracy"] for line in lines},
    }


def main() -> None:
    """All arms, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--children", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=12)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="unas-hw-") as place:
        os.chdir(place)
        os.environ["UNAS_HW_HOME"] = place
        table = finish(profile(find_space(SPACE), open_profiler(DEVICE), energy=True))
        settings = SearchSettings(
            budget="60%",
            space=SPACE,
            table=table.path,
            device=DEVICE,
            config=MonasConfig(),
        )
        config = MonasConfig(children=told.children, child_epochs=told.epochs)
        arms = {}
        for name, change in ARMS.items():
            arms[name] = timed(replace(settings, run=name.replace(", ", "-"), config=config, finals="none", **change))
            one = arms["one worker"]
            faster, whole = (one[key] / arms[name][key] for key in ("children_seconds", "seconds"))
            same = all(arms[name][key] == one[key] for key in ("found", "accuracies"))
            seconds, all_seconds = (arms[name][key] for key in ("children_seconds", "seconds"))
            print(
                f"{name}: {told.children} children in {seconds:.0f} s (x{faster:.2f}), the whole search "
                f"{all_seconds:.0f} s (x{whole:.2f}); {'the same children' if same else 'DIFFERS'}",
                flush=True,
            )
            arms[name] |= {"faster": faster, "faster_whole": whole, "same": same}
    for arm in arms.values():
        del arm["accuracies"]
    keep("methods_monas_children", {"told": vars(told), "arms": arms})


if __name__ == "__main__":
    main()
