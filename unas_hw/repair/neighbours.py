"""From a network that missed its budget to the nearest ones that should meet it, by a table that was corrected."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import accumulate, combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unas_hw.cost_model import CHUNK, AdditiveModel
from unas_hw.search.selection import BAND, CANDIDATES, LOOKED_AT, Path
from unas_hw.terms import Costs, Paths

FARTHEST = 3
"""Decisions that a neighbour differs in at most."""
NEAR = 2
"""Decisions that may always change: with two, one layer can be made smaller and the other larger."""
MOST = 2_000_000
"""Networks of a ball that are gone through."""
APART = 0.2
"""Share by which predictions have to differ for a line through readings to be believed: nearer ones differ by noise."""


def scale_of(readings: Sequence[tuple[float, float]]) -> float:
    """What the table has to be multiplied by: the median of the ratios of ``(predicted_ms, measured_ms)`` of artifacts.

    Without those that are predicted to take nothing, as a wrong table may say; 1 where it says so of all.
    """
    ratios = [measured_ms / predicted_ms for predicted_ms, measured_ms in readings if predicted_ms > 0]
    return float(np.median(ratios)) if ratios else 1.0


def aim_ms(budget_ms: float, readings: Sequence[tuple[float, float]]) -> float:
    """What predictions have to be below for measurements to be below the budget, which is below all that was measured.

    By the ratio of the reading that is nearest to the budget; a table may be wrong by more than a factor, so not above
    where the line through all readings (Theil and Sen's: one that is off does not move it) meets the budget. The slope
    of readings that lie close together is mostly their noise, and a flat line would throw away much of the budget; so
    the closer they lie, the more of it is that of the ratio.
    """
    from scipy.stats import theilslopes  # takes a second to import

    predicted, measured = np.array(readings).T
    nearest = np.where(predicted > 0, measured, np.inf).argmin()
    by_ratio = budget_ms * max(predicted[nearest], 0.0) / measured[nearest]
    if np.ptp(predicted) == 0:
        return float(by_ratio)
    line: Any = theilslopes(measured, predicted, method="joint")  # scipy's types are a guess of pyright's
    if line.slope <= 0:
        return float(by_ratio)
    believed, ratio = 1.0, line.slope
    if predicted[nearest] > 0:
        believed = min(float(np.ptp(predicted)) / (APART * predicted[nearest]), 1.0) ** 2
        ratio = measured[nearest] / predicted[nearest]
    slope = believed * line.slope + (1 - believed) * ratio
    intercept = np.median(measured - slope * predicted)
    return float(min(by_ratio, (budget_ms - intercept) / slope))


def neighbours(
    model: AdditiveModel,
    path: Path,
    log_probs: Sequence[Tensor],
    most_ms: float,
    *,
    fits: Callable[[Path], bool] | None = None,
    tried: Collection[Path] = (),
    count: int = CANDIDATES,
) -> list[Path]:
    """The usable networks nearest to ``path`` that are predicted to cost at most ``most_ms``, best first.

    All networks that differ in one, two or three decisions are gone through, as far as there are no more than
    ``MOST``; the smallest of these balls that holds one that meets the bound is taken, but at least that of ``NEAR``.
    Where none does, the most probable of the whole space are taken, and at last the smallest.

    Those between ``BAND`` and all of the bound come first, since an unused budget is unused accuracy and what lies in
    a ball is mostly far below; among them the most probable. Paths that differ in dead decisions only are one network,
    for which the most probable of the ball stands.

    Args:
        model: Predicts.
        path: The network that missed; it is none of them.
        log_probs: What the search has learnt, per decision.
        most_ms: In the model's unit.
        fits: Whether a network keeps all other budgets; None where there are none.
        tried: Networks that are not wanted again.
        count: How many at most.
    """
    if model.value(model.smallest) > most_ms:
        return []
    known = {model.space.running(each) for each in (path, *tried)}

    def best(paths: Iterable[Path]) -> list[Path]:
        found: dict[Path, Path] = {}
        for each in paths:
            running = model.space.running(each)
            if running not in known and running not in found and (fits is None or fits(each)):
                found[running] = each
                if len(found) == count:
                    break
        return list(found.values())

    farthest, ball = _farthest(model.costs.counts), list[tuple[NDArray[np.int16], Costs]]()
    for radius in range(1, farthest + 1):
        for paths_NG in _shell(model.costs.counts, path, radius):
            costs = model.values(paths_NG)
            kept = (costs <= most_ms) & model.space.usable(paths_NG)
            ball.append((paths_NG[kept].astype(np.int16), costs[kept]))  # there may be a million
        if radius >= min(NEAR, farthest):
            if found := best(_ranked(ball, log_probs, BAND * most_ms)):
                return found
            ball.clear()  # none of these is wanted
    looked_at = count + len(known) if fits is None else LOOKED_AT
    for low_ms in (BAND * most_ms, 0.0):
        if low_ms <= model.value(model.largest) and (
            found := best(model.most_probable(log_probs, low_ms, most_ms, looked_at))
        ):
            return found
    return best([model.smallest])


def _ranked(
    ball: Sequence[tuple[NDArray[np.int16], Costs]], log_probs: Sequence[Tensor], low_ms: float
) -> Iterator[Path]:
    """Those that cost ``low_ms`` or more before the others, then the most probable first."""
    paths_NG = np.concatenate([paths for paths, _ in ball])
    below = np.concatenate([costs for _, costs in ball]) < low_ms
    scores = np.zeros(len(paths_NG))
    for g, log_prob in enumerate(log_probs):
        scores += log_prob.numpy()[paths_NG[:, g]]
    return (tuple(paths_NG[row].tolist()) for row in np.lexsort((-scores, below)))


def _farthest(counts: Sequence[int]) -> int:
    """In how many decisions neighbours may differ, so that there are no more than ``MOST``."""
    ways = [1] + [0] * min(FARTHEST, len(counts))  # by the number of decisions
    for count in counts:
        for radius in range(len(ways) - 1, 0, -1):
            ways[radius] += ways[radius - 1] * (count - 1)
    return sum(total <= MOST for total in accumulate(ways[1:]))


def _shell(counts: Sequence[int], path: Path, radius: int) -> Iterator[Paths]:
    """All paths that differ in so many decisions, some at a time."""
    blocks, held = list[Paths](), 0
    for places in combinations(range(len(counts)), radius):
        others = [np.delete(np.arange(counts[g]), path[g]) for g in places]
        choices = np.stack(np.meshgrid(*others, indexing="ij"), -1).reshape(-1, radius)
        block = np.tile(np.array(path), (len(choices), 1))
        block[:, places] = choices
        blocks.append(block)
        held += len(block)
        if held >= CHUNK:
            yield np.concatenate(blocks)
            blocks, held = [], 0
    if blocks:
        yield np.concatenate(blocks)
