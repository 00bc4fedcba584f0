"""Meter: whole networks measured on the table's device, brought to the table's time by the anchors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol, final

from latency_tables.collect import quick
from latency_tables.rows import ANCHOR
from latency_tables.table import LatencyTable
from profilers.measurement import Measurement
from profilers.profiler import Profiler
from profilers.timing import TimingRule, samples_needed, upper_bound_ms
from profilers.workload import Workload
from unas_hw.budget import CONFIDENCE, Budget
from unas_hw.extremes import spread
from unas_hw.latency_model import LatencyModel
from unas_hw.runs import Run
from unas_hw.space import Architecture, SearchSpace

ANCHOR_MOVE = 0.05
"""Where the anchors moved by more than this, the scaled value is judged against a budget, else the raw one."""

MOMENTS = 8
"""Of fewer nothing is told of a device's drift."""
STEADY = 0.01
"""The headroom that even a device that was never seen to drift is given: anchors do not tell less of it."""
FINAL = "final"
"""Label of the readings of candidates, which are taken with the headroom already chosen."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One network's own measurement.

    Attributes:
        raw_ms: At the asked percentile, as measured now.
        scaled_ms: The same, at the speed that the machine had when the table was made.
        margin: How far above it, as a share, it may be with the asked confidence; infinite with too few samples.
        anchor_scale: ``scaled_ms / raw_ms``, from the anchors.
    """

    raw_ms: float
    scaled_ms: float
    margin: float
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
        """What is judged does not exceed this with the asked confidence."""
        return self.judged_ms * (1 + self.margin)


def enough_for(rule: TimingRule, budget: Budget) -> TimingRule:
    """The rule with as many samples as the budget's percentile and confidence need."""
    needed = samples_needed(budget.percentile, budget.confidence)
    return replace(rule, min_rounds=max(rule.min_rounds, needed), max_rounds=max(rule.max_rounds, needed))


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
        percentile, confidence: As in the budget.
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
        confidence: float = CONFIDENCE,
        run: Run | None = None,
    ) -> None:
        table.refuse_foreign(profiler.fingerprint(), profiler.runtime, profiler.threads)
        self.space = space
        self.table = table
        self.profiler = profiler
        self.percentile = percentile
        self.confidence = confidence
        self.run = run
        keys = table.keys(ANCHOR)
        self.anchors = [space.workload(architecture) for architecture in anchor_architectures(space)]
        self.anchors = [anchor for anchor in self.anchors if anchor.key in keys]
        self.known: dict[tuple[str, str], Reading] = {}
        for line in run.lines(self.JOURNAL) if run else []:
            reading = Reading(**{name: line[name] for name in Reading.__dataclass_fields__})
            self.known[line["label"], line["architecture"]] = reading

    @property
    def headroom(self) -> float:
        """What a device is slower by, as a share, than the table says; with the confidence no more than this.

        By the anchors: in the table's sessions, and whenever networks were measured in this search. A further moment
        is as likely to be anywhere among those that were seen, so of 19 the worst holds for 95%. With fewer it is no
        less than what a normal distribution of that spread leaves open (Student's t), and with fewer than ``MOMENTS``
        it is ``ANCHOR_MOVE``, above which scaled values are judged.
        """
        from scipy.special import stdtrit

        # Not of candidates, of which one moment has many; and a search that was killed while it measured them goes on
        # with the headroom it had.
        scales = [each.anchor_scale for (label, _), each in self.known.items() if label != FINAL]
        drifts = sorted(abs(scale - 1) for scale in (*self.table.session_scales, *scales))
        count = len(drifts)
        if count < MOMENTS:
            return ANCHOR_MOVE
        place = math.ceil((count + 1) * self.confidence - 1e-9)
        if place <= count:
            seen = drifts[place - 1]
        else:
            deviation = math.sqrt(sum(drift**2 for drift in drifts) / count)
            seen = max(drifts[-1], deviation * float(stdtrit(count, (1 + self.confidence) / 2)))
        return min(max(seen, STEADY), ANCHOR_MOVE)

    def measure(
        self, architectures: Sequence[Architecture], *, label: str, rule: TimingRule | None = None
    ) -> list[Reading]:
        """Readings of networks, interleaved with the anchors; a network is measured once per label.

        By default by a quick rule, for use between training steps.
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
        return [reading for reading, _ in self.measured(workloads, label=label, rule=rule)]

    def measured(
        self, workloads: Sequence[Workload], *, label: str, rule: TimingRule | None = None
    ) -> list[tuple[Reading, Measurement]]:
        """The same with the measurements that they were taken from."""
        found = self.profiler.measure_all([*workloads, *self.anchors], rule or quick(TimingRule()), label=label)
        self.profiler.unload(workload.key for workload in workloads)
        scale = self.table.anchor_scale(found)
        taken = [found[workload.key] for workload in workloads]
        return [(reading_of(each, self.percentile, self.confidence, scale), each) for each in taken]


def reading_of(found: Measurement, percentile: int, confidence: float, anchor_scale: float = 1.0) -> Reading:
    """The reading that a measurement is."""
    raw = at_percentile(found, percentile)
    # The median is that of the machine's median speed, other percentiles are of what the clock said.
    samples = found.corrected_ms if percentile == 50 else found.samples_ms
    margin = upper_bound_ms(samples, percentile, confidence) / raw - 1
    return Reading(raw_ms=raw, scaled_ms=raw * anchor_scale, margin=margin, anchor_scale=anchor_scale)


class NetworkMeter(Protocol):
    """What a search asks for the latency of networks."""

    @property
    def headroom(self) -> float:
        """How far a later reading of a network may lie above what the table says, as a share."""
        ...

    def measure(
        self, architectures: Sequence[Architecture], *, label: str, rule: TimingRule | None = None
    ) -> list[Reading]:
        """Readings of networks; ``label`` says what for."""
        ...


@final
class TableMeter:
    """Stands in for a device that is not here: its readings are what a published table says.

    Args:
        model: Of the space that the table prices; its decisions are those of the architectures.
    """

    headroom = 0.0

    def __init__(self, model: LatencyModel) -> None:
        self.model = model

    def measure(
        self, architectures: Sequence[Architecture], *, label: str, rule: TimingRule | None = None
    ) -> list[Reading]:
        """The same numbers whatever they are for and however long one would measure."""
        del label, rule
        latencies_ms = [self.model.latency_ms(self.model.space.indices(each)) for each in architectures]
        return [Reading(raw_ms=ms, scaled_ms=ms, margin=0.0, anchor_scale=1.0) for ms in latencies_ms]


ANCHORS = 5
ANCHOR_SEED = 20191207
"""Anchors are the same networks in every table of a space, so that tables can be compared."""


def anchor_architectures(space: SearchSpace) -> tuple[Architecture, ...]:
    """Smallest, largest and three between."""
    import random

    return spread(space, ANCHORS, random.Random(ANCHOR_SEED))
