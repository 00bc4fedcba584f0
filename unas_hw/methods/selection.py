"""From a distribution to the one network that ships: the most probable ones that fit are measured, the best is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np
from torch import Tensor

from profilers.timing import TimingRule
from unas_hw.distribution import ArchitectureDistribution
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import ANCHOR_MOVE, Meter, Reading

CANDIDATES = 6
ROUNDS = 4
BAND = 0.96
"""Candidates are predicted to use at least this share of what they may: an unused budget is unused accuracy."""

Path = tuple[int, ...]


@final
@dataclass
class Selection:
    """What was found.

    Attributes:
        readings: Every candidate that was measured.
        best: The network to ship; None while none meets the budget.
        nearest: The measured candidate with the lowest latency.
    """

    readings: dict[Path, Reading] = field(default_factory=dict)
    best: Path | None = None

    @property
    def nearest(self) -> Path:
        """The measured candidate with the lowest latency."""
        return min(self.readings, key=lambda path: self.readings[path].judged_ms)


def select(
    distribution: ArchitectureDistribution,
    model: LatencyModel,
    meter: Meter,
    budget_ms: float,
    loss: Callable[[Path], float],
    rule: TimingRule,
) -> Iterator[Selection]:
    """Measures candidates until one meets the budget; yields after each round, the last time with the answer.

    Candidates are the most probable networks that are predicted to lie between ``BAND`` and all of the budget less
    a headroom of ``ANCHOR_MOVE``: a later measurement is judged as it is while the anchors move by less than that.
    Where predictions turn out too low, they are corrected by what was measured and the next round aims lower.

    Args:
        distribution: What the search has learnt.
        model: Predicts.
        meter: Measures.
        budget_ms: T.
        loss: Validation loss of a network with the shared weights; the lowest of those that meet the budget wins.
        rule: How long to measure.
    """
    log_probs = [probs.detach().log() for probs in distribution.probs()]
    selection = Selection()
    correction = 1.0
    for number in range(ROUNDS):
        top_ms = budget_ms / correction
        paths = _candidates(model, log_probs, top_ms)
        mode = distribution.mode()
        if number == 0 and model.latency_ms(mode) <= top_ms and _binds_nothing(model, top_ms):
            paths = [mode, *(path for path in paths if path != mode)]
        paths = [path for path in paths if path not in selection.readings]
        if not paths:
            break
        architectures = [model.space.architecture(path) for path in paths]
        readings = meter.measure(architectures, label="final", rule=rule)
        selection.readings.update(zip(paths, readings, strict=True))
        fitting = [path for path, reading in selection.readings.items() if reading.upper_ms <= budget_ms]
        if fitting:
            selection.best = min(fitting, key=lambda path: (loss(path), path))
            break
        ratios = [reading.judged_ms / model.latency_ms(path) for path, reading in selection.readings.items()]
        correction = max(float(np.median(ratios)), 1.0) * (1 + 0.02 * number)
        yield selection
    yield selection


def _binds_nothing(model: LatencyModel, budget_ms: float) -> bool:
    return model.latency_ms(model.largest) <= budget_ms * (1 - ANCHOR_MOVE)


def _candidates(model: LatencyModel, log_probs: Sequence[Tensor], budget_ms: float) -> list[Path]:
    """The most probable networks of the band; of the whole budget, then anything below, where the band is empty."""
    aim_ms = budget_ms * (1 - ANCHOR_MOVE)
    for low, high in ((BAND * aim_ms, aim_ms), (BAND * aim_ms, budget_ms), (0.0, budget_ms)):
        if low > model.latency_ms(model.largest):
            continue
        paths = model.most_probable(log_probs, low, high, CANDIDATES)
        if paths:
            return paths
    return [model.smallest]
