"""MONAS on NAS-Bench-201 with measured energies of a Raspberry Pi 5: its front beside NSGA-II's and random ones.

    python -m benchmarks.methods.monas --data DIR [--seeds 10] [--held-out]

``DIR`` holds ``nb201_accuracy.parquet`` and ``nb201_devices.parquet``. Objectives are the accuracy on CIFAR-10 in the
test after 200 epochs (every method sees that one) and the energy of one image, in three runtimes. A front is worth the
area that it dominates, above an accuracy of 10% (guessing) and below the highest energy of the space, as a share of
what the true front dominates; printed is what is missing, in percent.

A query is a network that was not asked for before; known ones cost nothing, for every method alike. Edges that no path
uses are not run, so networks that differ in those only are one, of which the first stands for all; cells whose output
hangs on nothing are answered for nothing, and belong to no front. NSGA-II is Optuna's with its defaults, repeats are
told again; random is without repetition.

Bounds: 20, 40 and 70% of all networks need no more energy than the bound; the reward is the accuracy. The controller
samples as published (one draw, whether it is known or not, no uniform share, nothing imitated), 2,000 times; printed is
the share of its last 200 samples that keep the bound, with graded and with hard bounds, and how far the best feasible
network it has met is from the best of all: a controller that has settled stops looking.

Settings were chosen on ``--held-out`` (latencies of other devices, CIFAR-100 or 12 epochs, seeds from 1,000) and
on made-up accuracies, in some forty trials of one to three seeds each; earlier ones were run on what is reported once.
Intervals are of the mean over seeds, 90%, by bootstrap. It does not show what real training does: accuracies here are
means of up to three seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import numpy as np
import optuna
import pandas as pd
import torch

from benchmarks.report import keep
from benchmarks.search.nas_bench_201 import interval
from benchmarks.search.nas_bench_201_methods import NETWORKS, PATHS, PLACES, Spent
from benchmarks.tables.nas_bench_201 import FILES, OPS, Cells
from profilers.timing import Floats
from unas_hw.methods.monas.config import MonasConfig, Penalty
from unas_hw.methods.monas.rewards import Bound, Child, Reward
from unas_hw.methods.monas.search import Batch, MonasSearch
from unas_hw.search.front import hypervolume
from unas_hw.spaces import find_space

AT = (500, 1_000, 2_000)
SAMPLES, LAST = 2_000, 200
QUANTILES = (0.2, 0.4, 0.7)
PENALTIES: tuple[Penalty, ...] = ("graded", "hard")
BOUNDS: tuple[tuple[float, Penalty], ...] = tuple(
    (quantile, penalty) for penalty in PENALTIES for quantile in QUANTILES
)
PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "monas.svg"
CURVE = tuple(range(50, AT[-1] + 1, 50))
SPACE = find_space("nas_bench_201")
KINDS = np.where(SPACE.live(PATHS), PATHS + 1, 0) @ ((len(OPS) + 1) ** np.arange(PATHS.shape[1]))
"""Equal for networks that run the same."""


@dataclass(frozen=True)
class Setting:
    """Whose accuracies and costs there are.

    Attributes:
        name: Of the device, or of its runtime.
        framework: Of the rows; any where there is but one.
        column: Of the costs.
        accuracy: Column of the accuracies.
        guessing: Accuracy of that.
    """

    name: str
    device: str
    framework: str | None
    column: str
    accuracy: str
    guessing: float


REPORTED = tuple(
    Setting(f"raspi5 {framework}", "raspi5", framework, "energy_mj", "cifar10_test_200ep", 0.1)
    for framework in ("litert", "onnx", "torchmobile")
)
HELD_OUT = (
    Setting("raspi4", "raspi4", None, "latency_ms", "cifar100_test_200ep", 0.01),
    Setting("silver_4114", "silver_4114", None, "latency_ms", "cifar100_test_200ep", 0.01),
    Setting("pixel6a", "pixel6a", None, "latency_ms", "cifar10_valid_12ep", 0.1),
)


@dataclass(frozen=True, kw_only=True)
class Networks:
    """All of them, by number.

    Attributes:
        accuracy: 0 to 1.
        cost: Millijoules, or milliseconds.
        guessing: Accuracy of the reference point.
    """

    accuracy: Floats
    cost: Floats
    guessing: float

    @cached_property
    def usable(self) -> Any:
        return SPACE.usable(PATHS)

    @cached_property
    def whole(self) -> float:
        return self._area(np.flatnonzero(self.usable))

    def _area(self, numbers: Any) -> float:
        points = np.stack([self.accuracy[numbers], -self.cost[numbers]], 1)
        return hypervolume(points, (self.guessing, -float(self.cost[self.usable].max())))

    def missing(self, numbers: Sequence[int]) -> float:
        """Of the true front's area, in percent."""
        return 100 * (1 - self._area(list(numbers)) / self.whole)


def read(folder: Path, setting: Setting) -> Networks:
    """Of a setting; says in one line what is missing."""
    if not all((folder / name).is_file() for name in FILES):
        raise SystemExit(f"no {' and '.join(FILES)} in {folder}: name their folder with --data or UNAS_HW_DATA")
    accuracies = pd.read_parquet(folder / FILES[1]).sort_values("arch_idx")
    kind = accuracies["rep_arch_idx"].to_numpy(np.int64)
    order = np.argsort(Cells.read(accuracies["arch"].tolist(), kind).op @ PLACES)
    rows = pd.read_parquet(folder / FILES[0])
    rows = rows[rows["device"] == setting.device]
    if setting.framework:
        rows = rows[rows["framework"] == setting.framework]
    costs = rows.sort_values("arch_idx")[setting.column].to_numpy(np.float64)
    assert len(costs) == NETWORKS
    # Networks that run the same were measured or trained several times: the first stands for all.
    _, first, which = np.unique(KINDS, return_index=True, return_inverse=True)
    return Networks(
        accuracy=accuracies[setting.accuracy].to_numpy(np.float64)[order][first][which] / 100,
        cost=costs[order][first][which],
        guessing=setting.guessing,
    )


@final
class Ledger:
    """What a search may know: networks cost a query the first time they are asked for.

    Attributes:
        order: The networks asked for, in that order.
    """

    def __init__(self, networks: Networks, queries: int) -> None:
        self.networks, self._queries = networks, queries
        self.order: list[int] = []
        self._known = set[int]()

    def ask(self, number: int) -> tuple[float, float]:
        """Accuracy and cost; raises ``Spent`` with the last query."""
        kind = int(KINDS[number])
        if kind not in self._known and self.networks.usable[number]:
            self._known.add(kind)
            self.order.append(number)
            if len(self.order) == self._queries:
                raise Spent
        return float(self.networks.accuracy[number]), float(self.networks.cost[number])


Method = Callable[[Ledger, int], None]


def random_search(ledger: Ledger, seed: int) -> None:
    """Without repetition."""
    for number in np.random.default_rng(seed).permutation(NETWORKS).tolist():
        ledger.ask(number)


def nsga(ledger: Ledger, seed: int) -> None:
    """Optuna's NSGA-II with its defaults."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    edges: dict[str, optuna.distributions.BaseDistribution] = {
        str(edge): optuna.distributions.CategoricalDistribution(OPS) for edge in range(PATHS.shape[1])
    }
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.NSGAIISampler(seed=seed))
    while True:
        trial = study.ask(edges)
        path = np.array([OPS.index(str(trial.params[edge])) for edge in edges])
        study.tell(trial, ledger.ask(int(path @ PLACES)))


def search_of(networks: Networks, seed: int, limit: float | None = None, **settings: Any) -> MonasSearch:
    """The search of ``--method monas``, with its defaults."""
    costs = networks.cost[networks.usable]
    low, high = float(costs.min()), float(costs.max())

    def cost(child: Child) -> float:
        return child.latency_ms  # whatever it is, there is but one here

    config = MonasConfig(children=NETWORKS, reward="mixed" if limit is None else "constraint", **settings)
    bounds = () if limit is None else (Bound(cost, limit, high),)
    reward = Reward(config.reward, cost, (low, high), bounds, penalty=config.penalty, ranked=limit is None)
    return MonasSearch(SPACE, reward, config, seed)


def priced(ledger: Ledger, batch: Batch) -> list[Child]:
    """The children of a batch, which are not trained."""
    answers = [ledger.ask(int(np.array(path) @ PLACES)) for path in batch.paths]
    return [
        Child(path=path, accuracy=accuracy, latency_ms=cost)
        for path, (accuracy, cost) in zip(batch.paths, answers, strict=True)
    ]


def monas(ledger: Ledger, seed: int) -> None:
    """Ours."""
    search = search_of(ledger.networks, seed)
    while not search.is_done:
        batch = search.propose()
        search.learn(batch, priced(ledger, batch))


METHODS: Mapping[str, Method] = MappingProxyType({"monas": monas, "optuna NSGA-II": nsga, "random": random_search})


def run(networks: Networks, name: str, method: str, seed: int) -> dict[str, Any]:
    """One search, as a line of the journal."""
    begin, ledger = time.process_time(), Ledger(networks, AT[-1])
    with suppress(Spent):
        METHODS[method](ledger, seed)
    curve = [networks.missing(ledger.order[:count]) for count in CURVE]
    return {"setting": name, "method": method, "seed": seed, "curve": curve, "seconds": time.process_time() - begin}


def run_bound(networks: Networks, name: str, quantile: float, penalty: Penalty, seed: int) -> dict[str, Any]:
    """One search within a bound on the cost, as a line of the journal: sampled as published, see the module."""
    limit = float(np.quantile(networks.cost[networks.usable], quantile))
    ledger = Ledger(networks, NETWORKS)
    search = search_of(networks, seed, limit, draws=1, softening=0.0, imitation=0.0, penalty=penalty)
    costs, best = list[float](), 0.0
    while len(costs) < SAMPLES:
        batch = search.propose()
        children = priced(ledger, batch)
        search.learn(batch, children)
        costs += [child.latency_ms for child in children]
        best = max([best, *(child.accuracy for child in children if child.latency_ms <= limit)])
    kept = np.array(costs[:SAMPLES]) <= limit
    able = networks.usable & (networks.cost <= limit)
    return {
        "setting": name, "method": f"bound {quantile:.0%} {penalty}", "seed": seed, "limit": limit,
        "kept_first": float(kept[:LAST].mean()), "kept_last": float(kept[-LAST:].mean()),
        "networks": len(ledger.order), "regret": 100 * float(networks.accuracy[able].max() - best),
    }  # fmt: skip


def summarise(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of a setting: means over seeds and their intervals."""
    found: dict[str, Any] = {}
    for method in METHODS:
        own = [line for line in lines if line["method"] == method]
        curves = np.array([line["curve"] for line in own])
        low, high = interval(curves)
        columns = [CURVE.index(count) for count in AT]
        found[method] = {
            "seeds": len(own),
            **{
                key: np.round(values[columns], 4).tolist()
                for key, values in (("mean", curves.mean(0)), ("low", low), ("high", high))
            },
            "curve": np.round(curves.mean(0), 4).tolist(),
        }
    for quantile, penalty in BOUNDS:
        own = [line for line in lines if line["method"] == f"bound {quantile:.0%} {penalty}"]
        if own:
            last = np.array([line["kept_last"] for line in own])
            found[own[0]["method"]] = {
                "seeds": len(own),
                "limit": own[0]["limit"],
                "kept_first": float(np.mean([line["kept_first"] for line in own])),
                "kept_last": float(last.mean()),
                "kept_last_lowest": float(last.min()),
                "networks": float(np.mean([line["networks"] for line in own])),
                "regret": float(np.mean([line["regret"] for line in own])),
            }
    return found


def drawing(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """What is missing by queries, on a logarithmic axis, a panel per setting."""
    width, height, left, top = 270, 240, 46, 26
    colours = {"monas": "#c33", "optuna NSGA-II": "#36c", "random": "#888"}
    curves = [found[method]["curve"] for found in settings.values() for method in METHODS]
    low, high = np.log10(max(min(map(min, curves)), 1e-3)), np.log10(max(map(max, curves)))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {len(settings) * width + 10} {height + 46}"'
        ' font-family="sans-serif" font-size="11" fill="#333">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for panel, (name, found) in enumerate(settings.items()):
        start, wide, tall = panel * width + left, width - left - 8, height - top - 10
        parts.append(f'<text x="{start}" y="16">{name}: missing hypervolume, %</text>')
        parts.append(f'<path d="M{start} {top}V{top + tall}H{start + wide}" fill="none" stroke="#333"/>')
        for power in range(int(np.ceil(low)), int(np.floor(high)) + 1):
            y = top + tall * (high - power) / (high - low)
            parts.append(f'<text x="{start - 4}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
        for count in AT:
            x = start + wide * count / AT[-1]
            parts.append(f'<text x="{x - 12:.1f}" y="{top + tall + 14}">{count}</text>')
        for method, colour in colours.items():
            points = " ".join(
                f"{start + wide * count / AT[-1]:.1f},"
                f"{top + tall * (high - max(np.log10(max(value, 1e-3)), low)) / (high - low):.1f}"
                for count, value in zip(CURVE, found[method]["curve"], strict=True)
            )
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    for place, (method, colour) in enumerate(colours.items()):
        parts.append(f'<text x="{left + place * 150}" y="{height + 36}" fill="{colour}">{method}</text>')
    parts.append(f'<text x="{left + 450}" y="{height + 36}">by queries of networks not asked for before</text>')
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    """All settings, all methods; seeds outermost, so that a run that is stopped has something of each."""
    parser = argparse.ArgumentParser(description="MONAS on NAS-Bench-201 beside NSGA-II and random search.")
    parser.add_argument("--data", type=Path, default=os.environ.get("UNAS_HW_DATA"), help="folder of the two files")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--held-out", action="store_true", help="what settings are chosen on; nothing is kept")
    parser.add_argument(
        "--journal",
        type=Path,
        default=Path(tempfile.gettempdir()) / "methods_monas.jsonl",
        help="what is done; the same command goes on there, so remove it when a method has changed",
    )
    arguments = parser.parse_args()
    if arguments.data is None:
        raise SystemExit(f"no data: name the folder of {' and '.join(FILES)} with --data or UNAS_HW_DATA")
    torch.set_num_threads(1)
    settings, first_seed = (HELD_OUT, 1_000) if arguments.held_out else (REPORTED, 0)
    every = {setting.name: read(Path(arguments.data), setting) for setting in settings}
    journal: Path = arguments.journal
    lines = [json.loads(line) for line in journal.read_text("utf-8").splitlines()] if journal.is_file() else []
    done = {(line["setting"], line["method"], line["seed"]) for line in lines}
    seeds = range(first_seed, first_seed + arguments.seeds)
    with journal.open("a", encoding="utf-8") as file:
        for seed in seeds:
            for name, networks in every.items():
                tasks = [(method, partial(run, networks, name, method, seed)) for method in METHODS] + [
                    (f"bound {quantile:.0%} {penalty}", partial(run_bound, networks, name, quantile, penalty, seed))
                    for quantile, penalty in BOUNDS
                ]
                for method, task in tasks:
                    if (name, method, seed) not in done:
                        lines.append(task())
                        file.write(json.dumps(lines[-1]) + "\n")
                        file.flush()
            print(f"seed {seed} done", flush=True)
    wanted = [line for line in lines if line["seed"] in seeds]
    found = {name: summarise([line for line in wanted if line["setting"] == name]) for name in every}
    for name, of in found.items():
        print(f"\n{name}: missing hypervolume in percent after {AT} queries, 90% interval of the mean")
        for method in METHODS:
            columns = zip(of[method]["mean"], of[method]["low"], of[method]["high"], strict=True)
            print(f"  {method:<16}" + "".join(f"{mean:9.4f} ({low:.4f}-{high:.4f})" for mean, low, high in columns))
        for quantile, penalty in BOUNDS:
            own = of[f"bound {quantile:.0%} {penalty}"]
            print(
                f"  bound {quantile:.0%} {penalty}: {own['kept_first']:.1%} of the first {LAST} samples keep it, "
                f"{own['kept_last']:.1%} of the last (lowest seed {own['kept_last_lowest']:.1%}), "
                f"regret {own['regret']:.3f} points in {own['networks']:.0f} networks"
            )
    if arguments.held_out:
        return
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(drawing(found), encoding="utf-8")
    reached = {name: of["monas"]["mean"][-1] <= of["optuna NSGA-II"]["mean"][-1] for name, of in found.items()}
    print(f"at least equal to NSGA-II after {AT[-1]}: {reached}")
    keep(
        "methods_monas",
        {
            "queries": AT, "curve_at": CURVE, "accuracy": "cifar10_test_200ep", "config": asdict(MonasConfig()),
            "chosen_on": [asdict(setting) for setting in HELD_OUT], "optuna": optuna.__version__,
            "at_least_equal_to_nsga": reached, "settings": found,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
