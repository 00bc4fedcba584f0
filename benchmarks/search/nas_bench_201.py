"""Searches of NAS-Bench-201 under budgets of real devices: estimators beside random search, evolution and Optuna.

    python -m benchmarks.search.nas_bench_201 --data DIR [--seeds 20] [--slow-seeds 10] [--held-out]

``DIR`` holds ``nb201_accuracy.parquet`` and ``nb201_devices.parquet``. Maximised is the validation accuracy on CIFAR-10
after 12 epochs, where the measured latency is within the 20, 40 or 70% quantile of all 15,625. The answer at n queries
is the best feasible network so far; its accuracy in the test after 200 epochs is looked at only then. Regrets are
those to the best feasible network of all, in percentage points.

A query is a network that was not asked for before; known ones cost nothing, for every method alike. Who asks for known
ones 20 times in a row (evolution: 100) gets a random unknown one as a query. Accuracy and latency of a network become
known with its query and not before, to everyone: ``exact latency`` fits its table to what it has asked. Estimators that
need the gradient of a relaxed network (gumbel, rebar, darts, straight-through, binary-gates) cannot run on a benchmark.

Settings of ours (rate, networks a step, softening, form of the cost, drawing until new, rate of the multiplier) and
which of them is nominated were chosen on ``--held-out``: other devices, other quantiles, CIFAR-100 after 12 epochs, and
seeds from 1,000; in a few dozen trials of the plain estimators, of the others next to none. Evolution has its usual
settings, population 50 and tournament 10, the best of three tried there; Optuna has its defaults and its constraints,
and repeats are told again.

Intervals are of the mean over seeds, 90%, by bootstrap. A method counts as within that of the best one if its mean is
not above the upper end of the interval of the method with the lowest mean.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch

from benchmarks.report import keep
from benchmarks.search.nas_bench_201_methods import (
    METHODS,
    NETWORKS,
    NOMINATED,
    OURS,
    PATIENT,
    PLACES,
    QUERIES,
    REPEATS,
    SLOW,
    Ledger,
    Spent,
)
from benchmarks.tables.nas_bench_201 import FILES, Cells
from profilers.timing import Floats

AT = (100, 200, 500, QUERIES)
CONFIDENCE, RESAMPLES = 0.9, 10_000
KINDS = ("objective", "test")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Which cells there are, and what is maximised and tested in them."""

    devices: tuple[str, ...]
    quantiles: tuple[float, ...]
    objective: str
    test: str
    first_seed: int = 0


REPORTED = Setting(
    devices=("raspi4", "pixel3", "1080ti_1"),
    quantiles=(0.2, 0.4, 0.7),
    objective="cifar10_valid_12ep",
    test="cifar10_test_200ep",
)
HELD_OUT = Setting(
    devices=("fpga", "silver_4114", "titan_rtx_1", "pixel6a"),
    quantiles=(0.3, 0.55),
    objective="cifar100_valid_12ep",
    test="cifar100_test_200ep",
    first_seed=1_000,
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A device and a budget; everything by the network's number.

    Attributes:
        objective, test: Accuracies in percent.
    """

    device: str
    quantile: float
    latency_ms: Floats
    objective: Floats
    test: Floats

    @property
    def budget_ms(self) -> float:
        """So many networks are as fast."""
        return float(np.quantile(self.latency_ms, self.quantile))

    @property
    def feasible(self) -> Any:
        """``(networks,)``, whether it is within the budget."""
        return self.latency_ms <= self.budget_ms

    def regrets(self, asked: list[int]) -> dict[str, list[float]]:
        """At each of ``AT``; an answer that is not feasible is one of accuracy zero."""
        found: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for count in AT:
            able = [network for network in asked[:count] if self.feasible[network]]
            answer = max(able, key=lambda network: self.objective[network], default=None)
            for kind, values in zip(KINDS, (self.objective, self.test), strict=True):
                reached = 0.0 if answer is None else values[answer]
                found[kind].append(float(values[self.feasible].max() - reached))
        return found

    @property
    def floor(self) -> float:
        """Regret in the test of the network that is best in the objective."""
        able = np.flatnonzero(self.feasible)
        return float(self.test[able].max() - self.test[able[self.objective[able].argmax()]])


def read(folder: Path, setting: Setting) -> list[Cell]:
    """All cells of a setting; says in one line what is missing."""
    if not all((folder / name).is_file() for name in FILES):
        raise SystemExit(f"no {' and '.join(FILES)} in {folder}: name their folder with --data or UNAS_HW_DATA")
    accuracies = pd.read_parquet(folder / FILES[1]).sort_values("arch_idx")
    kind = accuracies["rep_arch_idx"].to_numpy(np.int64)
    order = np.argsort(Cells.read(accuracies["arch"].tolist(), kind).op @ PLACES)
    rows = pd.read_parquet(folder / FILES[0], columns=["arch_idx", "device", "latency_ms"])
    cells = []
    for device in setting.devices:
        latency_ms = rows[rows["device"] == device].sort_values("arch_idx")["latency_ms"].to_numpy(np.float64)
        assert len(latency_ms) == NETWORKS
        cells += [
            Cell(
                device=device,
                quantile=quantile,
                latency_ms=latency_ms[order],
                objective=accuracies[setting.objective].to_numpy(np.float64)[order],
                test=accuracies[setting.test].to_numpy(np.float64)[order],
            )
            for quantile in setting.quantiles
        ]
    return cells


def run(cell: Cell, method: str, seed: int) -> dict[str, Any]:
    """One search, as a line of the journal."""
    started = time.process_time()
    ledger = Ledger(cell.objective, cell.latency_ms, cell.budget_ms, seed, PATIENT.get(method, REPEATS))
    with suppress(Spent):
        METHODS[method](ledger, seed)
    seconds = time.process_time() - started
    key = {"device": cell.device, "quantile": cell.quantile, "method": method, "seed": seed}
    return {**key, **cell.regrets(ledger.order), "forced": ledger.forced, "seconds": seconds}


def interval(regrets: Floats) -> tuple[Floats, Floats]:
    """Of the means of ``(seeds, AT)``."""
    rng = np.random.default_rng(0)
    means = regrets[rng.integers(len(regrets), size=(RESAMPLES, len(regrets)))].mean(1)
    low, high = np.quantile(means, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), axis=0)
    return low, high


def summarise(cell: Cell, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Means and intervals of every method in a cell, and which are within the interval of the best."""
    methods: dict[str, Any] = {}
    present = {line["method"] for line in lines}
    for method in (each for each in METHODS if each in present):
        own = [line for line in lines if line["method"] == method]
        entry: dict[str, Any] = {"seeds": len(own), "forced": float(np.mean([line["forced"] for line in own]))}
        for kind in KINDS:
            regrets = np.array([line[kind] for line in own])
            low, high = interval(regrets)
            rounded = [np.round(values, 4).tolist() for values in (regrets.mean(0), low, high)]
            entry[kind] = dict(zip(("mean", "low", "high"), rounded, strict=True))
        methods[method] = entry
    for kind in KINDS:
        found = {method: entry[kind] for method, entry in methods.items()}
        others = [each for method, each in found.items() if method not in OURS]
        for name, among in {"within_best": [*found.values()], "within_best_other": others}.items():
            # Of the method with the lowest mean, the upper end of the interval.
            limits = [min((each["mean"][i], each["high"][i]) for each in among)[1] for i in range(len(AT))]
            for each in found.values():
                each[name] = [mean <= limit for mean, limit in zip(each["mean"], limits, strict=True)]
    key = {"device": cell.device, "quantile": cell.quantile, "budget_ms": cell.budget_ms}
    return {**key, "test_regret_of_best_objective": cell.floor, "methods": methods}


def totals(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Per method: means over cells, and in how many cells it is within the interval of the best."""
    found: dict[str, Any] = {}
    for method in cells[0]["methods"]:
        own = [cell["methods"][method] for cell in cells]
        found[method] = {
            kind: {
                "mean": np.mean([each[kind]["mean"] for each in own], axis=0).round(4).tolist(),
                **{
                    f"cells_{name}": np.sum([each[kind][name] for each in own], axis=0).tolist()
                    for name in ("within_best", "within_best_other")
                },
            }
            for kind in KINDS
        }
    return found


def show(cells: list[dict[str, Any]], of: dict[str, Any]) -> None:
    """The tables."""
    for kind in KINDS:
        print(f"\nregret in {kind}, means over {len(cells)} cells; in how many within the interval of the best of all")
        print("methods, and of the best of those that are not ours")
        print(f"{'queries':<30}" + "".join(f"{count:>14}" for count in AT))
        for method, entry in of.items():
            own = entry[kind]
            columns = zip(own["mean"], own["cells_within_best"], own["cells_within_best_other"], strict=True)
            print(f"{method:<30}" + "".join(f"{mean:>8.3f} {all_:>2} {other:>2}" for mean, all_, other in columns))
    for cell in cells:
        own = cell["methods"][NOMINATED]
        print(f"{cell['device']:<14}{cell['quantile']:.0%}  {cell['budget_ms']:8.3f} ms", end="")
        for kind in KINDS:
            marks = zip(own[kind]["mean"], own[kind]["within_best"], strict=True)
            print(f"   {kind}" + "".join(f"{mean:>8.3f}{'*' if within else ' '}" for mean, within in marks), end="")
        print()


def main() -> None:
    """All cells, all methods; seeds outermost, so that a run that is stopped has something of each."""
    parser = argparse.ArgumentParser(description="Searches of NAS-Bench-201 under budgets of real devices.")
    parser.add_argument("--data", type=Path, default=os.environ.get("UNAS_HW_DATA"), help="folder of the two files")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--slow-seeds", type=int, default=10, help="of methods that take seconds a run")
    parser.add_argument("--held-out", action="store_true", help="what settings are chosen on; nothing is kept")
    parser.add_argument(
        "--journal",
        type=Path,
        default=Path(tempfile.gettempdir()) / "nas_bench_201.jsonl",
        help="what is done; the same command goes on there, so remove it when a method has changed",
    )
    arguments = parser.parse_args()
    if arguments.data is None:
        raise SystemExit(f"no data: name the folder of {' and '.join(FILES)} with --data or UNAS_HW_DATA")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="optuna")  # constraints are marked as experimental
    setting = HELD_OUT if arguments.held_out else REPORTED
    cells = read(Path(arguments.data), setting)
    journal: Path = arguments.journal
    lines = [json.loads(line) for line in journal.read_text("utf-8").splitlines()] if journal.is_file() else []
    done = {(line["device"], line["quantile"], line["method"], line["seed"]) for line in lines}
    seeds = {method: arguments.slow_seeds if method in SLOW else arguments.seeds for method in METHODS}
    with journal.open("a", encoding="utf-8") as file:
        for seed in range(max(seeds.values())):
            for method in (each for each in METHODS if seed < seeds[each]):
                for cell in cells:
                    key = (cell.device, cell.quantile, method, setting.first_seed + seed)
                    if key not in done:
                        lines.append(run(cell, method, setting.first_seed + seed))
                        file.write(json.dumps(lines[-1]) + "\n")
                        file.flush()
            print(f"seed {seed} done", flush=True)
    wanted = [line for line in lines if line["seed"] - setting.first_seed in range(seeds[line["method"]])]
    summaries = [
        summarise(cell, [line for line in wanted if (line["device"], line["quantile"]) == (cell.device, cell.quantile)])
        for cell in cells
    ]
    of = totals(summaries)
    show(summaries, of)
    if arguments.held_out:
        return
    seconds = sum(line["seconds"] for line in wanted if line["device"] in setting.devices)
    print(f"{seconds / 60:.1f} minutes of one core")
    chosen_on = "other devices and quantiles, CIFAR-100 after 12 epochs, seeds from 1000"
    keep(
        "search_nas_bench_201",
        {
            "queries": AT,
            "nominated": NOMINATED,
            "chosen_on": chosen_on,
            "settings": {name: asdict(settings) for name, settings in OURS.items()},
            "optuna": optuna.__version__,
            "repeats_before_a_random_network": {"others": REPEATS, **PATIENT},
            "process_seconds": seconds,
            "over_cells": of,
            "cells": summaries,
        },
    )


if __name__ == "__main__":
    main()
