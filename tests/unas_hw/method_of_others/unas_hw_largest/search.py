"""Draws networks and says how large they are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unas_hw.cost_model import CostModel
from unas_hw.space import SearchSpace

Path = tuple[int, ...]


def draws(space: SearchSpace, size: CostModel, count: int, seed: int, known: int = 0) -> Iterator[tuple[Path, float]]:
    """Random networks and their sizes, without the first ``known``."""
    rng = np.random.default_rng(seed)
    paths = [tuple(int(rng.integers(len(each.choices))) for each in space.decisions) for _ in range(count)]
    for path in paths[known:]:
        yield path, size.value(path)
