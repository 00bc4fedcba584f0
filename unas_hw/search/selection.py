"""From a distribution to the one network that ships: the mode and the most probable ones that fit are measured, the
best of those that keep the budget is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, final

import numpy as np
from torch import Tensor

from profilers.timing import TimingRule
from unas_hw.distribution import ArchitectureDistribution
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import ANCHOR_MOVE, FINAL, NetworkMeter, Reading

CANDIDATES = 6
LOOKED_AT = 400
"""Networks of the latency's band of which those are taken that keep all other budgets."""
DRAWS = 20_000
ROUNDS = 4
CHANCE = 2.0
"""Standard errors within which two validation losses do not differ (95%)."""
BAND = 0.96
"""Candidates are predicted to use at least this share of what they may: an unused budget is unused accuracy."""

Path = tuple[int, ...]
Losses = Callable[[Path], Tensor]
Order = Callable[[Sequence[Path]], list[Path]]
"""Puts networks in order, the best first."""


@final
@dataclass
class Selection:
    """What was found.

    Attributes:
        readings: Every candidate that was measured.
        best: The network to ship; None while none meets the budget.
        losses: On the validation images, with the shared weights; of those candidates whose losses were compared.
        nearest: The measured candidate with the lowest latency.
    """

    readings: dict[Path, Reading] = field(default_factory=dict)
    best: Path | None = None
    losses: dict[Path, float] = field(default_factory=dict)

    @property
    def nearest(self) -> Path:
        """The measured candidate with the lowest latency."""
        return min(self.readings, key=lambda path: self.readings[path].judged_ms)

    def candidates(self, model: LatencyModel) -> Iterator[dict[str, Any]]:
        """What was measured, as plain values, in order."""
        for path, reading in self.readings.items():
            yield {
                "architecture": str(model.space.architecture(path)),
                "predicted_ms": model.latency_ms(path),
                "latency_ms": reading.judged_ms,
                "upper_ms": reading.upper_ms if math.isfinite(reading.margin) else None,
                "valid_loss": self.losses.get(path),
            }


def select(
    distribution: ArchitectureDistribution,
    model: LatencyModel,
    meter: NetworkMeter,
    budget_ms: float,
    losses: Losses,
    rule: TimingRule,
    headroom: float = ANCHOR_MOVE,
    fits: Callable[[Path], bool] | None = None,
    compared: int = CANDIDATES,
    order: Order | None = None,
    compared_losses: Losses | None = None,
) -> Iterator[Selection]:
    """Measures candidates until one that uses the budget meets it; yields after each round, the answer last.

    Candidates, all of them usable, are the mode, if it fits too, and of the most probable networks the first in an
    order. They are predicted to lie between ``BAND`` and all of the budget less a headroom: a later measurement is
    judged as it is while the anchors move by less than that. Where predictions turn out too low, they are corrected by
    what was measured and the next round aims lower. Without a headroom predictions are the verdict, and the mode too
    has to lie in that band.

    Args:
        distribution: What the search has learnt.
        model: Predicts.
        meter: Measures.
        budget_ms: T.
        losses: ``(N,)`` validation losses of a network with the shared weights, one per image.
        rule: How long to measure.
        headroom: Share of the budget that is left for later measurements.
        fits: Whether a network keeps all other budgets; None where there are none.
        compared: The most probable networks of which the first are measured.
        order: Puts networks in order, the best first, of which the first that uses the budget is kept. By default the
            lowest losses are measured, and ``best_of`` says which one is kept.
        compared_losses: ``(N,)`` losses that decide, one per image; those on the validation images by default.
    """
    losses = cache(losses)
    decide = cache(compared_losses) if compared_losses else losses
    log_probs = [probs.detach().log() for probs in distribution.probs()]
    mode, selection = distribution.mode(), Selection()
    correction = 1.0
    for number in range(ROUNDS):
        top_ms = budget_ms / correction
        neighbours = probable(model, log_probs, top_ms, headroom, fits, compared)
        if compared > CANDIDATES:
            by_loss = sorted(neighbours, key=lambda path: float(decide(path).mean()))
            neighbours = (order(neighbours) if order else by_loss)[:CANDIDATES]
        least_ms = 0.0 if headroom else BAND * top_ms
        most_ms = top_ms * (1 - headroom)
        mode_may_fit = model.space.is_usable(mode) and least_ms <= model.latency_ms(mode) <= most_ms
        mode_may_fit = mode_may_fit and (fits is None or fits(mode))
        paths = [mode, *neighbours] if mode_may_fit else neighbours
        paths = [path for path in dict.fromkeys(paths) if path not in selection.readings]
        if not paths:
            break
        architectures = [model.space.architecture(path) for path in paths]
        readings = meter.measure(architectures, label=FINAL, rule=rule)
        selection.readings.update(zip(paths, readings, strict=True))
        selection.losses.update((path, float(losses(path).mean())) for path in paths)
        within = [path for path, reading in selection.readings.items() if reading.upper_ms <= budget_ms]
        fitting = [path for path in within if fits is None or fits(path)]
        if not fitting:
            selection.best = None
        else:
            selection.best = best_of(fitting, decide, model, order)
        if not set(fitting).isdisjoint(neighbours):  # a mode that fits with room to spare leaves the budget unused
            break
        ratios = [reading.judged_ms / model.latency_ms(path) for path, reading in selection.readings.items()]
        correction = max(float(np.median(ratios)), 1.0) * (1 + 0.02 * number)
        yield selection
    yield selection


def select_first(
    ranked: Callable[[float], Sequence[Path]],
    model: LatencyModel,
    meter: NetworkMeter,
    budget_ms: float,
    rule: TimingRule,
    headroom: float = ANCHOR_MOVE,
) -> Iterator[Selection]:
    """Measures the first networks of a ranking; yields after each round, the answer last.

    The best is the first one that meets the budget. Where predictions turn out too low, they are corrected by what was
    measured and the ranking is asked for smaller networks.

    Args:
        ranked: Networks that are predicted to take at most so many milliseconds, best first.
        model: Predicts.
        meter: Measures.
        budget_ms: T.
        rule: How long to measure.
        headroom: Share of the budget that is left for later measurements.
    """
    selection, correction = Selection(), 1.0
    for number in range(ROUNDS):
        paths = list(ranked(budget_ms * (1 - headroom) / correction))[:CANDIDATES] or [model.smallest]
        paths = [path for path in dict.fromkeys(paths) if path not in selection.readings]
        if not paths:
            break
        readings = meter.measure([model.space.architecture(path) for path in paths], label=FINAL, rule=rule)
        selection.readings.update(zip(paths, readings, strict=True))
        selection.best = next((path for path in paths if selection.readings[path].upper_ms <= budget_ms), None)
        if selection.best is not None:
            break
        ratios = [reading.judged_ms / model.latency_ms(path) for path, reading in selection.readings.items()]
        correction = max(float(np.median(ratios)), 1.0) * (1 + 0.02 * (number + 1))
        yield selection
    yield selection


def best_of(paths: Sequence[Path], losses: Losses, model: LatencyModel, order: Order | None = None) -> Path:
    """The first in an order of those that use the budget: as the slowest does.

    Without an order it is the lowest mean loss of those that use it as the slowest does that is worse by no more than
    chance: ``CHANCE`` standard errors of the difference on the same images.

    An unused budget is unused accuracy, but a few percent of it say nothing: ``BAND``. Slow by prediction, since the
    highest of several measurements would not repeat itself.
    """
    if order:
        return order(_using(paths, model))[0]
    loss = {path: losses(path) for path in paths}

    def mean(path: Path) -> tuple[float, Path]:
        return float(loss[path].mean()), path

    lowest = min(paths, key=mean)

    def as_good(path: Path) -> bool:
        worse = loss[path] - loss[lowest]
        return path == lowest or bool(worse.mean() <= CHANCE * worse.std() / len(worse) ** 0.5)

    return min(_using(list(filter(as_good, paths)), model), key=mean)


def _using(paths: Sequence[Path], model: LatencyModel) -> list[Path]:
    """Those that use about as much of the budget as the slowest."""
    least_ms = BAND * max(map(model.latency_ms, paths))
    return [path for path in paths if model.latency_ms(path) >= least_ms]


def probable(
    model: LatencyModel,
    log_probs: Sequence[Tensor],
    budget_ms: float,
    headroom: float,
    fits: Callable[[Path], bool] | None,
    count: int = CANDIDATES,
) -> list[Path]:
    """The most probable networks of the band; of the whole budget, then anything below, where the band is empty."""
    aim_ms = budget_ms * (1 - headroom)
    for low, high in ((BAND * aim_ms, aim_ms), (BAND * aim_ms, budget_ms), (0.0, budget_ms)):
        if low > model.latency_ms(model.largest):
            continue
        if fits is None:
            paths = model.most_probable(log_probs, low, high, count)
        else:
            paths = [path for path in model.most_probable(log_probs, low, high, LOOKED_AT) if fits(path)][:count]
            paths = paths or _drawn(model, log_probs, low, high, fits, count)
        if paths:
            return paths
    return [model.smallest]


def _drawn(
    model: LatencyModel,
    log_probs: Sequence[Tensor],
    low_ms: float,
    high_ms: float,
    fits: Callable[[Path], bool],
    count: int,
) -> list[Path]:
    """Networks that the search itself would draw, where none of the most probable ones keeps every budget."""
    rng = np.random.default_rng(0)
    drawn = [rng.choice(len(each), DRAWS, p=np.exp(each.numpy()) / np.exp(each.numpy()).sum()) for each in log_probs]
    paths_NG = np.unique(np.stack(drawn, 1), axis=0)
    costs_ms = model.values(paths_NG)
    paths_NG = paths_NG[(low_ms <= costs_ms) & (costs_ms <= high_ms) & model.space.usable(paths_NG)]
    found = [tuple(path) for path in paths_NG.tolist() if fits(tuple(path))]

    def probability(path: Path) -> float:
        return sum(float(each[index]) for each, index in zip(log_probs, path, strict=True))

    return sorted(found, key=lambda path: (-probability(path), path))[:count]
