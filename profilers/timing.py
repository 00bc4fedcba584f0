"""How a time is taken: growing blocks, interleaved rounds, a stop rule, and the speed of the machine.

Nothing here knows a clock: whoever calls passes ``time_s(key, calls)``, so a test winds it.

A shared machine changes its speed while it is measured (a factor of 1.8 for seconds or milliseconds is common),
so one operation after the other gives a table of the machine's moods. Two things mend this. Operations are
visited in random order over many rounds; and since every one of them comes back every round, they are clocks
for each other: samples are explained as ``latency(key) * speed(moment)``, where the speed is the running median,
over neighbours in time, of what each sample is compared to its own key's median.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
SPEED_WINDOW = 6
"""Neighbours in time on each side that tell the machine's speed."""
SPEED_PASSES = 10
"""Alternations between latencies and speeds; with three, one synthetic machine in thirty was still 3% off."""
DRIFT = 0.25
"""Relative change between two sentinel readings above which what lies between them is measured again."""


@dataclass(frozen=True, kw_only=True)
class TimingRule:
    """When a time is good enough.

    Attributes:
        min_block_s: A sample lasts at least this long, so that the clock's cost stays below 1%.
        warmup_s: The device is kept busy this long before the first sample.
        warmup_calls: Each operation runs at least this often before its first sample ...
        warmup_cap_s: ... unless that takes longer than this.
        min_rounds: Samples that every operation gets.
        max_rounds: Samples that no operation exceeds.
        min_time_s: Rounds last at least this long.
        max_time_s: No round begins later than this.
        half_width: Rounds end when the 95% interval of every median is within plus or minus this share of it.
        sentinel_every: Samples between two readings of the sentinel.
    """

    min_block_s: float = 0.002
    warmup_s: float = 0.2
    warmup_calls: int = 10
    warmup_cap_s: float = 2.0
    min_rounds: int = 20
    max_rounds: int = 60
    min_time_s: float = 0.5
    max_time_s: float = 1200.0
    half_width: float = 0.01
    sentinel_every: int = 16


def timing_rule(rounds: int | None) -> TimingRule:
    """The default rule with that many rounds at most."""
    return (
        TimingRule() if rounds is None else TimingRule(min_rounds=min(rounds, TimingRule.min_rounds), max_rounds=rounds)
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed block.

    Attributes:
        key: What ran.
        ms: Wall time of one call, in milliseconds.
        calls: Calls that were averaged.
        tick: Position in time among the samples of its session.
        drifted: The machine changed its speed around it, so it was taken again.
    """

    key: str
    ms: float
    calls: int
    tick: int
    drifted: bool = False


TimeS = Callable[[str, int], float]
"""Runs an operation that many times and returns the seconds they took."""


def calls_per_block(time_s: TimeS, key: str, rule: TimingRule) -> int:
    """Grow the block until it outlasts ``min_block_s``; the growing is the warm-up.

    Returns:
        Calls to time as one sample.
    """
    calls, done, spent = 1, 0, 0.0
    while True:
        elapsed = time_s(key, calls)
        done, spent = done + calls, spent + elapsed
        if elapsed >= rule.min_block_s:
            if done >= rule.warmup_calls or spent >= rule.warmup_cap_s:
                return calls
        else:
            calls = max(2 * calls, math.ceil(1.1 * calls * rule.min_block_s / max(elapsed, 1e-9)))


def interleave(
    time_s: TimeS,
    calls: Mapping[str, int],
    *,
    rule: TimingRule,
    seed: str,
    sentinel: str | None = None,
    have: Mapping[str, int] | None = None,
    clock_s: Callable[[], float] = time.monotonic,
) -> Iterator[Sample]:
    """Time every key once a round, in random order, until the rule is met; yields samples as they are taken.

    Args:
        time_s: The device.
        calls: Calls per sample of every key, the sentinel's too.
        rule: When to stop.
        seed: Of the order; a round's order depends on it and on the round only.
        sentinel: Key of an operation that is timed between the others.
        have: Samples that each key has already (a profile that was interrupted); rounds go on from there.
        clock_s: For the limits of the rule.
    """
    counts = {key: (have or {}).get(key, 0) for key in calls if key != sentinel}
    taken: list[Sample] = []
    begin = clock_s()

    def take(key: str) -> Sample:
        taken.append(Sample(key, time_s(key, calls[key]) / calls[key] * 1e3, calls[key], len(taken)))
        return taken[-1]

    for number in range(rule.max_rounds):
        due = [key for key, count in counts.items() if count <= number]
        random.Random(f"{seed} {number}").shuffle(due)
        # What the sentinel calls in question is taken once more in the same round, not forever.
        again: list[str] = []
        for queue in (due, again):
            for start in range(0, len(queue), rule.sentinel_every):
                batch = [take(key) for key in queue[start : start + rule.sentinel_every]]
                drifted = sentinel is not None and _drifted(taken, take(sentinel))
                for sample in batch:
                    redo = drifted and queue is due
                    if redo:
                        again.append(sample.key)
                    else:
                        counts[sample.key] += 1
                    yield Sample(sample.key, sample.ms, sample.calls, sample.tick, redo)
                if sentinel is not None:
                    yield taken[-1]
        elapsed = clock_s() - begin
        if elapsed >= rule.max_time_s:
            return
        if due and min(counts.values()) >= rule.min_rounds and elapsed >= rule.min_time_s and number % 5 == 4:
            typical = corrected_ms(taken)
            if all(half_width(samples) <= rule.half_width for samples in typical.values()):
                return


def _drifted(taken: Sequence[Sample], reading: Sample) -> bool:
    before = next((sample for sample in reversed(taken[:-1]) if sample.key == reading.key), None)
    return before is not None and not 1 / (1 + DRIFT) <= reading.ms / before.ms <= 1 + DRIFT


def machine_speed(keys: Sequence[str], samples_ms: Sequence[float]) -> Floats:
    """How slow the machine was at each sample: 1 is its median, 1.8 means everything took 1.8 times as long.

    ``keys`` say what each sample is of, in the order in which they were taken. All ones where fewer than three keys
    were interleaved: nothing tells a slow machine from a slow operation then.
    """
    names = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    which = np.array([names[key] for key in keys])
    times = np.asarray(samples_ms, dtype=np.float64)
    speed = np.ones(len(times))
    if len(names) < 3:
        return speed
    members = [np.flatnonzero(which == index) for index in range(len(names))]
    for _ in range(SPEED_PASSES):
        medians = np.array([np.median(times[member] / speed[member]) for member in members])
        padded = np.pad(times / medians[which], SPEED_WINDOW, mode="edge")
        speed = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * SPEED_WINDOW + 1), axis=1)
        speed /= np.median(speed)
    return speed


def corrected_ms(samples: Sequence[Sample]) -> dict[str, Floats]:
    """Samples of each key of one session at the machine's median speed; drifted ones left out if enough stay."""
    ordered = sorted(samples, key=lambda sample: sample.tick)
    speed = machine_speed([sample.key for sample in ordered], [sample.ms for sample in ordered])
    times = np.array([sample.ms for sample in ordered]) / speed
    chosen: dict[str, list[tuple[float, bool]]] = {}
    for sample, ms in zip(ordered, times, strict=True):
        chosen.setdefault(sample.key, []).append((float(ms), sample.drifted))
    return {key: _undrifted(pairs) for key, pairs in chosen.items()}


def _undrifted(pairs: Sequence[tuple[float, bool]]) -> Floats:
    steady = [ms for ms, drifted in pairs if not drifted]
    return np.array(steady if 2 * len(steady) >= len(pairs) else [ms for ms, _ in pairs])


def half_width(samples_ms: Sequence[float] | Floats) -> float:
    """Half the 95% interval of the median, as a share of it (order statistics; no distribution assumed)."""
    ordered, n = np.sort(np.asarray(samples_ms)), len(samples_ms)
    reach = 0.98 * math.sqrt(n)
    low, high = math.floor(n / 2 - reach), math.ceil(n / 2 + reach)
    if low < 0 or high > n - 1:
        return math.inf
    return float((ordered[high] - ordered[low]) / 2 / np.median(ordered))


def upper_bound_ms(samples_ms: Sequence[float] | Floats, percent: float, confidence: float) -> float:
    """What the percentile does not exceed with this confidence (order statistics; no distribution assumed).

    The r-th smallest of n samples is above the percentile p with probability ``P(Binomial(n, p) < r)``. Infinity where
    not even the largest sample is enough: ``samples_needed`` says how many are.
    """
    from scipy.special import bdtr  # the distribution function of the binomial

    ordered, n = np.sort(np.asarray(samples_ms)), len(samples_ms)
    rank = int(np.searchsorted(bdtr(np.arange(n), n, percent / 100), confidence))
    return float(ordered[rank]) if rank < n else math.inf


def samples_needed(percent: float, confidence: float) -> int:
    """The fewest samples that bound this percentile from above with this confidence."""
    return math.ceil(math.log(1 - confidence) / math.log(percent / 100))


def odd_even_ms(samples_ms: Sequence[float] | Floats) -> tuple[float, float]:
    """Medians of the odd and of the even samples: what two independent campaigns would have given."""
    samples = np.asarray(samples_ms)
    return float(np.median(samples[1::2])), float(np.median(samples[::2]))
