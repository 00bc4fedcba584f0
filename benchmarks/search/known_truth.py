"""Searches whose answer is looked up instead of trained: NAS-Bench-Macro and NAS-Bench-201, on CIFAR-10.

    python -m benchmarks.search.known_truth --truth DIR --images cifar10.npz [--space macro] [--device sim:phone]
        [--budgets 20 30 40 50 60] [--seeds 0 1 2] [--groups now before fbnet evolution] [--finals 450s] [--folder DIR]
        [--workers 2]

``--truth`` has ``nasbench_macro_cifar10.parquet`` or ``nb201_accuracy.parquet``; ``--images`` is CIFAR-10 as an
``.npz``, of which the first 10,000 images train at 16 pixels and 1,112 validate. Regret is the true accuracy of the
best network that the table has within the budget less that of the answer, in percentage points; ``band_regret`` that of
the best which uses 96 to 100% of the budget.

- ``now``: ``unas-hw search`` with finals of one worker, for ``--finals``; ``before``: as it was in November 2026;
  ``fbnet``: ``--method fbnet``;
- ``evolution``: a supernet trained as that of ``now``, by uniform paths; then regularised evolution (Real et al., arXiv
  1802.01548) over its loss;
- ``random``: the mean of all networks that use 96 to 100% of the budget; ``macs`` and ``params``: the most of them
  within the budget.

All that search have the processor time of ``now`` in the same cell, on one thread. The warm-up is the same for every
budget of a seed, so it is run once, and counted each time. In ``--folder`` lies what is done; the same command goes on.
Settings were chosen on budgets of 15, 22, 25, 28, 35, 45 and 55% and other seeds.
``--budgets --groups evolution`` ranks only.
"""

from __future__ import annotations

import argparse
import json
import math
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from benchmarks.commands import unas_hw, working_folder
from benchmarks.report import keep
from benchmarks.search.known_truth_searches import (
    BAND,
    IMAGES,
    PIXELS,
    SEARCHES,
    SPACES,
    TRUTH,
    VALID,
    Plan,
    Task,
    do,
    step_s,
)
from unas_hw.search.evidence import WEIGHTS

STAGES = (("now",), ("before", "fbnet"), ("evolution",))
"""All but the first are given the time that it took."""
EPOCHS, TURNS = "epochs.json", 3


def subset(source: Path, target: Path) -> None:
    """The first images of CIFAR-10, small."""
    with np.load(source) as full:
        images, labels = full["images"], full["labels"]
    pixels = torch.from_numpy(images[: IMAGES + VALID + 2000]).permute(0, 3, 1, 2).float()
    small = interpolate(pixels, size=PIXELS, mode="area").round().byte().permute(0, 2, 3, 1).numpy()
    cut = IMAGES + VALID
    np.savez(
        target, images=small[:cut], labels=labels[:cut], test_images=small[cut:], test_labels=labels[cut : len(small)]
    )


def ruled(plan: Plan) -> list[dict[str, Any]]:
    """Random networks, the most MACs, the most parameters."""
    rows, networks = [], plan.networks
    for percent in plan.budgets:
        able = networks[networks["ms"] <= plan.budget_ms(percent)]
        best = able["accuracy"].max()
        band = able[able["ms"] >= BAND * plan.budget_ms(percent)]
        rows.append({"group": "random", "budget": percent, "regret": best - band["accuracy"].mean()})
        most = {rule: able["accuracy"].iloc[able[rule].argmax()] for rule in ("macs", "params")}
        rows += [{"group": rule, "budget": percent, "regret": best - value} for rule, value in most.items()]
    return rows


def summary(rows: list[dict[str, Any]], facts: dict[str, Any]) -> dict[str, Any]:
    """Mean regrets with 95% intervals over cells, the differences to ``now`` cell by cell, and ranks."""
    groups: dict[str, Any] = {}
    ranked = [row for row in rows if row["group"] == "rank"]
    rows = [row for row in rows if row["group"] != "rank"]
    now = {(row["seed"], row["budget"]): row["regret"] for row in rows if row["group"] == "now"}
    for group in dict.fromkeys(row["group"] for row in rows):
        own = [row for row in rows if row["group"] == group]
        entry = _interval([row["regret"] for row in own])
        entry["by_budget"] = {
            str(budget): fmean(row["regret"] for row in own if row["budget"] == budget)
            for budget in dict.fromkeys(row["budget"] for row in own)
        }
        pairs = [
            row["regret"] - regret
            for row in own
            for (seed, budget), regret in now.items()
            if row["budget"] == budget and row.get("seed", seed) == seed
        ]
        if group != "now" and len(pairs) > 1:
            entry["above_now"] = _interval(pairs)
        for name in (
            "band_regret",
            "warm_s",
            "search_s",
            "used",
            "alpha_and_accuracy",
            "alpha_and_ms",
            "expected_ms",
            "mode_ms",
        ):
            if values := [row[name] for row in own if row.get(name) is not None]:
                entry[name] = fmean(values)
        groups[group] = entry
    ranks = {
        score: {
            name: _interval([row[score][name] for row in ranked])
            for name in ("spearman", "tau", "better half", "top tenth")
        }
        for score in ("loss", "macs", "params", *WEIGHTS)
        if ranked
    }
    return {**facts, "groups": groups, "ranks": ranks, "rows": [*rows, *ranked]}


def equal_epochs(plan: Plan, groups: list[str], seeds: list[int]) -> dict[str, tuple[int, int]]:
    """Of warm-up and search, with which each group takes as long as a cell of ``now`` did on the average.

    Steps of all are timed in turns, since the speed of a machine changes; what they say of ``now`` beside what its
    cells took is how much slower the machine was then. They stay what they are in a folder that is gone on with.
    """
    kept = plan.folder / EPOCHS
    known: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    if new := [group for group in groups if group not in known]:
        cells = [
            json.loads((plan.folder / f"now-{seed}-{percent}.json").read_text())
            for seed in seeds
            for percent in plan.budgets
        ]
        warm_s = fmean(cell["warm_s"] for cell in cells)
        total_s = warm_s + fmean(cell["search_s"] for cell in cells)
        turns = [{group: step_s(plan, group) for group in ("now", *new)} for _ in range(TURNS)]
        step = {group: np.median([turn[group] for turn in turns], axis=0) for group in ("now", *new)}
        warm, last = plan.epochs["now"]
        epoch_s = {group: step[group] * warm_s / (warm * step["now"][0]) for group in new}
        for group in new:
            known[group] = max(round((total_s - last * epoch_s[group][1]) / epoch_s[group][0]), 1), last
        kept.write_text(json.dumps(known))
    return {group: (known[group][0], known[group][1]) for group in groups}


def _interval(values: list[float]) -> dict[str, Any]:
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    mean = fmean(values)
    return {
        "cells": len(values),
        "mean": mean,
        "standard_error": error,
        "low": mean - 1.96 * error,
        "high": mean + 1.96 * error,
    }


def show(total: dict[str, Any]) -> None:
    """The tables."""
    columns = {
        "band_regret": "of the band",
        "warm_s": "warm-up s",
        "search_s": "search s",
        "alpha_and_accuracy": "alpha~truth",
        "alpha_and_ms": "~ms",
    }
    heads = (f"{each:>12}" for each in columns.values())
    print(f"\n{'':<12}{'regret':>8}{'95% interval':>18}{'above now (s.e.)':>20}", *heads)
    for group, each in total["groups"].items():
        above = each.get("above_now")
        beside = f"{above['mean']:.2f} ({above['mean'] / max(above['standard_error'], 1e-9):.1f})" if above else ""
        more = (f"{each[name]:>12.2f}" if name in each else " " * 12 for name in columns)
        print(f"{group:<12}{each['mean']:>8.2f}{each['low']:>9.2f}{each['high']:>9.2f}{beside:>20}", *more)
    for score, each in total["ranks"].items():
        print(f"{score:<14}" + "  ".join(f"{name} {value['mean']:.3f}" for name, value in each.items()))


def main() -> None:
    """All tasks; the result is kept after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--space", choices=[*SPACES], default="macro")
    parser.add_argument("--device", default="sim:phone")
    parser.add_argument("--budgets", type=int, nargs="*", default=[20, 30, 40, 50, 60])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--groups", nargs="*", default=[*SEARCHES, "evolution"])
    parser.add_argument("--finals", default="450s", help="of now, as unas-hw search takes it")
    parser.add_argument("--epochs", type=int, nargs=2, default=[3, 1], help="of warm-up and search, of now")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    words = parser.parse_args()
    for path, option in ((words.truth / TRUTH[words.space], "--truth, its folder"), (words.images, "--images")):
        if not path.is_file():
            raise SystemExit(f"there is no {path}: say with {option}, where it is")
    if words.budgets and "now" not in words.groups:
        parser.error("--groups lacks now, whose time the others are given; what --folder has of it is not done again")
    torch.set_num_threads(1)
    with working_folder(words.folder) as folder:
        plan = Plan(folder, words.space, words.truth.resolve(), Path(), words.device, {}, tuple(words.budgets))
        if not plan.images.exists():
            subset(words.images, plan.images)
        profiled = unas_hw(
            folder, "profile", "--space", SPACES[words.space], "--dataset", str(plan.images), "--device", words.device
        )
        plan = replace(plan, table=Path(profiled["path"]))
        plan = replace(plan, epochs={"now": tuple(words.epochs)}, finals=words.finals)
        facts: dict[str, Any] = {"space": words.space, "device": words.device, "finals": words.finals}
        rows = ruled(plan)
        name = f"search_known_truth_{words.space}_{words.device.partition(':')[2] or words.device}"
        for stage in STAGES:
            groups = [group for group in stage if group in words.groups]
            if not groups:
                continue
            if beside := [group for group in groups if group in SEARCHES and group != "now"]:
                plan = replace(plan, epochs={**plan.epochs, **equal_epochs(plan, beside, words.seeds)})
            facts["epochs"] = dict(plan.epochs)
            print(groups, facts, flush=True)
            tasks = [Task(group, seed) for seed in words.seeds for group in groups]
            with ProcessPoolExecutor(words.workers, get_context("spawn")) as pool:
                for future in as_completed([pool.submit(do, replace(plan), task) for task in tasks]):
                    rows += future.result()
                    for row in (row for row in future.result() if "budget" in row):
                        print(f"{row['group']} {row['seed']} {row['budget']}%: regret {row['regret']:.2f}", flush=True)
                    if not words.dry:
                        keep(name, summary(rows, facts))
    show(summary(rows, facts))


if __name__ == "__main__":
    main()
