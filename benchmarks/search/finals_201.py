"""Which networks to train, and which of them to take: a model beside simple rules, at equal numbers of trainings.

    python -m benchmarks.search.finals_201 --data DIR [--seeds 20] [--held-out] [--folder DIR]

``DIR`` holds ``nb201_accuracy.parquet`` and ``nb201_devices.parquet``. A training is looked up: the validation accuracy
on CIFAR-10 after 12 epochs. Budgets are those of ``nas_bench_201``: the latency measured on three devices within the
20, 40 or 70% quantile. The pool has all networks within the budget, once each where they differ in dead edges only.
Regret is the test accuracy after 200 epochs of the best of the pool less that of the answer, in percentage points.

- ``proposer``: ``unas_hw.finals``, with batches of 8 trainings up to 64 and of 32 from there. It knows multiply-
  accumulates and weights of each network, and counts of its operations and of the ways through it;
- ``random``; ``largest``: every other training is that of the network with the most weights, the others are random;
- ``prior``: in the order of what the proposer is told of them.

All but the proposer answer with the best validation accuracy. Settings were chosen on ``--held-out``: other devices,
quantiles and seeds, CIFAR-100 as well as CIFAR-10. Intervals are of the mean over seeds, 95%, by bootstrap. In
``--folder`` lies what is done; the same command goes on there.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmarks.commands import working_folder
from benchmarks.report import keep
from benchmarks.search.nas_bench_201 import HELD_OUT, REPORTED, Cell, Setting, read
from benchmarks.search.nas_bench_201_methods import PATHS
from benchmarks.tables.nas_bench_201 import CONV_1X1, CONV_3X3, FILES, OPS, POOL, SKIP
from profilers.timing import Floats
from unas_hw.finals.proposer import Proposer
from unas_hw.ops.nas_bench_201 import EDGES, NODES, live_edges
from unas_hw.resources import Macs, Params
from unas_hw.spaces import find_space

AT = (32, 64, 500)
FIRST, LATER, CHANGE = 8, 32, 64
"""Trainings in a batch up to ``CHANGE`` trainings, and from there."""
CONFIDENCE, RESAMPLES = 0.95, 10_000


@dataclass(frozen=True)
class Pool:
    """N networks within a budget.

    Attributes:
        inputs: ``(N, F)``, those of ``features``.
        scores: ``(N,)`` by name.
        objective, test: ``(N,)`` accuracies in percent.
    """

    inputs: Floats
    scores: Mapping[str, Floats]
    objective: Floats
    test: Floats

    def most_accurate(self, rows: Sequence[int]) -> int:
        """Of these, in the objective."""
        return max(rows, key=lambda row: self.objective[row])


Search = Iterator[tuple[Sequence[int], int]]
"""The rows that were trained and the one that is the answer, after each batch."""


def features() -> Floats:
    """``(networks, features)``: how often each operation lives, and counts of the ways from input to output.

    They are: how many there are, how many of skips only, and of poolings and skips only; the most convolutions, the
    most 3x3 convolutions and the fewest convolutions on one. Operations of each edge follow, one-hot.
    """
    cells = np.where(live_edges(PATHS != 0), PATHS, 0)
    one_hot = cells[:, :, None] == np.arange(1, len(OPS))
    ways = [cells[:, way] for way in _ways(0)]
    whole = np.stack([(way != 0).all(1) for way in ways])
    convs = np.stack([np.isin(way, (CONV_1X1, CONV_3X3)).sum(1) for way in ways])
    convs_3x3 = np.stack([(way == CONV_3X3).sum(1) for way in ways])
    skips = np.stack([(way == SKIP).all(1) for way in ways])
    pools = np.stack([(way == POOL).any(1) for way in ways])
    counts = (
        whole.sum(0),
        skips.sum(0),
        (whole & pools & (convs == 0)).sum(0),
        np.where(whole, convs, 0).max(0),
        np.where(whole, convs_3x3, 0).max(0),
        np.where(whole, convs, NODES).min(0),
    )
    return np.column_stack([one_hot.sum(1), *counts, one_hot.reshape(len(cells), -1) / 2]).astype(np.float64)


def _ways(node: int) -> list[list[int]]:
    """Edges of every way from a node to the last one."""
    if node == NODES - 1:
        return [[]]
    return [[edge, *rest] for edge, (to, source) in enumerate(EDGES) if source == node for rest in _ways(to)]


def pools(cells: Sequence[Cell]) -> list[Pool]:
    """Of cells, in that order."""
    every, space = features(), find_space("nas_bench_201")
    scores = {"macs": Macs(space).values(PATHS), "params": Params(space).values(PATHS)}
    kinds = np.unique(np.where(live_edges(PATHS != 0), PATHS, 0), axis=0, return_inverse=True)[1].ravel()
    found = []
    for cell in cells:
        able = np.flatnonzero(cell.feasible)
        able = able[np.unique(kinds[able], return_index=True)[1]]
        own = {name: score[able] for name, score in scores.items()}
        found.append(Pool(every[able], own, cell.objective[able], cell.test[able]))
    return found


def proposer(pool: Pool, seed: int) -> Search:
    """Refitted with every batch."""
    ours, rows = Proposer(pool.inputs, pool.scores, seed), list[int]()
    while True:
        batch = ours.propose(FIRST if len(rows) < CHANGE else min(LATER, AT[-1] - len(rows)))
        for row in batch:
            ours.tell(row, float(pool.objective[row]))
        rows += batch
        yield rows, ours.best()


def _in_order(pool: Pool, order: Sequence[int]) -> Search:
    for count in AT:
        yield order[:count], pool.most_accurate(order[:count])


def random(pool: Pool, seed: int) -> Search:
    """Without repetition."""
    return _in_order(pool, np.random.default_rng(seed).permutation(len(pool.test)).tolist())


def largest(pool: Pool, seed: int) -> Search:
    """Half of them."""
    largest_first = np.argsort(-pool.scores["params"], kind="stable").tolist()
    drawn = np.random.default_rng(seed).permutation(len(pool.test)).tolist()
    return _in_order(pool, [*dict.fromkeys(chain.from_iterable(zip(largest_first, drawn, strict=True)))])


def prior(pool: Pool, seed: int) -> Search:
    """Whatever the seed."""
    return _in_order(pool, np.argsort(-Proposer(pool.inputs, pool.scores, seed).prior(), kind="stable").tolist())


METHODS: Mapping[str, Callable[[Pool, int], Search]] = MappingProxyType(
    {"proposer": proposer, "random": random, "largest": largest, "prior": prior}
)


def run(pool: Pool, method: str, seed: int) -> dict[str, Any]:
    """Regrets at each of ``AT``, and the processor time in seconds."""
    started, regrets = time.process_time(), dict[int, float]()
    for rows, answer in METHODS[method](pool, seed):
        regrets[len(rows)] = float(pool.test.max() - pool.test[answer])
        if len(rows) >= AT[-1]:
            break
    return {"regrets": [regrets[count] for count in AT], "seconds": time.process_time() - started}


def summarise(regrets_CSA: Floats) -> dict[str, list[float]]:
    """Means over cells and seeds of ``(cells, seeds, AT)``, and intervals: seeds are drawn anew in every cell."""
    rng, (cells, seeds, _) = np.random.default_rng(0), regrets_CSA.shape
    means = [
        np.mean([regrets_CSA[cell, rng.integers(seeds, size=seeds)].mean(0) for cell in range(cells)], 0)
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(means, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), axis=0)
    found = {"mean": regrets_CSA.mean((0, 1)), "low": low, "high": high}
    return {name: values.round(4).tolist() for name, values in found.items()}


def show(of: Mapping[str, Mapping[str, list[float]]]) -> None:
    """The table."""
    print(f"{'regret after trainings':<24}" + "".join(f"{count:>22}" for count in AT))
    for method, found in of.items():
        columns = zip(found["mean"], found["low"], found["high"], strict=True)
        print(f"{method:<24}" + "".join(f"{mean:8.3f} [{low:.3f}, {high:.3f}]" for mean, low, high in columns))


def journey(setting: Setting, data: Path, seeds: int, journal: Path) -> list[dict[str, Any]]:
    """All lines of the journal, which goes on where it ended; seeds outermost."""
    lines = [json.loads(line) for line in journal.read_text("utf-8").splitlines()] if journal.is_file() else []
    done = {(line["device"], line["quantile"], line["method"], line["seed"]) for line in lines}
    cells = read(data, setting)
    of = pools(cells)
    with journal.open("a", encoding="utf-8") as file:
        for seed in range(setting.first_seed, setting.first_seed + seeds):
            for cell, pool in zip(cells, of, strict=True):
                for method in METHODS:
                    key = (cell.device, cell.quantile, method, seed)
                    if key not in done:
                        named = dict(zip(("device", "quantile", "method", "seed"), key, strict=True))
                        lines.append({**named, **run(pool, method, seed)})
                        file.write(json.dumps(lines[-1]) + "\n")
                        file.flush()
            print(f"seed {seed} done", flush=True)
    wanted = range(setting.first_seed, setting.first_seed + seeds)
    return [line for line in lines if line["seed"] in wanted]


def totals(setting: Setting, lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """By method, over all cells."""
    return {
        method: summarise(np.array([
            [
                line["regrets"]
                for line in sorted(lines, key=lambda line: line["seed"])
                if (line["device"], line["quantile"], line["method"]) == (device, quantile, method)
            ]
            for device in setting.devices
            for quantile in setting.quantiles
        ]))
        for method in METHODS
    }  # fmt: skip


def main() -> None:
    """Runs what is not done, and prints and keeps it all."""
    parser = argparse.ArgumentParser(description="Which networks to train, and which of them to take.")
    parser.add_argument("--data", type=Path, default=os.environ.get("UNAS_HW_DATA"), help="folder of the two files")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--held-out", action="store_true", help="what settings are chosen on; nothing is kept")
    parser.add_argument("--folder", type=Path, help="what is done; remove it when a method has changed")
    arguments = parser.parse_args()
    if arguments.data is None:
        raise SystemExit(f"no data: name the folder of {' and '.join(FILES)} with --data or UNAS_HW_DATA")
    settings = {"reported": REPORTED}
    if arguments.held_out:
        cifar10 = replace(HELD_OUT, objective=REPORTED.objective, test=REPORTED.test)
        settings = {"held_out_cifar100": HELD_OUT, "held_out_cifar10": cifar10}
    with working_folder(arguments.folder) as folder:
        for name, setting in settings.items():
            lines = journey(setting, Path(arguments.data), arguments.seeds, folder / f"{name}.jsonl")
            of = totals(setting, lines)
            print(name)
            show(of)
            if name == "reported":
                seconds = {each: sum(line["seconds"] for line in lines if line["method"] == each) for each in METHODS}
                by_cell = {
                    f"{device} {quantile:.0%}": totals(
                        replace(setting, devices=(device,), quantiles=(quantile,)), lines
                    )
                    for device in setting.devices
                    for quantile in setting.quantiles
                }
                keep(
                    "search_finals_201",
                    {"trainings": AT, "seeds": arguments.seeds, "process_seconds": seconds, "over_cells": of}
                    | {"cells": by_cell},
                )


if __name__ == "__main__":
    main()
