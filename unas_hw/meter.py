"""Meter: whole networks measured on the table's device, brought to the table's time by the anchors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import final

from latency_tables.collect import quick
from latency_tables.table import ANCHOR, LatencyTable
from profilers.measurement import Measurement
from profilers.profiler import Profiler
from profilers.timing import TimingRule
from profilers.workload import Workload
from unas_hw.runs import Run
from unas_hw.space import Architecture, SearchSpace

ANCHOR_MOVE = 0.05
"""Where the anchors moved by more than this, the scaled value is judged against a budget, else the raw one."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One network's own measurement.

    Attributes:
        raw_ms: At the asked percentile, as measured now.
        scaled_ms: The same, at the speed that the machine had when the table was made.
        half_width: Half the 95% interval of the median, as a share of it.
        anchor_scale: ``scaled_ms / raw_ms``, from the anchors.
    """

    raw_ms: float
    scaled_ms: float
    half_width: float
    anchor_scale: float

    @property
    def anchors_moved(self) -> bool:
        """Whether the machine is not what it was."""
        return abs(self.anchor_scale - 1) > ANCHOR_MOVE

    @property
    def judged_ms(self) -> float:
        """What is compared with a budget."""
        return self.scaled_ms if self.anchors_moved else self.raw_ms

    @property
    def upper_ms(self) -> float:
        """Upper end of the interval of what is judged."""
        return self.judged_ms * (1 + (self.half_width if math.isfinite(self.half_width) else 0.0))


def at_percentile(found: Measurement, percentile: int) -> float:
    """The median at the machine's median speed, or another percentile of what the clock said."""
    return found.median_ms if percentile == 50 else found.raw_percentile_ms(percentile)


@final
class Meter:
    """Measures architectures, each once; what was measured is in the run's journal and not measured again.

    Args:
        space: Of the architectures.
        table: Whose device is measured.
        profiler: Open, of the same device.
        percentile: As in the budget.
        run: Keeps the journal; None measures without one.
    """

    JOURNAL = "measurements.jsonl"

    def __init__(
        self,
        space: SearchSpace,
        table: LatencyTable,
        profiler: Profiler,
        *,
        percentile: int = 50,
        run: Run | None = None,
    ) -> None:
        table.refuse_foreign(profiler.fingerprint(), profiler.runtime, profiler.threads)
        self.space = space
        self.table = table
        self.profiler = profiler
        self.percentile = percentile
        self.run = run
        keys = table.keys(ANCHOR)
        self.anchors = [space.workload(architecture) for architecture in anchor_architectures(space)]
        self.anchors = [anchor for anchor in self.anchors if anchor.key in keys]
        self.known: dict[tuple[str, str], Reading] = {}
        for line in run.lines(self.JOURNAL) if run else []:
            reading = Reading(**{name: line[name] for name in Reading.__dataclass_fields__})
            self.known[line["label"], line["architecture"]] = reading

    def measure(
        self, architectures: Sequence[Architecture], *, label: str, rule: TimingRule | None = None
    ) -> list[Reading]:
        """Readings of networks, interleaved with the anchors.

        Args:
            architectures: Of the space.
            label: What for; a network is measured once per label.
            rule: By default a quick one, for use between training steps.
        """
        new = [each for each in dict.fromkeys(architectures) if (label, str(each)) not in self.known]
        if new:
            found = self.read([self.space.workload(each) for each in new], label=f"{label} {new}", rule=rule)
            for architecture, reading in zip(new, found, strict=True):
                self.known[label, str(architecture)] = reading
                if self.run:
                    self.run.append(
                        self.JOURNAL, {"label": label, "architecture": str(architecture), **asdict(reading)}
                    )
        return [self.known[label, str(each)] for each in architectures]

    def read(self, workloads: Sequence[Workload], *, label: str, rule: TimingRule | None = None) -> list[Reading]:
        """Readings of whole networks, loaded or not, without journal."""
        found = self.profiler.measure_all([*workloads, *self.anchors], rule or quick(TimingRule()), label=label)
        self.profiler.unload(workload.key for workload in workloads)
        scale = self.table.anchor_scale(found)
        return [self._reading(found[workload.key], scale) for workload in workloads]

    def _reading(self, found: Measurement, scale: float) -> Reading:
        raw = at_percentile(found, self.percentile)
        return Reading(raw_ms=raw, scaled_ms=raw * scale, half_width=found.half_width, anchor_scale=scale)


ANCHORS = 5
ANCHOR_SEED = 20191207
"""Anchors are the same networks in every table of a space, so that tables can be compared."""


def anchor_architectures(space: SearchSpace) -> tuple[Architecture, ...]:
    """Smallest, largest and three between."""
    import random

    return space.spread(ANCHORS, random.Random(ANCHOR_SEED))
