"""From trained masks to the sub-network that keeps the budgets: what they leave is measured, and adjusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from latency_tables.coverage import profiler_of
from profilers.timing import TimingRule
from profilers.units import format_ms
from unas_hw.budget import format_limit
from unas_hw.meter import FINAL, Meter, Reading, enough_for
from unas_hw.methods.pruning.limits import LATENCY, Whole
from unas_hw.methods.pruning.masks import Masks, Widths, smallest
from unas_hw.methods.pruning.search import USED, discretise
from unas_hw.methods.pruning.table import architecture_of
from unas_hw.progress import Job, Step
from unas_hw.runs import Run
from unas_hw.space import Architecture

ROUNDS = 5
"""Networks that are measured at most."""


@final
@dataclass(frozen=True, kw_only=True)
class Found:
    """A sub-network that was measured.

    Attributes:
        architecture, masks: What it is.
        predicted: Of every limit, what was predicted; of the latency by interpolated rows.
        reading: Of the whole of it.
        needs: ``macs`` and ``params``, exact, and ``latency``: what it does not exceed with the budget's confidence.
    """

    architecture: Architecture
    masks: Masks
    predicted: Mapping[str, float]
    reading: Reading
    needs: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "architecture": str(self.architecture),
            "predicted_ms": self.predicted.get(LATENCY),
            "latency_ms": self.reading.judged_ms,
        }

    def excess(self, limits: Mapping[str, float]) -> float:
        """What it needs of the limit that it exceeds most; at most 1 where it keeps them all."""
        return max(self.needs[name] / limit for name, limit in limits.items())

    def __str__(self) -> str:
        said = [f"{format_limit(name, self.needs[name])} {name}" for name in ("macs", "params")]
        predicted = f", {format_ms(self.predicted[LATENCY])} predicted" if LATENCY in self.predicted else ""
        return f"{', '.join(said)}{predicted}, {format_ms(self.reading.judged_ms)} measured"


def select(whole: Whole, theta: Masks, rule: TimingRule, run: Run) -> Job[tuple[Found, int]]:
    """Measures what the masks leave, and adjusts it until it keeps the budgets and uses them.

    Args:
        whole: The network and its limits.
        theta: Of units and blocks, as trained.
        rule: How long to measure.
        run: Keeps the journal of measurements.

    Returns:
        Of the measured ones that keep the budgets that which uses most of them, otherwise the nearest; and how many
        were measured.
    """
    limits, budget = whole.limit_by_name, whole.budget
    corrections = dict.fromkeys(limits, 1.0)
    seen: list[Found] = []
    with profiler_of(whole.table) as profiler:
        meter = Meter(
            whole.space, whole.table, profiler, percentile=budget.percentile, confidence=budget.confidence, run=run
        )
        for number in range(ROUNDS):
            aims = whole.aims(corrections)
            masks = discretise(whole.prunable, theta, aims, whole.multiple)
            masks = smallest(whole.prunable, whole.multiple) if masks is None else masks
            if architecture_of(whole.space, masks) in [each.architecture for each in seen]:
                break
            found = _measured(whole, masks, meter, enough_for(rule, budget))
            seen.append(found)
            yield Step("measure", number + 1, ROUNDS, str(found), measured=(found.to_json(),))
            kept = found.excess(limits) <= 1
            least = {name: USED * aim.limit * corrections[name] for name, aim in zip(limits, aims, strict=True)}
            if kept and all(found.needs[name] >= least[name] for name in limits):
                break
            slower = 1.0 if kept else 1 + 0.02 * number
            corrections = {name: found.needs[name] / found.predicted[name] * slower for name in limits}
    fitting = [each for each in seen if each.excess(limits) <= 1]
    if fitting:  # an unused budget is unused accuracy
        return max(fitting, key=lambda each: each.excess(limits)), len(seen)
    return min(seen, key=lambda each: each.excess(limits)), len(seen)


def _measured(whole: Whole, masks: Masks, meter: Meter, rule: TimingRule) -> Found:
    architecture, widths = architecture_of(whole.space, masks), Widths.of(whole.prunable, masks)
    (reading,) = meter.measure([architecture], label=FINAL, rule=rule)
    return Found(
        architecture=architecture,
        masks=masks,
        predicted={each.complexity.name: each.value(widths) for each in whole.limits},
        reading=reading,
        needs={**whole.exact(architecture), LATENCY: reading.upper_ms},
    )
