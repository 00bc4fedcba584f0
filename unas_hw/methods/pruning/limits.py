"""What the network that is pruned needs, and the budgets that a part of it has to keep."""

from __future__ import annotations

import re
from typing import final

import torch

from latency_tables.table import LatencyTable
from profilers.units import format_ms
from unas_hw.budget import UNBOUND, Budget, format_limit, parse_limit
from unas_hw.errors import BudgetError
from unas_hw.meter import ANCHOR_MOVE
from unas_hw.methods.pruning.config import PruneSettings
from unas_hw.methods.pruning.masks import Widths, everything, smallest
from unas_hw.methods.pruning.shapes import Arithmetic, Limit
from unas_hw.methods.pruning.table import architecture_of, latency_of_shapes
from unas_hw.prunable.groups import BLOCK
from unas_hw.space import Architecture
from unas_hw.spaces.subset import SubsetSpace

LATENCY = "latency"
_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


def read_budgets(settings: PruneSettings) -> Budget | None:
    """The latency budget; raises ``BudgetError`` where there is no budget at all, or one cannot be read."""
    if settings.budget is None and not settings.limits:
        raise BudgetError("there is no budget", mend="add --latency-budget, --macs-budget or --params-budget, as 50%")
    for name, text in settings.limits.items():
        limit_of(name, text, 1.0)
    return None if settings.budget is None else Budget.parse(settings.budget, settings.confidence)


def limit_of(name: str, text: str, whole: float) -> float:
    """``20M``, or ``50%`` of what the whole network has; raises ``BudgetError``."""
    if (share := _SHARE.fullmatch(text)) is None:
        return parse_limit(name, text)
    if not 0 < float(share[1]) <= 100:
        raise BudgetError(f"{text!r} is not between 0% and 100%", mend=f"write --{name}-budget 50%")
    return whole * float(share[1]) / 100


def multiple_of(settings: PruneSettings) -> int:
    """Channels that are kept or given up together."""
    return settings.config.multiple or BLOCK


@final
class Whole:
    """The network that is pruned.

    Args:
        settings: What the pruning is told.
        space: Of the sub-networks.
        table: With all that their prediction needs.
        asked: The latency budget; None is none.

    Attributes:
        architecture, ms: The whole network, and what it takes, at the percentile of the budget.
        needs: Its ``macs`` and ``params``.
        budget: In milliseconds.
        latency: Of sub-networks; None without a latency budget.
        limits: What a sub-network has to keep.
    """

    def __init__(self, settings: PruneSettings, space: SubsetSpace, table: LatencyTable, asked: Budget | None) -> None:
        self.space, self.prunable, self.table, self.multiple = space, space.prunable, table, multiple_of(settings)
        self.architecture = architecture_of(space, everything(self.prunable))
        percentile = asked.percentile if asked else 50
        measured_ms = table.measurements[space.workload(self.architecture).key].median_ms
        self.ms = measured_ms * table.tail_ratio(percentile)
        self.budget = asked.resolve(0.0, self.ms) if asked else Budget(UNBOUND * self.ms)
        self.latency = latency_of_shapes(space, table, percentile, self.multiple) if asked else None
        self.needs = self.exact(self.architecture)
        widths = Widths.of(self.prunable, everything(self.prunable))
        self.limits: list[Limit] = []
        if self.latency is not None:
            self.limits.append(Limit(self.latency, self.budget.in_ms, float(self.latency(widths))))
        for name, text in settings.limits.items():
            formula = Arithmetic(self.prunable, name)
            rest = self.needs[name] - float(formula(widths))
            limit = limit_of(name, text, self.needs[name])
            self.limits.append(Limit(Arithmetic(self.prunable, name, rest), limit, self.needs[name]))

    @property
    def limit_by_name(self) -> dict[str, float]:
        """In the unit of each."""
        return {each.complexity.name: each.limit for each in self.limits}

    def exact(self, architecture: Architecture) -> dict[str, float]:
        """MACs of one image, and weights."""
        with torch.random.fork_rng():
            weights = sum(weight.numel() for weight in self.space.network(architecture).parameters())
        return {"macs": self.space.workload(architecture).cost.macs / self.space.input_shape[0], "params": weights}

    def unmet(self, network: str) -> str | None:
        """The budget that not even the smallest sub-network keeps; ``network`` is what users call the whole."""
        widths = Widths.of(self.prunable, smallest(self.prunable, self.multiple))
        for each in self.limits:
            if (least := each.value(widths)) > each.limit:
                name = each.complexity.name
                words = format_ms if name == LATENCY else lambda value, name=name: format_limit(name, value)
                finer = "" if self.multiple == 1 else "; --set prune.multiple=1 allows for less"
                return (
                    f"{name} budget of {words(each.limit)}: sub-networks of {network} have "
                    f"{words(least)} to {words(each.whole)}{finer}"
                )
        return None

    def aims(self, corrections: dict[str, float]) -> list[Limit]:
        """Limits of what is predicted; of the latency with room for later measurements."""
        found = []
        for each in self.limits:
            room = 1 - ANCHOR_MOVE if each.complexity.name == LATENCY else 1.0
            found.append(Limit(each.complexity, each.limit * room / corrections[each.complexity.name], each.whole))
        return found
