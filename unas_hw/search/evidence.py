"""Evidence of how good networks are before any of them is trained on its own: several scores, standardised and summed.

One score alone misleads, each in another way: the loss with shared weights where skips and poolings compete with
convolutions, multiply-accumulates where arithmetic is spent in the wrong place. NASWOT (Mellor et al., arXiv
2006.04647) on training images tells a good network from a bad one, and not two good ones. Standardised, not ranked: a
lead counts by its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from profilers.timing import Floats
from unas_hw.data import Dataset
from unas_hw.resources import Macs
from unas_hw.search.selection import Losses, Path
from unas_hw.space import SearchSpace
from unas_hw.zero_cost.proxies import Batch, fresh_network, naswot

IMAGES = 64
"""On which rectifiers are compared."""
WEIGHTS = {"loss+macs": (3, 1, 0), "evidence": (1, 1, 1)}
"""Of the loss, multiply-accumulates and NASWOT."""


@final
class Evidence:
    """Of networks of one search; each is looked at once.

    Args:
        space: Whose networks.
        losses: ``(N,)`` losses of a network with the shared weights.
        data: NASWOT looks at the first of its training images.
        seed: Of the initial weights that NASWOT looks at.
        ranked_by: A key of ``WEIGHTS``.
    """

    def __init__(self, space: SearchSpace, losses: Losses, data: Dataset, seed: int, ranked_by: str) -> None:
        self.space, self.losses, self.seed, self.weights = space, losses, seed, WEIGHTS[ranked_by]
        first = data.train.first(IMAGES)
        self._images, self._macs = Batch(first.x, first.y, seed), Macs(space)
        self._known: dict[Path, tuple[float, float, float]] = {}

    def look(self, path: Path) -> None:
        """Scores a network, unless it is known."""
        if path not in self._known:
            macs, untrained = float(self._macs.values(np.array([path]))[0]), 0.0
            if self.weights[2]:
                untrained = naswot(fresh_network(self.space, self.space.architecture(path), self.seed), self._images)
            self._known[path] = -float(self.losses(path).mean()), macs, untrained

    def order(self, paths: Sequence[Path]) -> list[Path]:
        """The best first; standard scores are those among all networks that were looked at, these too."""
        for path in paths:
            self.look(path)
        total = _standard(np.array([*self._known.values()])) @ np.array(self.weights)
        worth = dict(zip(self._known, total, strict=True))
        return sorted(paths, key=lambda path: (-worth[path], path))


def _standard(scores_NS: Floats) -> Floats:
    """Of mean 0 and variance 1, or all 0; what is no number, or infinite, is as bad as the worst."""
    finite_NS = np.isfinite(scores_NS)
    worst_S = np.min(scores_NS, axis=0, where=finite_NS, initial=np.finfo(float).max)
    scores_NS = np.where(finite_NS, scores_NS, np.where(finite_NS.any(0), worst_S, 0.0))
    spread_S = scores_NS.std(0)
    standard: Floats = (scores_NS - scores_NS.mean(0)) / np.where(spread_S > 0, spread_S, 1.0)
    return standard
