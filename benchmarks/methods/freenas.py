"""FreeNAS on NAS-Bench-201: seconds, the network it chooses, how proxies rank accuracies, budgets of real devices.

    python -m benchmarks.methods.freenas --data DIR [--picture FILE.svg]

``DIR`` (or its folder ``nas``) holds ``nb201_accuracy.parquet`` and ``nb201_devices.parquet``. One thread throughout. A
journal keeps what is scored, and the same command goes on there; all of it takes about half an hour of one core.

FreeFlow is that of the supernet of ``nas_bench_201`` as published (width 16, 5 cells a stage, 32 pixels), and so are
parameters and MACs. The proxies take a network each: they are computed for all 6,466 distinct cells in networks of one
cell a stage, which is not what was trained, and for 200 of these cells in networks of five. Their batch is random.
Seeds are 0 where nothing else is said, and nothing was chosen by accuracy: alpha is 1, and other constants are shown
only because the ranking hangs on them. A network whose output does not hang on its input counts as worst for all.

Budgets: those that 20, 40 and 70% of all networks keep, by their measurement. ``table`` sees a latency table over live
edges alone, fitted to 900 networks: its networks may exceed the budget when measured, which is printed. ``measured``
has the measurements of all networks. FreeFlow's networks have no ``none``; the others may have.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks.report import keep
from benchmarks.tables.nas_bench_201 import FILES, Cells, Device, Flags, Indices, mape, read
from profilers.timing import Floats
from profilers.workload import Workload
from unas_hw.cost_model import AdditiveModel
from unas_hw.methods.freenas.config import FreenasConfig
from unas_hw.methods.freenas.knapsack import Knapsack
from unas_hw.methods.freenas.search import best_networks, rounds
from unas_hw.space import Architecture, Decision, SearchSpace, Term
from unas_hw.spaces import find_space
from unas_hw.supernet import Supernet
from unas_hw.zero_cost.flow import Flow, free_flow, fresh_supernet
from unas_hw.zero_cost.proxies import PROXIES, Batch, fresh_network
from unas_hw.zero_cost.ranking import correlations

NB201 = "nas_bench_201"
TIMED = (NB201, "darts", "darts?layers=20&width=36", "mbconv")
FORMS = {f"{NB201}?cells=1": None, NB201: 200}
"""Networks that proxies see, and how many of the distinct cells; None is all."""
BATCH_SIZE = 16
SEEDS = (1, 2, 3)
ALPHAS = (1.0, 0.5, 0.2, 0.1, 0.05)
DEVICES = ("raspi4", "raspi5 litert", "pixel3", "1080ti_1", "gold_6226")
QUANTILES = (0.2, 0.4, 0.7)
FITTED = 900
DATASETS = ("cifar10", "cifar100")
SHOWN = 3000


@final
class Edges(SearchSpace):
    """The same decisions, priced by edge and operation as devices are fitted; without ``none`` all edges are live."""

    def __init__(self, decisions: tuple[Decision, ...]) -> None:
        self.name, self.input_shape, self.classes, self.precision = "edges", (1, 3, 32, 32), 10, "float32"
        self._decisions = decisions

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return self._decisions

    def terms(self) -> tuple[Term, ...]:
        keys = [tuple((f"{edge} {op}",) for op in range(5)) for edge in range(6)]
        return tuple(Term((edge,), each) for edge, each in enumerate(keys))

    def workloads(self) -> tuple[Workload, ...]:
        return ()

    def parts(self, architecture: Architecture) -> tuple[Workload, ...]:
        raise NotImplementedError

    def network(self, architecture: Architecture) -> nn.Module:
        raise NotImplementedError

    def supernet(self) -> Supernet:
        raise NotImplementedError


def main() -> None:
    """All of it, in the order of the docstring."""
    parser = argparse.ArgumentParser(description="FreeNAS on NAS-Bench-201.")
    parser.add_argument("--data", type=Path, default=os.environ.get("UNAS_HW_DATA"), help="folder of the two files")
    parser.add_argument("--picture", type=Path, help="SVG: score and parameters against accuracy")
    parser.add_argument("--journal", type=Path, default=Path(tempfile.gettempdir()) / "freenas.jsonl")
    arguments = parser.parse_args()
    if arguments.data is None:
        raise SystemExit(f"no data: name the folder of {' and '.join(FILES)} with --data or UNAS_HW_DATA")
    torch.set_num_threads(1)
    cells, devices = read(arguments.data)
    folder = next(each for each in (arguments.data, arguments.data / "nas") if (each / FILES[1]).is_file())
    table = pd.read_parquet(folder / FILES[1]).sort_values("arch_idx")
    accuracies = {name: table[f"{name}_test_200ep"].to_numpy(np.float64) for name in DATASETS}
    space = find_space(NB201)
    flow = free_flow(space, fresh_supernet(space, 0))
    result: dict[str, Any] = {
        "seconds": {name: seconds(name) for name in TIMED},
        "chosen": {
            each: chosen(cells, accuracies, iterative=each == "iterative") for each in ("one-shot", "iterative")
        },
        "budgets": [
            at_budget(cells, device, quantile, flow, accuracies)
            for name in DEVICES
            for device in devices
            if device.name == name
            for quantile in QUANTILES
        ],
        "alphas": alphas(cells, flow, accuracies["cifar10"]),
    }
    result["over_budgets"] = totals(result["budgets"])
    show(result)
    archs = table["arch"].tolist()
    result["proxies"] = {
        name: ranked(cells, archs, name, count, flow, accuracies["cifar10"], arguments.journal)
        for name, count in FORMS.items()
    }
    show_proxies(result["proxies"])
    if arguments.picture:
        arguments.picture.write_text(picture(cells, flow.scores(space, cells.op), accuracies["cifar10"]), "utf-8")
    keep("methods_freenas", result)


def seconds(name: str) -> dict[str, float]:
    """Of building the supernet, of scoring it, and of the best network within half of the range of MACs."""
    space = find_space(name)
    macs = {workload.key: workload.cost.macs for workload in space.workloads()}
    model = AdditiveModel(space, macs.__getitem__, name="MACs", unit="")
    low, high = model.range
    begin = time.perf_counter()
    supernet = fresh_supernet(space, 0)
    built = time.perf_counter()
    flow = free_flow(space, supernet)
    scored = time.perf_counter()
    paths, exact = best_networks(flow, model, (low + high) / 2, count=1)
    assert paths and exact
    end = time.perf_counter()
    return {"build": built - begin, "score": scored - built, "search": end - scored, "all": end - begin}


def chosen(cells: Cells, accuracies: Mapping[str, Floats], *, iterative: bool) -> dict[str, Any]:
    """The network without any budget, and its regrets."""
    space = find_space(NB201)
    model = AdditiveModel(space, lambda key: 1.0, name="operations", unit="")
    config, most = FreenasConfig(iterative=iterative), model.range[1]
    begin = time.perf_counter()
    flows = list(rounds(space, model, most, config, 0))
    path = best_networks(flows[-1], model, most).paths[0]
    took = time.perf_counter() - begin
    last = [list(rounds(space, model, most, config, seed))[-1] for seed in SEEDS]
    at = _place(cells, path)
    return {
        "architecture": str(space.architecture(path)),
        "seconds": took,
        "rounds": len(flows),
        "other_seeds_agree": sum(best_networks(each, model, most).paths[0] == path for each in last),
        **{name: {"accuracy": each[at], "regret": each.max() - each[at]} for name, each in accuracies.items()},
    }


def at_budget(
    cells: Cells, device: Device, quantile: float, flow: Flow, accuracies: Mapping[str, Floats]
) -> dict[str, Any]:
    """What is found within the latency that this share of the networks keeps."""
    latency_ms, connected = device.latency_ms, np.flatnonzero(cells.connected)
    budget_ms = float(np.quantile(latency_ms, quantile))
    design = np.column_stack([cells.one_hot(cells.live), np.ones(len(cells.op))])
    fitted = np.random.default_rng(0).permutation(connected)[:FITTED]
    found_ms, *_ = np.linalg.lstsq(design[fitted] / latency_ms[fitted, None], np.ones(FITTED), rcond=None)
    solution = np.asarray(found_ms, np.float64)
    predicted_ms = np.asarray(design @ solution, np.float64)
    space = find_space(NB201)
    scores = flow.scores(space, cells.op)
    whole = (cells.op > 0).all(1)
    by_knapsack = _constrained(space, flow, solution, budget_ms)
    allowed = np.flatnonzero(whole & (predicted_ms <= budget_ms))
    by_enumeration = int(allowed[scores[allowed].argmax()]) if len(allowed) else None
    same = by_knapsack is None if by_enumeration is None else (
        by_knapsack is not None and abs(scores[_place(cells, by_knapsack)] - scores[by_enumeration]) < 1e-12
    )  # fmt: skip
    found: dict[str, Any] = {
        "device": device.name,
        "quantile": quantile,
        "budget_ms": budget_ms,
        "table_mape": mape(predicted_ms[connected], latency_ms[connected]),
        "found_exactly": bool(same),
    }
    for name, costs_ms in {"table": predicted_ms, "measured": latency_ms}.items():
        feasible = cells.connected & (costs_ms <= budget_ms)
        best = {
            "freeflow": _best(scores, feasible & whole),
            "freeflow, none allowed": _best(scores, feasible),
            "parameters": _best(cells.parameters(), feasible),
            "MACs": _best(cells.macs(), feasible),
        }
        found[name] = {"feasible": int(feasible.sum())}
        for dataset, accuracy in accuracies.items():
            low, high = np.quantile(accuracy[feasible], (0.05, 0.95))
            found[name][dataset] = {
                **{which: float(accuracy[rows].mean()) if len(rows) else None for which, rows in best.items()},
                "random": float(accuracy[feasible].mean()),
                "random_low": float(low),
                "random_high": float(high),
                "best": float(accuracy[feasible].max()),
            }
        found[name]["latency_ms"] = {
            which: float(latency_ms[rows].mean()) if len(rows) else None for which, rows in best.items()
        }
    return found


def totals(budgets: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over devices and budgets, and in how many FreeFlow's network is more accurate than others."""
    found: dict[str, Any] = {"found_exactly": sum(each["found_exactly"] for each in budgets), "of": len(budgets)}
    for name in ("table", "measured"):
        for dataset in DATASETS:
            own = [each[name][dataset] for each in budgets]
            means = {which: float(np.mean([each[which] for each in own])) for which in own[0]}
            ahead = {
                f"ahead of {which}": sum(each["freeflow"] > each[which] for each in own)
                for which in ("parameters", "MACs", "random", "random_high")
            }
            found[f"{name}, {dataset}"] = means | ahead
    kept = [each["table"]["latency_ms"]["freeflow"] <= each["budget_ms"] for each in budgets]
    return found | {"table_keeps_budget_measured": sum(kept)}


def _constrained(space: SearchSpace, flow: Flow, solution: Floats, budget_ms: float) -> tuple[int, ...] | None:
    """By dynamic programming, which knows nothing of the list of all networks."""
    price_ms = {f"{edge} {op}": solution[6 * (op - 1) + edge] if op else 0.0 for edge in range(6) for op in range(5)}
    edges = Edges(space.decisions)
    model = AdditiveModel(edges, price_ms.__getitem__, name="latency", unit="ms", constant=float(solution[-1]))
    return next(Knapsack(model, flow.tables()).ranked(budget_ms), None)


def _best(scores: Floats, feasible: Flags) -> Indices:
    """All feasible networks of the highest score."""
    return np.flatnonzero(feasible & (scores >= scores[feasible].max(initial=-np.inf)))


def _place(cells: Cells, path: tuple[int, ...]) -> int:
    return int(np.flatnonzero((cells.op == path).all(1))[0])


def alphas(cells: Cells, flow: Flow, accuracy: Floats) -> dict[str, Any]:
    """Rank correlations with other constants."""
    space = find_space(NB201)
    supernet = fresh_supernet(space, 0)
    scores = {
        str(alpha): free_flow(space, supernet, replace(flow, alpha=alpha)).scores(space, cells.op) for alpha in ALPHAS
    }
    return correlations(scores, accuracy, cells.kind)


def ranked(
    cells: Cells, archs: list[str], name: str, count: int | None, flow: Flow, accuracy: Floats, journal: Path
) -> dict[str, Any]:
    """Correlations of all proxies, parameters and MACs over the networks of some distinct cells, or of all of them."""
    distinct = np.unique(cells.kind)
    taken = distinct if count is None else np.random.default_rng(0).permutation(distinct)[:count]
    lines = {line["kind"]: line["scores"] for line in scored(cells, archs, name, taken, journal)}
    rows = np.flatnonzero(np.isin(cells.kind, taken))
    scores = {proxy: np.array([lines[kind][proxy] for kind in cells.kind[rows]], np.float64) for proxy in PROXIES}
    own = {"freeflow": flow.scores(find_space(NB201), cells.op[rows])}
    everything = replace(cells, live=cells.op > 0)
    sizes = {
        "params": cells.parameters()[rows],
        "macs": cells.macs()[rows],
        "params, dead ones too": everything.parameters()[rows],
    }
    seconds = float(np.mean([line["seconds"] for line in lines.values()]))
    found = correlations({**own, **scores, **sizes}, accuracy[rows], cells.kind[rows])
    return {"distinct": len(taken), "seconds_a_network": seconds, "correlations": found}


def scored(cells: Cells, archs: list[str], name: str, kinds: Indices, journal: Path) -> Iterator[dict[str, Any]]:
    """Lines of the journal, new ones appended."""
    space = find_space(name)
    batch = Batch.random(space, BATCH_SIZE, 0)
    text = journal.read_text("utf-8") if journal.is_file() else ""
    lines = [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]
    done = {line["kind"]: line for line in lines if line["space"] == name}
    with journal.open("a", encoding="utf-8") as file:
        for number, kind in enumerate(kinds.tolist()):
            if kind not in done:
                begin = time.perf_counter()
                architecture = space.parse(archs[kind])
                found = dict.fromkeys(PROXIES, -np.inf)
                if cells.connected[kind]:
                    network = fresh_network(space, architecture, 0)
                    found = {proxy: score(network, batch) for proxy, score in PROXIES.items()}
                found["seconds"] = time.perf_counter() - begin
                done[kind] = {"space": name, "kind": kind, "scores": found}
                file.write(json.dumps(done[kind]) + "\n")
                file.flush()
            yield done[kind]
            if number % 500 == 0:
                print(f"{name}: {number} of {len(kinds)}", flush=True)


def show(result: Mapping[str, Any]) -> None:
    """All but the proxies."""
    for name, each in result["seconds"].items():
        print(f"{name:<28}" + "".join(f"  {part} {value:6.2f} s" for part, value in each.items()))
    for name, each in result["chosen"].items():
        print(f"{name}: {each['architecture']}, {each['rounds']} round(s), {each['seconds']:.1f} s; "
              f"the same with {each['other_seeds_agree']} of {len(SEEDS)} other seeds")  # fmt: skip
        for dataset in DATASETS:
            print(f"  {dataset:<9}  {each[dataset]['accuracy']:.2f}%, regret {each[dataset]['regret']:.2f}")
    print("\nCIFAR-10 accuracy within a budget: FreeFlow (without none), parameters, MACs, random (90%), best of all")
    for each in result["budgets"]:
        print(f"{each['device']:<14} {each['quantile']:.0%}  {each['budget_ms']:8.3f} ms, table off by "
              f"{each['table_mape']:.1f}%, optimum found exactly: {each['found_exactly']}")  # fmt: skip
        for name in ("table", "measured"):
            own, excess = each[name]["cifar10"], (each[name]["latency_ms"]["freeflow"] or 0) / each["budget_ms"] - 1
            shown = "".join(f"{own[which] or 0:8.2f}" for which in ("freeflow", "parameters", "MACs", "random"))
            between = f"({own['random_low']:.2f} to {own['random_high']:.2f})"
            print(f"  {name:<9}{shown} {between} {own['best']:8.2f}; none allowed {own['freeflow, none allowed']:.2f}; "
                  f"measured {excess:+.1%} of the budget")  # fmt: skip

    for name, each in result["over_budgets"].items():
        print(f"{name}: " + (", ".join(f"{which} {value:.4g}" for which, value in each.items())
                             if isinstance(each, dict) else str(each)))  # fmt: skip
    for alpha, each in result["alphas"].items():
        print(f"alpha {alpha}: Spearman {each['all']['spearman']:.3f}, best tenth {each['best']['spearman']:.3f}")


def show_proxies(proxies: Mapping[str, Any]) -> None:
    """Rank correlations."""
    for name, each in proxies.items():
        print(f"\n{name}, {each['distinct']} distinct cells, {each['seconds_a_network']:.2f} s each")
        for proxy, of in each["correlations"].items():
            print(f"{proxy:<22}" + "".join(
                f"  {of[which]['spearman']:6.3f} ({of[which]['low']:.3f} to {of[which]['high']:.3f})"
                for which in ("all", "best")
            ))  # fmt: skip


def picture(cells: Cells, scores: Floats, accuracy: Floats) -> str:
    """Two panels of points, as SVG."""
    rows = np.random.default_rng(0).permutation(np.flatnonzero(cells.connected & (accuracy >= 80)))[:SHOWN]
    panels = {"FreeFlow": scores, "parameters of the cells, M": cells.parameters() / 1e6}
    parts = [
        _panel(40 + 330 * number, title, x[rows], accuracy[rows]) for number, (title, x) in enumerate(panels.items())
    ]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 340" font-family="sans-serif" font-size="12">\n'
        '<rect width="700" height="340" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(left: float, title: str, x: Floats, y: Floats) -> str:
    wide, high, top, low, best = 290, 270, 20, 80.0, 95.0
    place: Callable[[Floats], Floats] = lambda value: left + wide * value / x.max()  # noqa: E731
    points = "".join(
        f"M{a:.0f} {b:.0f}h0" for a, b in zip(place(x), top + high * (best - y) / (best - low), strict=True)
    )
    heights = {each: top + high * (best - each) / (best - low) + 4 for each in (80, 85, 90, 95)}
    ticks = "".join(
        f'<text x="{left - 4}" y="{height:.0f}" text-anchor="end">{each}</text>' for each, height in heights.items()
    )
    ends = f'<text x="{left}" y="{top + high + 16}">0</text>' + (
        f'<text x="{left + wide}" y="{top + high + 16}" text-anchor="end">{x.max():.3g}</text>'
    )
    return (
        f'<rect x="{left}" y="{top}" width="{wide}" height="{high}" fill="none" stroke="#888"/>{ticks}{ends}'
        f'<text x="{left + wide / 2}" y="{top + high + 32}" text-anchor="middle">{title}</text>'
        f'<text x="{left}" y="{top - 6}">CIFAR-10 accuracy, %</text>'
        f'<path d="{points}" stroke="#246" stroke-opacity="0.35" stroke-width="3" stroke-linecap="round"/>'
    )


if __name__ == "__main__":
    main()
