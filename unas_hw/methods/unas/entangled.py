"""The supernet of a search: with weights for each candidate, or with those of candidates that nest in common."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from unas_hw.errors import MethodError
from unas_hw.extremes import spread
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.space import SearchSpace
from unas_hw.spaces.subspace import Structure, Subspace
from unas_hw.supernet import Supernet


def supernet_of(space: SearchSpace, config: UnasConfig) -> tuple[Supernet, bool]:
    """The supernet, and whether candidates share weights; ``MethodError`` where they are to and nothing nests."""
    supernet = space.supernet()
    entangled = config.supernet != "separate" and supernet.entangle() > 0
    if config.supernet == "entangled" and not entangled:
        raise MethodError(
            f"no candidates of {space.name} nest, so none can share weights",
            mend="leave out --supernet entangled, or say of your blocks that they nest: docs/spaces.md",
        )
    return supernet, entangled


def ends_of(space: SearchSpace, supernet: Supernet) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The network of the most MACs and, of those whose every candidate shares its weights, that of the fewest.

    Not the smallest of all: what shares nothing, a row of skips say, would be trained at every step as nothing else is,
    and its loss would promise what it cannot keep.
    """
    heaviest = space.indices(spread(space, 2, random.Random(0))[1])
    inside = Subspace(space, [*map(sorted, _sharing(space, supernet, heaviest))])
    return heaviest, space.indices(spread(inside, 2, random.Random(0))[0])


def _sharing(space: SearchSpace, supernet: Supernet, path: Sequence[int]) -> list[set[int]]:
    """By decision the choices that share weights with that of a network, and its own."""
    structure, kept = Structure(space), [{choice} for choice in path]
    rows, columns = structure.shape
    names = -torch.arange(rows * columns, dtype=torch.float64).view(rows, columns)  # the first choice weighs most
    for mixed, seen in zip(supernet.mixed_ops(), structure.weights(names), strict=True):
        for group in mixed.nested:
            decisions, choices = zip(*(divmod(-int(seen[place]), columns) for place in group), strict=True)
            if len({*decisions}) == 1 and path[decisions[0]] in choices:
                kept[decisions[0]] |= {*choices}
    return kept
