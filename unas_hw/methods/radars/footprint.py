"""What memory a relaxed step takes in any part of a space, predicted, and candidates given up until it keeps a bound.

    memory(S) = M_w + scale * sum of the bytes of every candidate that S runs

The bytes of a candidate are what one pass keeps of it for the gradients, and its weights with their gradients and the
two moments of Adam. M_w and the scale are taken from steps that were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from unas_hw.extremes import descend
from unas_hw.latency_model import LatencyModel
from unas_hw.search.constraints import Constraint
from unas_hw.search.selection import Path
from unas_hw.spaces.subspace import Kept, Structure, one_each
from unas_hw.supernet import MixedOp, Supernet

KNOWN = 64
"""Parts of the space that are remembered: passes take a hundredth of a second."""
PER_WEIGHT = 4
"""A weight, its gradient, and Adam's two moments."""

Numbers = NDArray[np.float64]
Rank = Callable[[Kept, Numbers], Numbers]
"""From what is left and the ``(G, K)`` bytes of each candidate to what is given up first: the lowest."""


@final
class Footprint:
    """Bytes of a relaxed step, process and all.

    Args:
        structure: Of the whole space.
        sizes: Per mixed operation of its supernet and candidate, see ``sizes_of``.

    Attributes:
        fixed: M_w; 0 until steps were measured.
        scale: Of the sum.
    """

    def __init__(self, structure: Structure, sizes: Sequence[Sequence[float]]) -> None:
        self.structure = structure
        self.sizes = [torch.tensor(each, dtype=torch.float64) for each in sizes]
        self.fixed, self.scale = 0.0, 1.0
        self._seen: list[tuple[float, float]] = []
        self._known: dict[Kept, tuple[float, Numbers]] = {}

    def shares(self, kept: Kept) -> tuple[float, Numbers]:
        """The sum, before M_w and scale, and ``(G, K)`` which part of it each candidate of a decision stands for.

        Where the weight of what is run is a product of choices, or a sum of such over decisions, its bytes are divided
        among them: by the slope of its logarithm. In a chain each choice stands for its own bytes.
        """
        if kept not in self._known:
            self._known = dict(list(self._known.items())[-KNOWN:]) | {kept: self._shares(kept)}
        return self._known[kept]

    def _shares(self, kept: Kept) -> tuple[float, Numbers]:
        mask = self.structure.mask(kept).requires_grad_()
        total, divided = 0.0, mask.sum() * 0
        for weights, sizes in zip(self.structure.weights(mask), self.sizes, strict=True):
            used = weights.detach() > 0
            total += float(sizes[used].sum())
            divided = divided + (sizes[used] * weights[used].log()).sum()
        (shares,) = torch.autograd.grad(divided, mask)
        return total, (shares * mask.detach()).numpy()

    def bytes(self, kept: Kept) -> float:
        """Predicted of a step in this part of the space."""
        return self.fixed + self.scale * self.shares(kept)[0]

    def measured(self, kept: Kept, peak_bytes: float) -> None:
        """Takes up what a step took: the first one gives M_w, each later one the scale too."""
        self._seen.append((self.shares(kept)[0], peak_bytes))
        (first, first_peak), (last, last_peak) = self._seen[0], self._seen[-1]
        if last > first and last_peak > first_peak:
            self.scale = (last_peak - first_peak) / (last - first)
        self.fixed = first_peak - self.scale * first


def sizes_of(supernet: Supernet, images: Tensor, path_GK: Tensor) -> list[list[float]]:
    """Per mixed operation and candidate, what a relaxed pass over these images keeps of it, and its weights.

    What is kept is counted as it is kept, candidate by candidate: all of them are never in memory together.

    Args:
        supernet: Of the whole space.
        images: ``(N, C, H, W)``, as many as a pass has.
        path_GK: Any weights.
    """
    mixed_ops = supernet.mixed_ops()
    found = [[0.0] * len(mixed.candidates) for mixed in mixed_ops]

    def look(number: int, x: Tensor, weights: Tensor) -> None:
        del weights
        found[number] = [_size(mixed_ops[number], j, x) for j in range(len(found[number]))]

    with torch.no_grad(), one_each(supernet, look):
        supernet(images, path_GK.to(images))
    return found


def _size(mixed: MixedOp, number: int, x: Tensor) -> float:
    alone = MixedOp([mixed.candidates[number]]).train()
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor):
        out = alone(x.detach().requires_grad_(), torch.ones(1, device=x.device, requires_grad=True))
    given = {tensor.untyped_storage().data_ptr() for tensor in (x, *alone.parameters())}
    del out
    weights = sum(weight.numel() * weight.element_size() for weight in alone.parameters())
    return PER_WEIGHT * weights + sum(
        each.untyped_storage().nbytes() for place, each in kept.items() if place not in given
    )


@final
@dataclass(frozen=True)
class Reach:
    """Holds on to networks within all budgets while candidates are given up.

    Attributes:
        model: Latencies, of the whole space.
        aim_ms: What predictions have to be below.
        constraints: Other budgets, of the whole space.
    """

    model: LatencyModel
    aim_ms: float
    constraints: Sequence[Constraint] = ()

    def excess(self, path: Path) -> float:
        """How far the network is above the budget that it exceeds most, as a share of it; negative within all."""
        shares = [each.resource.value(path) / each.limit for each in self.constraints]
        return max(self.model.latency_ms(path) / self.aim_ms, *shares, 0.0) - 1

    def witness(self) -> Path:
        """A usable network within all budgets, where one is found: the fastest, or what is near it."""
        space, fastest = self.model.space, self.model.smallest
        if self.excess(fastest) <= 0:
            return fastest
        return descend(
            space, fastest, lambda paths_NG: np.array([self.excess(tuple(path)) for path in paths_NG.tolist()])
        )

    def without(self, witness: Path, kept: Kept, place: int, choice: int) -> Path | None:
        """A usable network within all budgets that needs neither what is given up nor this choice of this decision.

        The one that was known, with the choice of this decision that leaves most of the budgets; None where all others
        exceed one: then the choice has to stay.
        """
        if witness[place] != choice:
            return witness
        others = [(*witness[:place], j, *witness[place + 1 :]) for j in kept[place] if j != choice]
        others = [path for path in others if self.model.space.is_usable(path) and self.excess(path) <= 0]
        return min(others, key=self.excess, default=None)


def narrowed(
    kept: Kept, witness: Path, target_bytes: float, footprint: Footprint, reach: Reach, rank: Rank
) -> tuple[Kept, Path]:
    """Gives up candidates, the lowest in rank first, until the predicted memory is at most the target.

    One of each decision stays, and so does a network within all budgets: what is left then may be above the target.

    Args:
        kept: What is left.
        witness: A network of it that is within all budgets.
        target_bytes: Of a step.
        footprint: Predicts.
        reach: Knows the budgets.
        rank: Told what is left and the bytes of each candidate.

    Returns:
        What is left then, and a network of it that is within all budgets.
    """
    left = [list(each) for each in kept]
    stuck: set[tuple[int, int]] = set()
    while (total := footprint.bytes(_frozen(left))) > target_bytes:  # where choices are shared, only a pass tells
        shares = footprint.shares(_frozen(left))[1]
        ranks, given_up = rank(_frozen(left), shares), 0
        for _, g, j in sorted((float(ranks[g, j]), g, j) for g, each in enumerate(left) for j in each):
            if total <= target_bytes:
                break
            if len(left[g]) == 1 or shares[g, j] <= 0 or (g, j) in stuck:
                continue
            other = reach.without(witness, _frozen(left), g, j)
            if other is None:
                stuck.add((g, j))
                continue
            witness, given_up = other, given_up + 1
            left[g].remove(j)
            total -= footprint.scale * shares[g, j]
        if not given_up:
            break
    return _frozen(left), witness


def _frozen(left: Sequence[Sequence[int]]) -> Kept:
    return tuple(map(tuple, left))
