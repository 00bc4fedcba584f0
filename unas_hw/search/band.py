"""Networks of a band of cost: random ones, all nearly equally probable, and those that have most of something else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from unas_hw.cost_model import AdditiveModel
from unas_hw.search.selection import CANDIDATES, LOOKED_AT, Path
from unas_hw.terms import Costs, Paths

DRAWS, TRIES, HALVINGS, ENOUGH = 4096, 25, 40, 0.02
"""Networks of a draw; draws; steps to the slope at which they are as dear as the band; share in it that is enough."""


def drawn(
    model: AdditiveModel, low: float, high: float, count: int, seed: int, fits: Callable[[Path], bool] | None = None
) -> list[Path]:
    """Random usable networks with a cost in ``[low, high]``, each once, as many as are found, ``count`` at most.

    Uniform draws of many decisions hardly ever reach the ends of a space. So choices are drawn with probabilities that
    fall or rise exponentially with their part of the cost: among networks of one cost that is uniform, and within the
    band it is made so by leaving some out.
    """
    rng = np.random.default_rng(seed)
    parts = model.costs.of_groups()
    slope = _slope(model, parts, low, high)
    found: dict[Path, Path] = {}
    for _ in range(TRIES):
        choices = np.stack([rng.choice(len(each), DRAWS, p=_softmax(slope * each)) for each in parts], 1)
        paths_NG, uniform = model.costs.decode(choices), rng.random(DRAWS)
        sums = sum((each[choices[:, m]] for m, each in enumerate(parts)), np.zeros(DRAWS))
        values = model.values(paths_NG)
        inside = (low <= values) & (values <= high) & model.space.usable(paths_NG)
        if not inside.any():
            continue
        weights = -slope * sums
        inside &= uniform <= np.exp(weights - weights[inside].max())
        for path in map(tuple, paths_NG[inside].tolist()):
            if len(found) < count and model.space.running(path) not in found and (fits is None or fits(path)):
                found[model.space.running(path)] = path
        if len(found) == count:
            break
    return list(found.values())


def most(
    model: AdditiveModel,
    other: AdditiveModel,
    low: float,
    high: float,
    pool: Paths,
    fits: Callable[[Path], bool] | None = None,
) -> Path | None:
    """The network with a cost in ``[low, high]`` that has most of something else; None where there is none.

    Exact where decisions add up one by one; otherwise the best of a pool of networks and of those that would be best
    if they did.
    """
    scores = [torch.zeros(count, dtype=torch.float64) for count in other.costs.counts]
    for decisions, table in other.costs.tables.items():
        for axis, g in enumerate(decisions):
            beside = tuple(each for each in range(table.ndim) if each != axis)
            scores[g] += torch.from_numpy(np.asarray(table.mean(beside) / len(decisions)))
    scale = max(float(each.abs().max()) for each in scores) or 1.0
    ranked = model.most_probable([each / scale for each in scores], low, high, LOOKED_AT if fits else CANDIDATES)
    able = [path for path in [*ranked, *map(tuple, pool.tolist())] if fits is None or fits(path)]
    return able[int(other.values(np.array(able)).argmax())] if able else None


def _slope(model: AdditiveModel, parts: list[Costs], low: float, high: float) -> float:
    """At which the median cost of draws is the middle of the band; 0 where enough uniform draws are in the band."""
    uniform = np.random.default_rng(0).random((len(parts), DRAWS // 8))

    def costs(slope: float) -> Costs:
        pairs = zip(parts, uniform, strict=True)
        places = [np.searchsorted(_softmax(slope * each).cumsum(), of).clip(max=len(each) - 1) for each, of in pairs]
        return model.values(model.costs.decode(np.stack(places, 1)))

    if ((low <= costs(0.0)) & (costs(0.0) <= high)).mean() > ENOUGH:
        return 0.0
    gentlest, steepest = np.array([-50, 50]) / max(*(float(np.ptp(each)) for each in parts), 1e-12)
    for _ in range(HALVINGS):
        slope = (gentlest + steepest) / 2
        if np.median(costs(slope)) < (low + high) / 2:
            gentlest = slope
        else:
            steepest = slope
    return float(gentlest + steepest) / 2


def _softmax(scores: Costs) -> Costs:
    shares = np.exp(scores - scores.max())
    return np.asarray(shares / shares.sum(), np.float64)
