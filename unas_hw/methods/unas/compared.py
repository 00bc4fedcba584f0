"""How the networks that a search found are compared, and which one of them ships."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import final

from profilers.timing import TimingRule
from unas_hw.methods.unas.search import UnasSearch
from unas_hw.search.evidence import Evidence
from unas_hw.search.selection import Order, Path, Selection, best_of, select


@final
class Compared:
    """Networks by ``ranked_by`` and ``compared_on`` of a search; ``look`` compares one, unless it is known."""

    def __init__(self, unas: UnasSearch) -> None:
        self.unas, self.losses = unas, cache(unas.compared_losses)
        self.look: Callable[[Path], object] = self.losses
        self._order: Order | None = None
        if (by := unas.config.ranked_by) != "loss":
            evidence = Evidence(unas.space, self.losses, unas.data, unas.config.seed, by)
            self.look, self._order = evidence.look, evidence.order

    def ranked(self, paths: Sequence[Path]) -> list[Path]:
        """The best first."""
        return self._order(paths) if self._order else sorted(paths, key=lambda path: float(self.losses(path).mean()))

    def best(self, paths: Sequence[Path]) -> Path:
        """The one to keep, of those that use about as much of the budget as the slowest."""
        return best_of(paths, self.losses, self.unas.model, self._order)

    def select(
        self, budget_ms: float, rule: TimingRule, headroom: float, fits: Callable[[Path], bool] | None = None
    ) -> Iterator[Selection]:
        """Measures candidates with the meter of the search, see ``unas_hw.search.selection.select``."""
        unas = self.unas
        return select(
            unas.distribution, unas.model, unas.meter, budget_ms, unas.valid_losses, rule, headroom, fits,
            unas.config.compared, self._order, self.losses,
        )  # fmt: skip
