"""A device that nobody profiled: latencies of NAS-Bench-201 from other devices and 10 or 30 networks measured on it.

    python -m benchmarks.tables.nas_bench_201 --data DIR

``DIR`` (or its folder ``nas``) holds ``nb201_devices.parquet`` and ``nb201_accuracy.parquet``. Every real device with
all 15,625 cells is the new one in turn; fpga and eyeriss are estimates of tools, and neither targets nor sources.
Sources are the other devices, without the same hardware at other batch sizes or in other runtimes. Two populations:

- ``all``: every cell whose output hangs on its input, tested on other classes of isomorphic cells than the fitted
  ones. Desktop runtimes execute dead edges, phones do not. On Pixel 6a and Raspberry Pi 5 only the representative of
  each class was measured (the others are copies, of what may be another network), hence these alone are taken.
- ``distinct``: representatives on every device. They have next to no dead edges, so this one is easier.

Sources are noisy measurements themselves, hence each is replaced by its own least-squares fit on all its networks.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import nnls
from sklearn.linear_model import RidgeCV

from benchmarks.report import keep
from latency_tables.adapt import adapt
from latency_tables.calibration import spearman
from profilers.timing import Floats

Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

FILES = ("nb201_devices.parquet", "nb201_accuracy.parquet")
CELLS, CONFIDENCE = 15_625, 0.9
DRAWS = range(100, 105)
"""Draws 0 to 4 were looked at while the method was made, so they would flatter it; the devices are the same."""
TOOLS = ("eyeriss", "fpga")
OF_DISTINCT_ONLY = ("pixel6a", "raspi5")
OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
SKIP, CONV_1X1, CONV_3X3, POOL = range(1, 5)
SOURCE_OF_EDGE, TARGET_OF_EDGE = (0, 0, 1, 0, 1, 2), (1, 2, 2, 3, 3, 3)
WIDTHS, IMAGE, CELLS_A_STAGE = (16, 32, 64), 32, 5
RIDGE_STRENGTHS = np.logspace(-6, 2, 17)
ASKED = {"30: median MAPE": 2.5, "30: 90th percentile": 10.0, "30: median Spearman": 0.985, "10: median MAPE": 3.0}


@dataclass(frozen=True, kw_only=True)
class Cells:
    """All cells, by index.

    Attributes:
        op: ``(cells, 6)``, index into ``OPS`` of each edge.
        leads_out: Whether the edge computes something that reaches the output; runtimes drop the others, but not
            those that are fed zeros.
        live: The same, and fed by the input.
        connected: ``(cells,)``, whether the output hangs on the input.
        kind: Index of the representative of its isomorphic cells.
    """

    op: Indices
    leads_out: Flags
    live: Flags
    connected: Flags
    kind: Indices

    @classmethod
    def read(cls, archs: list[str], kind: Indices) -> Cells:
        """From strings such as ``|none~0|+|none~0|none~1|+|none~0|none~1|none~2|``."""
        op = np.array([[OPS.index(name) for name in re.findall(r"\|?(\w+)~\d\|", arch)] for arch in archs])
        fed, used = np.zeros((len(op), 4), bool), np.zeros((len(op), 4), bool)
        fed[:, 0] = used[:, 3] = True
        edges = list(zip(range(6), SOURCE_OF_EDGE, TARGET_OF_EDGE, strict=True))
        for edge, source, target in edges:
            fed[:, target] |= fed[:, source] & (op[:, edge] > 0)
        for edge, source, target in reversed(edges):
            used[:, source] |= used[:, target] & (op[:, edge] > 0)
        leads_out = (op > 0) & used[:, TARGET_OF_EDGE]
        live = leads_out & fed[:, SOURCE_OF_EDGE]
        return cls(op=op, leads_out=leads_out, live=live, connected=fed[:, 3], kind=kind)

    def one_hot(self, edges: Flags) -> Floats:
        """``(cells, 24)``: operation by edge, of the edges chosen."""
        return np.concatenate([(self.op == op) & edges for op in range(1, 5)], axis=1).astype(np.float64)

    def counts(self) -> Floats:
        """``(cells, 13)``: operations by kind and pools that repeat another one.

        Operations count thrice, for runtimes that execute all, those that lead out, and those that also get input.
        """
        sets = (self.op > 0, self.leads_out, self.live)
        kinds = [((self.op == op) & edges).sum(1) for edges in sets for op in range(1, 5)]
        return np.column_stack([*kinds, self.repeated_pools()]).astype(np.float64)

    def repeated_pools(self) -> Floats:
        """Pools of what is pooled already: they have no weights, and compilers compute equal expressions once.

        A node that a single skip connection feeds equals the node that it skips from.
        """
        equal = np.tile(np.arange(3), (len(self.op), 1))
        skip = self.leads_out & (self.op == SKIP)
        equal[skip[:, 0], 1] = 0
        equal[skip[:, 1] & ~self.leads_out[:, 2], 2] = 0
        through = skip[:, 2] & ~self.leads_out[:, 1]
        equal[through, 2] = equal[through, 1]
        pool = self.leads_out & (self.op == POOL)
        pooled = [(pool & (equal[:, SOURCE_OF_EDGE] == node)).any(1) for node in range(3)]
        return np.asarray(pool.sum(1) - np.sum(pooled, axis=0), np.float64)

    def macs(self) -> Floats:
        """Multiply-accumulates of the live cells; stem, reductions and head are the same everywhere."""
        taps = self._live(CONV_1X1) + 9 * self._live(CONV_3X3)
        of_a_tap = sum(C**2 * (IMAGE // 2**stage) ** 2 for stage, C in enumerate(WIDTHS))
        return np.asarray(taps * CELLS_A_STAGE * of_a_tap, np.float64)

    def parameters(self) -> Floats:
        """Of live convolutions, and scale and shift of their normalisations."""
        one, three = self._live(CONV_1X1), self._live(CONV_3X3)
        squares, channels = sum(C**2 for C in WIDTHS), sum(WIDTHS)
        return np.asarray(CELLS_A_STAGE * ((one + 9 * three) * squares + (one + three) * 2 * channels), np.float64)

    def _live(self, op: int) -> Floats:
        return np.asarray(((self.op == op) & self.live).sum(1), np.float64)

    def measured_twice(self, measured: Flags) -> tuple[Indices, Indices]:
        """Pairs of cells that are the same network: nodes 1 and 2 swapped where no edge joins them."""
        powers = len(OPS) ** np.arange(6)
        place = {code: cell for cell, code in enumerate((self.op @ powers).tolist())}
        swapped = np.array([place[code] for code in (self.op[:, [1, 0, 2, 3, 5, 4]] @ powers).tolist()])
        once = (self.op[:, 2] == 0) & (swapped > np.arange(len(swapped)))
        first = np.flatnonzero(once & self.connected & measured & measured[swapped])
        return first, swapped[first]


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device's measurements of all cells, and the hardware it is."""

    name: str
    hardware: str
    latency_ms: Floats

    @property
    def copied(self) -> bool:
        """Whether only representatives were measured."""
        return self.hardware in OF_DISTINCT_ONLY


def read(folder: Path) -> tuple[Cells, list[Device]]:
    """The two files; says in one line what is missing."""
    found = next((place for place in (folder, folder / "nas") if all((place / name).is_file() for name in FILES)), None)
    if found is None:
        raise SystemExit(f"no {' and '.join(FILES)} in {folder}: name their folder with --data or UNAS_HW_DATA")
    cells = pd.read_parquet(found / FILES[1]).sort_values("arch_idx")
    rows = pd.read_parquet(found / FILES[0], columns=["arch_idx", "device", "framework", "latency_ms"])
    devices = []
    rows["name"] = rows["device"].astype(str) + " " + rows["framework"].astype(str)
    for label, group in rows.groupby("name"):
        name = str(label).strip()
        device = name.split()[0]
        if len(group) != CELLS or device in TOOLS:
            continue
        # The batch size is part of the names of graphics cards alone: 1080ti_1, 1080ti_32, 1080ti_256.
        hardware = re.sub(r"_(1|32|256)$", "", device) if re.match(r"\d+ti_|titan", device) else device
        latency_ms = group.sort_values("arch_idx")["latency_ms"].to_numpy(np.float64)
        devices.append(Device(name=name, hardware=hardware, latency_ms=latency_ms))
    return Cells.read(cells["arch"].tolist(), cells["rep_arch_idx"].to_numpy(np.int64)), devices


def smooth(cells: Cells, device: Device, fitted: Indices) -> Floats:
    """A device's own least-squares fit on the cells given: edges, counts and products of counts; for all cells."""
    counts = np.column_stack([cells.counts(), np.ones(len(cells.op))])
    products = [counts[:, i] * counts[:, j] for i, j in combinations_with_replacement(range(counts.shape[1]), 2)]
    design = np.column_stack([cells.one_hot(cells.op > 0), cells.one_hot(cells.leads_out), *products])
    latency_ms = device.latency_ms[fitted]
    solution, *_ = np.linalg.lstsq(design[fitted] / latency_ms[:, None], np.ones(len(fitted)), rcond=1e-9)
    # A fit may fall below zero where nothing was measured.
    return np.asarray(np.maximum(design @ solution, latency_ms.min() / 2), np.float64)


def mape(predicted_ms: Floats, measured_ms: Floats) -> float:
    """In percent."""
    return float(np.mean(np.abs(predicted_ms / measured_ms - 1)) * 100)


def ridge(features: Floats, measured_ms: Floats, train: Indices) -> Floats:
    """Ridge of relative errors, its strength by leave-one-out; predictions for all cells."""
    design = np.column_stack([features, np.ones(len(features))])
    level_ms = float(np.exp(np.log(measured_ms[train]).mean()))
    relative = level_ms / measured_ms[train]
    model = RidgeCV(RIDGE_STRENGTHS, fit_intercept=False).fit(design[train] * relative[:, None], np.ones(len(train)))
    return np.asarray(model.predict(design) * level_ms, np.float64)


def line(cost: Floats, measured_ms: Floats, train: Indices) -> Floats:
    """Least squares of relative errors in one cost and an intercept; predictions for all cells."""
    design = np.column_stack([cost / cost.max(), np.ones(len(cost))])
    solution, *_ = np.linalg.lstsq(design[train] / measured_ms[train, None], np.ones(len(train)), rcond=None)
    return np.asarray(design @ solution, np.float64)


def combination(source_ms: Floats, measured_ms: Floats, train: Indices) -> Floats:
    """Non-negative combination of the sources and nothing else; predictions for all cells."""
    weights, _ = nnls(source_ms[train] / measured_ms[train, None], np.ones(len(train)))
    return np.asarray(source_ms @ weights, np.float64)


def split(kind: Indices, own: Indices, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Networks to fit, in random order, and to test: half of the classes each, so that both look like all."""
    kinds = rng.permutation(np.unique(kind[own]))
    tested = np.isin(kind[own], kinds[len(kinds) // 2 :])
    return rng.permutation(own[~tested]), own[tested]


def evaluate(cells: Cells, devices: list[Device], population: Flags) -> list[dict[str, Any]]:
    """One row a device: errors of ours and of the baselines, means over the draws.

    ``noise_floor``: what one measurement of a network is off, in percent, from pairs that are the same network.
    ``own_fit``: what the sources' fit leaves on all of the device's own networks, a bound for anything of this form.
    """
    counts, macs, parameters = cells.counts(), cells.macs(), cells.parameters()
    live = cells.one_hot(cells.live)
    distinct = cells.kind == np.arange(len(cells.kind))
    usable = {device.name: np.flatnonzero(population & (distinct | (not device.copied))) for device in devices}
    smoothed = {device.name: smooth(cells, device, usable[device.name]) for device in devices}
    rows = []
    for device in devices:
        own, measured_ms = usable[device.name], device.latency_ms
        sources = [other for other in devices if other.hardware != device.hardware]
        source_ms = np.column_stack([smoothed[other.name] for other in sources])
        raw_ms = np.column_stack([other.latency_ms for other in sources])
        draws: dict[str, list[float]] = {}

        def note(name: str, value: float, draws: dict[str, list[float]] = draws) -> None:
            draws.setdefault(name, []).append(value)

        for draw in DRAWS:
            drawn, test = split(cells.kind, own, np.random.default_rng(draw))
            for networks in (10, 30):
                train = drawn[:networks]
                adapted = adapt(source_ms[train], counts[train], measured_ms[train])
                predicted_ms = adapted.latency_ms(source_ms[test], counts[test])
                low, high = adapted.interval(CONFIDENCE)
                ratio = measured_ms[test] / predicted_ms
                note(f"mape_{networks}", mape(predicted_ms, measured_ms[test]))
                note(f"spearman_{networks}", spearman(predicted_ms, measured_ms[test]))
                note(f"coverage_{networks}", float(np.mean((low <= ratio) & (ratio <= high)) * 100))
                note(f"half_width_{networks}", (high - 1) * 100)
                found = combination(raw_ms, measured_ms, train)
                note(f"combination_{networks}", mape(found[test], measured_ms[test]))
            for name, found in {
                "ridge_30": ridge(live, measured_ms, drawn[:30]),
                "ridge_100": ridge(live, measured_ms, drawn[:100]),
                "ridge_900": ridge(live, measured_ms, drawn[:900]),
                "macs_30": line(macs, measured_ms, drawn[:30]),
                "parameters_30": line(parameters, measured_ms, drawn[:30]),
            }.items():
                note(name, mape(found[test], measured_ms[test]))
        first, second = cells.measured_twice(distinct | (not device.copied))
        noise = np.abs(measured_ms[first] / measured_ms[second] - 1).mean() / 2**0.5 * 100
        rows.append(
            {
                "device": device.name,
                "networks": len(own),
                "sources": len(sources),
                "noise_floor": float(noise),
                "own_fit": mape(smoothed[device.name][own], measured_ms[own]),
                "own_fit_spearman": spearman(smoothed[device.name][own], measured_ms[own]),
                **{name: float(np.mean(values)) for name, values in draws.items()},
            }
        )
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Median, mean and 90th percentile over devices of every figure."""
    names = [name for name, value in rows[0].items() if isinstance(value, float)]
    over = {name: np.array([row[name] for row in rows]) for name in names}
    return {
        name: {"median": float(np.median(v)), "mean": float(v.mean()), "p90": float(np.quantile(v, 0.9))}
        for name, v in over.items()
    }


COLUMNS = {
    "noise_floor": ("noise", 7, ".2f"),
    "own_fit": ("own fit", 9, ".2f"),
    "own_fit_spearman": ("rank", 8, ".4f"),
    "mape_30": ("MAPE 30", 9, ".2f"),
    "spearman_30": ("rank", 8, ".4f"),
    "coverage_30": ("covered", 9, ".1f"),
    "mape_10": ("MAPE 10", 9, ".2f"),
    "coverage_10": ("covered", 9, ".1f"),
    "combination_30": ("combin.", 9, ".2f"),
    "ridge_30": ("ridge 30", 10, ".2f"),
    "ridge_100": ("100", 7, ".2f"),
    "ridge_900": ("900", 7, ".2f"),
    "macs_30": ("MACs", 7, ".2f"),
    "parameters_30": ("params", 8, ".2f"),
}


def show(title: str, rows: list[dict[str, Any]], of: dict[str, dict[str, float]]) -> None:
    """The table of one population."""
    print(f"\n{title}\n{'device':<20}" + "".join(f"{head:>{width}}" for head, width, _ in COLUMNS.values()))
    aggregates = [{"device": name, **{key: of[key][name] for key in COLUMNS}} for name in ("median", "mean", "p90")]
    for row in [*rows, *aggregates]:
        cells = (f"{row[key]:{width}{form}}" for key, (_, width, form) in COLUMNS.items())
        print(f"{row['device']:<20}" + "".join(cells))


def main() -> None:
    """Both populations, all devices."""
    parser = argparse.ArgumentParser(description="Latencies of a new device from other devices and a few networks.")
    parser.add_argument("--data", type=Path, default=os.environ.get("UNAS_HW_DATA"), help="folder of the two files")
    folder = parser.parse_args().data
    if folder is None:
        raise SystemExit(f"no data: name the folder of {' and '.join(FILES)} with --data or UNAS_HW_DATA")
    started = time.monotonic()
    cells, devices = read(Path(folder))
    distinct = cells.connected & (cells.kind == np.arange(len(cells.kind)))
    results: dict[str, Any] = {}
    for title, population in (("all", cells.connected), ("distinct", distinct)):
        rows = evaluate(cells, devices, population)
        of = summary(rows)
        show(f"{title}: {int(population.sum())} networks", rows, of)
        reached = {
            "30: median MAPE": of["mape_30"]["median"],
            "30: 90th percentile": of["mape_30"]["p90"],
            "30: median Spearman": of["spearman_30"]["median"],
            "10: median MAPE": of["mape_10"]["median"],
        }
        print("   ".join(f"{name} {value:.4g} (asked {ASKED[name]:g})" for name, value in reached.items()))
        results[title] = {"networks": int(population.sum()), "reached": reached, "summary": of, "devices": rows}
    seconds = time.monotonic() - started
    keep("tables_nas_bench_201", {"draws": list(DRAWS), "seconds": seconds, "asked": ASKED, "populations": results})


if __name__ == "__main__":
    main()
