"""The supernet of a search: with weights for each candidate, or with those of candidates that nest in common."""

from __future__ import annotations

import random

from unas_hw.errors import MethodError
from unas_hw.extremes import spread
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.space import SearchSpace
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


def ends_of(space: SearchSpace) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The network of the most MACs and that of the fewest."""
    lightest, heaviest = (space.indices(each) for each in spread(space, 2, random.Random(0)))
    return heaviest, lightest
