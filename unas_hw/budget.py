"""Budget: a promise about a device, and the multiplier that makes a search keep it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import final

from profilers.errors import UnitError
from profilers.units import (
    format_bytes,
    format_count,
    format_energy_mj,
    format_ms,
    parse_bytes,
    parse_count,
    parse_energy_mj,
    parse_ms,
)
from unas_hw.errors import BudgetError

CONFIDENCE = 0.95
UNBOUND = 2.0
"""Times the latency of the largest network: the budget of a search that was given none."""
_BUDGET = re.compile(r"(?P<amount>[^@]+?)\s*(?:@\s*p(?P<percentile>\d+))?\s*")
_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


@final
@dataclass(frozen=True)
class Budget:
    """A latency that must not be exceeded, at a percentile of single calls.

    Attributes:
        ms: Milliseconds for one batch; None while it is a share.
        share: Of the way from the smallest to the largest network of the space, 0 to 1.
        percentile: Which of the measured times has to be below it; 50 is the median.
        confidence: With which predictions and measurements have to be below it, 0.5 to 1.
    """

    ms: float | None
    share: float | None = None
    percentile: int = 50
    confidence: float = CONFIDENCE

    @classmethod
    def parse(cls, text: str, confidence: float = CONFIDENCE) -> Budget:
        """Reads ``80ms``, ``80ms@p90`` or ``50%``; raises ``BudgetError``."""
        if not 0.5 <= confidence < 1:
            raise BudgetError(f"a confidence of {confidence:g} is not between 0.5 and 1", mend="use --confidence 0.95")
        match = _BUDGET.fullmatch(text)
        if match is None:
            raise BudgetError(f"{text!r} is not a budget", mend="write --latency-budget 80ms, or 80ms@p90")
        percentile = int(match["percentile"] or 50)
        if not 1 <= percentile <= 99:
            raise BudgetError(f"{text!r}: there is no percentile {percentile}", mend="use @p50, @p90 or @p99")
        if share := _SHARE.fullmatch(match["amount"]):
            if not 0 < float(share[1]) <= 100:
                raise BudgetError(f"{text!r} is not between 0% and 100%", mend="write --latency-budget 50%")
            return cls(None, float(share[1]) / 100, percentile, confidence)
        try:
            return cls(parse_ms(match["amount"]), None, percentile, confidence)
        except UnitError as error:
            raise BudgetError(error.what, mend=f"--latency-budget: {error.mend}") from error

    def resolve(self, smallest_ms: float, largest_ms: float) -> Budget:
        """The budget in milliseconds, for a space of this range."""
        if self.share is None:
            return self
        return replace(self, ms=smallest_ms + self.share * (largest_ms - smallest_ms), share=None)

    @property
    def in_ms(self) -> float:
        """Milliseconds of a resolved budget."""
        assert self.ms is not None  # resolve comes first
        return self.ms

    @property
    def text(self) -> str:
        """As ``parse`` reads it, to the last digit; the confidence is no part of it."""
        amount = f"{self.ms!r}ms" if self.share is None else f"{self.share * 100!r}%"
        return f"{amount}@p{self.percentile}"

    def __str__(self) -> str:
        amount = f"{self.share:.0%}" if self.ms is None and self.share is not None else format_ms(self.in_ms)
        return amount if self.percentile == 50 else f"{amount} at p{self.percentile}"


LIMITS: Mapping[str, tuple[Callable[[str], float], Callable[[float], str]]] = MappingProxyType(
    {
        "energy": (parse_energy_mj, format_energy_mj),
        "macs": (parse_count, format_count),
        "params": (parse_count, format_count),
        "peak-memory": (parse_bytes, format_bytes),
    }
)
"""What else there can be a budget on, with how it is read and written."""


def parse_limit(name: str, text: str) -> float:
    """``40mJ``, ``600M``, ``4M`` or ``2MB``, by the name; raises ``BudgetError``."""
    try:
        return LIMITS[name][0](text)
    except UnitError as error:
        raise BudgetError(error.what, mend=f"--{name}-budget: {error.mend}") from error


def format_limit(name: str, value: float) -> str:
    """With the unit that reads best."""
    return LIMITS[name][1](value)


@final
class Multiplier:
    """The dual variable of ``latency <= T``: it grows while the constraint is violated and falls while it is not.

    Nobody has to tune a coefficient: dual ascent finds the one at which the constraint holds.

    Attributes:
        value: Weight of the relative excess in the loss; zero at first.
        rate: Step per unit of relative violation.
    """

    def __init__(self, rate: float, value: float = 0.0) -> None:
        self.rate = rate
        self.value = value

    def step(self, latency_ms: float, budget_ms: float) -> None:
        """One step of dual ascent."""
        self.value = max(0.0, self.value + self.rate * (latency_ms / budget_ms - 1))
