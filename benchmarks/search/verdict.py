"""How often a verdict's interval holds the true advantage: finals whose trainings are looked up or drawn.

    python -m benchmarks.search.verdict --truth DIR [--budgets 20 30 40 50 60] [--seeds 12] [--entrants 16]
        [--controls 3 4 6 8]

``--truth`` has ``nasbench_macro_cifar10.parquet``: three trainings of each of 6,561 networks. Budgets are percent of
the way from the fewest MACs to the most. Entrants are the largest of a band, control networks drawn from it and
nominees, the first by a score that ranks the band about as well as a search does (a Spearman correlation near 0.5).

- ``table``: a network's three trainings, in any order, are the one that chooses, the repeat and the truth. That truth
  has chance of its own, by which the interval is widened before it is looked at;
- ``drawn``: the truth is the mean of three, exactly, and trainings differ from it as those of the band do;
- ``normal``: truth and trainings are normal, with the band's mean and deviations.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from benchmarks.report import keep
from benchmarks.search.known_truth_searches import TRUTH
from profilers.timing import Floats
from unas_hw.finals.verdict import Advantage, Winner, verdict

BANDS, ENOUGH = (0.96, 0.94), 30
"""Shares of the budget that are used at least; the second where too few networks use the first."""
IMAGES = 10_000
BLUR = 3**0.5
"""The score's error, in deviations of the accuracy."""
SOURCES = {"table": (1,), "drawn": (1, 2), "normal": (1, 2)}
"""How often the winner is trained again."""


@dataclass(frozen=True)
class Band:
    """Networks of a budget, the largest last.

    Attributes:
        trained: ``(N, 3)`` accuracies, in percent.
    """

    trained: Floats

    @property
    def variance(self) -> float:
        """Of one training, in squared points."""
        return float(self.trained.var(1, ddof=1).mean())

    def world(self, source: str, rng: np.random.Generator) -> tuple[Floats, Floats, float]:
        """Trainings ``(N, 3)``, true accuracies ``(N,)``, and the variance of those."""
        mean_N, shape = self.trained.mean(1), self.trained.shape
        if source == "table":
            trained_N3 = rng.permuted(self.trained, axis=1)
            return trained_N3, trained_N3[:, 2], self.variance
        if source == "drawn":
            residuals = math.sqrt(3 / 2) * (self.trained - mean_N[:, None])
            return mean_N[:, None] + rng.choice(residuals.ravel(), shape), mean_N, 0.0
        true_N = rng.normal(mean_N.mean(), mean_N.std(), len(mean_N))
        return true_N[:, None] + rng.normal(0, math.sqrt(self.variance), shape), true_N, 0.0


def bands(truth: Path, budgets: Sequence[int]) -> list[Band]:
    """One per budget; networks that compute the same are one."""
    rows = pd.read_parquet(truth / TRUTH["macro"])
    names = [f"test_acc_{number}" for number in range(3)]
    rows = rows.drop_duplicates([*names, "flops"]).sort_values("flops")
    least, most = rows["flops"].iloc[0], rows["flops"].iloc[-1]
    found = []
    for percent in budgets:
        budget = least + percent / 100 * (most - least)
        able = rows[rows["flops"] <= budget]
        wide, wider = (able[able["flops"] >= share * budget] for share in BANDS)
        found.append(Band((wide if len(wide) >= ENOUGH else wider)[names].to_numpy(float)))
    return found


def final(
    band: Band, source: str, controls: int, repeats: int, entrants: int, rng: np.random.Generator
) -> dict[str, Any]:
    """One search's end: who won, what the verdict says, and whether that is so."""
    trained_N3, true_N, chance = band.world(source, rng)
    largest = len(true_N) - 1
    scores_N = true_N + rng.normal(0, BLUR * true_N.std(), len(true_N))
    nominees = np.argsort(-scores_N)[: entrants - 1 - controls].tolist()
    control = rng.choice(len(true_N), controls, replace=False).tolist()
    best = max({*nominees, *control, largest}, key=lambda place: float(trained_N3[place, 0]))
    winner: Winner = "largest" if best == largest else "control" if best in control else "nominee"
    again = next(place for place in control if place != best)
    share_N3 = trained_N3 / 100
    found = verdict(
        share_N3[best, 1 : 1 + repeats].tolist(),
        [share_N3[place, : 2 if place == again else 1].tolist() for place in control],
        None if best == largest else share_N3[largest, :2].tolist(),
        images=IMAGES,
        winner_is=winner,
    )
    expected = band.trained.mean() if source == "table" else true_N.mean()
    row: dict[str, Any] = {
        "random": looked_at(found.over_random, float(true_N[best] - expected), chance),
        "regret": float(true_N.max() - true_N[best]),
        "spearman": float(np.asarray(spearmanr(scores_N, true_N))[0]),
        "won": winner,
    }
    if found.over_largest:
        row["largest"] = looked_at(found.over_largest, float(true_N[best] - true_N[largest]), 2 * chance)
    return row


def looked_at(advantage: Advantage, true: float, chance: float) -> dict[str, Any]:
    """``chance`` is the variance of what is taken as true, in squared points."""
    assert advantage.points is not None and advantage.margin is not None
    return {
        "held": abs(advantage.points - true) <= math.hypot(advantage.margin, 1.96 * math.sqrt(chance)),
        "margin": advantage.margin,
        "better": advantage.differs and advantage.points > 0,
        "cannot be told": not advantage.told,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares and means over finals; regret is to the best of the band, in points."""
    total: dict[str, Any] = {name: fmean(row[name] for row in rows) for name in ("regret", "spearman")}
    total["control won"] = fmean(row["won"] == "control" for row in rows)
    for over in ("random", "largest"):
        compared = [row[over] for row in rows if over in row]
        means = {name: fmean(each[name] for each in compared) for name in compared[0]} if compared else {}
        total[over] = {"finals": len(compared), **means}
    return total


def main() -> None:
    """All sources, sizes of the control group and repeats."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--budgets", type=int, nargs="+", default=[20, 30, 40, 50, 60])
    parser.add_argument("--seeds", type=int, default=12, help="finals per budget")
    parser.add_argument("--entrants", type=int, default=16)
    parser.add_argument("--controls", type=int, nargs="+", default=[3, 4, 6, 8])
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    words = parser.parse_args()
    if not (words.truth / TRUTH["macro"]).is_file():
        raise SystemExit(f"there is no {TRUTH['macro']} in {words.truth}: say with --truth, where it is")
    known, found = bands(words.truth, words.budgets), []
    print(f"networks of the bands: {[len(band.trained) for band in known]}")
    print("source, control, repeats: over: interval holds the truth, half-width, better, cannot be told")
    for source, repeated in SOURCES.items():
        for controls in words.controls:
            for repeats in repeated:
                rows = [
                    final(band, source, controls, repeats, words.entrants, np.random.default_rng([seed, place]))
                    for seed in range(words.seeds)
                    for place, band in enumerate(known)
                ]
                found.append({"source": source, "control": controls, "repeats": repeats, **summary(rows)})
                parts = [
                    f"{over}: {each['held']:.0%} ± {each['margin']:.2f}, {each['better']:.0%}, "
                    f"{each['cannot be told']:.0%}"
                    for over in ("random", "largest")
                    if (each := found[-1][over])["finals"]
                ]
                print(f"{source:<7}{controls:>2}{repeats:>2}  {'   '.join(parts)}, regret {found[-1]['regret']:.2f}")
    if not words.dry:
        networks = [len(band.trained) for band in known]
        facts = {"budgets": words.budgets, "seeds": words.seeds, "entrants": words.entrants, "bands": networks}
        keep("search_verdict", {**facts, "groups": found})


if __name__ == "__main__":
    main()
