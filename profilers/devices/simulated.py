"""Simulated devices: a cost model with a clock of its own, for tests and for trying things out.

``sim:phone`` and ``sim:gpu`` answer at once, need no runtime and give the same numbers every time. Everything
that makes real devices hard can be switched on: ``sim:phone?noise=0.05&two_speed=1.8&drop_after=500``.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, final
from urllib.parse import parse_qsl

from profilers.errors import DeviceLostError, UnknownNameError, did_you_mean
from profilers.power_base import CounterMeter, Energy, PowerMeter
from profilers.profiler import Profiler
from profilers.timing import TimingRule, calls_per_block
from profilers.workload import Workload


@dataclass(frozen=True, kw_only=True)
class SimulatedDevice:
    """A device as arithmetic.

    An operation takes ``overhead_ms`` or what its arithmetic or its memory traffic takes, whichever is longer; how
    well a kernel fits the device is a fixed factor drawn from its key, so that latency is not just MACs.

    Attributes:
        macs_per_ms: Multiply-accumulates per millisecond.
        bytes_per_ms: Memory traffic.
        overhead_ms: Per operation.
        isolation_ms: What an operation alone costs more than inside a network (layout changes, the call).
        fusion: Share of a network's time that the runtime saves by joining operations.
        noise: Standard deviation of the logarithm of a sample.
        two_speed: Factor of the slow state; 1 means one speed.
        period_s: Length of one state of the two.
        drift_per_s: Relative slow-down per second of device time.
        outliers: Share of samples that take ten times as long.
        idle_w: Power while nothing runs.
        pj_per_mac: Energy of a multiply-accumulate, in picojoules.
        pj_per_byte: Of memory traffic.
        drop_after: Timings after which the connection is lost; 0 for never.
        seed: Of the noise.
    """

    macs_per_ms: float
    bytes_per_ms: float
    overhead_ms: float
    isolation_ms: float = 0.0
    fusion: float = 0.0
    noise: float = 0.01
    two_speed: float = 1.0
    period_s: float = 2.0
    drift_per_s: float = 0.0
    outliers: float = 0.0
    idle_w: float = 1.0
    pj_per_mac: float = 20.0
    pj_per_byte: float = 100.0
    drop_after: int = 0
    seed: int = 0

    def latency_ms(self, workload: Workload) -> float:
        """The true latency, without noise; of a network the sum of its parts, less what fusion saves."""
        if workload.parts:
            parts = sum(self.latency_ms(part) - self.isolation_ms for part in workload.parts)
            return parts * (1 - self.fusion) + self.isolation_ms
        fit = 0.75 + 0.5 * _unit(workload.key)
        busy = max(workload.cost.macs / self.macs_per_ms, workload.cost.moved_bytes / self.bytes_per_ms)
        return self.overhead_ms + self.isolation_ms + fit * busy

    def energy_mj(self, workload: Workload) -> float:
        """Of one call, above idle."""
        cost = workload.cost
        return (cost.macs * self.pj_per_mac + cost.moved_bytes * self.pj_per_byte) * 1e-9


BUILTIN = {
    "phone": SimulatedDevice(macs_per_ms=8e6, bytes_per_ms=6e6, overhead_ms=0.01, isolation_ms=0.005, fusion=0.05),
    "gpu": SimulatedDevice(macs_per_ms=4e9, bytes_per_ms=1e9, overhead_ms=0.004, isolation_ms=0.002, fusion=0.1),
}


RANGES = {
    "macs_per_ms": (1e-3, 1e15),
    "bytes_per_ms": (1e-3, 1e15),
    "overhead_ms": (0, 1e6),
    "isolation_ms": (0, 1e6),
    "fusion": (-1, 0.99),  # negative: whole networks take longer than their parts
    "noise": (0, 2),
    "two_speed": (0.01, 100),
    "period_s": (1e-6, 1e6),
    "drift_per_s": (0, 100),
    "outliers": (0, 1),
    "idle_w": (0, 1e6),
    "pj_per_mac": (0, 1e9),
    "pj_per_byte": (0, 1e9),
    "drop_after": (0, 10**9),
    "seed": (0, 2**63),
}
"""What each option may be, so that no arithmetic of the model leaves the numbers that a clock can show."""


def _unit(text: str) -> float:
    """A number in [0, 1) that depends on the text only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def find_simulated(name: str) -> SimulatedDevice:
    """The device called ``phone`` or ``phone?noise=0.05&...``."""
    base, _, options = name.partition("?")
    if base not in BUILTIN:
        raise UnknownNameError(f"no simulated device is called {base!r}", mend=f"choose one of {', '.join(BUILTIN)}")
    changes: dict[str, Any] = {}
    for option, text in parse_qsl(options, keep_blank_values=True):
        if option not in RANGES:
            raise UnknownNameError(f"a simulated device has no {option!r}", mend=did_you_mean(option, RANGES))
        if option in changes:
            raise UnknownNameError(f"{option} is given twice in {name}", mend="leave one of them out")
        try:
            number = changes[option] = int(text) if option in ("drop_after", "seed") else float(text)
        except ValueError:
            raise UnknownNameError(f"{option}={text!r} is not a number", mend=f"write {option}=NUMBER") from None
        low, high = RANGES[option]
        if not low <= number <= high:  # false for NaN too
            raise UnknownNameError(f"{option}={text} is out of range", mend=f"write a number from {low:g} to {high:g}")
    return replace(BUILTIN[base], **changes)


@final
class SimulatedProfiler(Profiler):
    """Winds its own clock; a sample depends on device, session label, key and its number there, not on history."""

    runtime = "simulated"

    def __init__(self, name: str, threads: int) -> None:
        super().__init__()
        self.device = f"sim:{name}"
        self.threads = threads
        self.model = find_simulated(name)
        self._true_ms: dict[str, float] = {}
        self._true_mj: dict[str, float] = {}
        self.spent_mj = 0.0
        self._label = ""
        self._taken: dict[str, int] = {}
        self._now_s = 0.0
        self._timings = 0

    def _open(self) -> None:
        self._timings = 0
        self._begin("")

    def _close(self) -> None:
        self._true_ms.clear()
        self._true_mj.clear()

    def _begin(self, label: str) -> None:
        self._label, self._now_s = label, 0.0
        self._taken.clear()

    def _load(self, workload: Workload) -> None:
        self._true_ms[workload.key] = self.model.latency_ms(workload)
        self._true_mj[workload.key] = self.model.energy_mj(workload)

    def _unload(self, key: str) -> None:
        del self._true_ms[key], self._true_mj[key]

    def _rest(self, seconds: float) -> None:
        self._now_s += seconds
        self.spent_mj += self.model.idle_w * seconds * 1e3

    def _meter(self) -> PowerMeter:
        return SimulatedMeter(self)

    def _calls_per_block(self, key: str, rule: TimingRule) -> int:
        # By the true latency: by samples it would depend on the session before, and the last digit of what follows too.
        return calls_per_block(lambda key, calls: self._spend_s(key, calls, 1.0), key, rule)

    def _time_s(self, key: str, calls: int) -> float:
        model = self.model
        count = self._taken[key] = self._taken.get(key, 0) + 1
        draw = random.Random(f"{model.seed} {self._label} {key} {count}")
        factor = math.exp(draw.gauss(0, model.noise)) * (1 + model.drift_per_s * self._now_s)
        if int(self._now_s / model.period_s) % 2:
            factor *= model.two_speed
        if draw.random() < model.outliers:
            factor *= 10
        return self._spend_s(key, calls, factor)

    def _spend_s(self, key: str, calls: int, factor: float) -> float:
        self._timings += 1
        model = self.model
        if model.drop_after and self._timings > model.drop_after:
            raise DeviceLostError(
                f"{self.device} dropped the connection after {model.drop_after} timings",
                mend="run the same command again: what was measured is kept",
            )
        seconds = self._true_ms[key] * factor * calls / 1e3
        self._rest(seconds)
        self.spent_mj += self._true_mj[key] * calls
        return seconds

    @property
    def clock_s(self) -> Callable[[], float]:
        """Device time, so that limits hold for what a real device would have taken."""
        return lambda: self._now_s

    def fingerprint(self) -> dict[str, str | int]:
        return {"kind": "simulated", "name": self.device.partition("?")[0]}

    def environment(self) -> dict[str, Any]:
        return {"model": {field.name: getattr(self.model, field.name) for field in fields(self.model)}}


@final
class SimulatedMeter(CounterMeter[tuple[float, float]]):
    """Counts what a simulated device spends, by that device's clock."""

    name = "simulated"

    def __init__(self, profiler: SimulatedProfiler) -> None:
        self._profiler = profiler

    def _now(self) -> tuple[float, float]:
        return self._profiler.spent_mj, self._profiler.clock_s()

    def _spent(self, before: tuple[float, float], after: tuple[float, float]) -> Energy:
        return Energy(after[0] - before[0], after[1] - before[1], 2)
