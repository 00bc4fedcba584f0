"""Profiler: one runtime on one device, between ``open`` and ``close``."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from profilers.errors import MissingDeviceError
from profilers.measurement import Measurement
from profilers.opspec import OpSpec
from profilers.power import CommandMeter, EnergyReading, idle_power_w, measure_energy
from profilers.power_base import POWER_COMMAND_MEND, PowerMeter
from profilers.timing import Sample, TimingRule, calls_per_block, corrected_ms, interleave
from profilers.workload import Workload


def _sentinel_module() -> Any:
    from torch import nn

    return nn.Conv2d(16, 16, 3, padding=1)


SENTINEL = Workload(OpSpec("sentinel", {"kernel": 3, "out": 16}, (1, 16, 32, 32)), _sentinel_module)
"""An operation that is the same in every table, timed between all others."""


class Profiler(ABC):
    """Times workloads on one device.

    A subclass fills in the methods with an underscore and is final; nobody overrides the others, so what they
    promise holds for every profiler there is. ``profilers.testing`` has these promises as tests.

    Attributes:
        device: What the user called the device (``cpu``, ``sim:phone``).
        runtime: What runs there (``onnxruntime``).
        threads: Threads that an operation may use.
        power_command: What measures its energy where no other command is given; None for its own meter.
    """

    device: str
    runtime: str
    threads: int
    power_command: str | None = None

    def __init__(self) -> None:
        self._loaded: dict[str, int] = {}
        self._is_open = False

    @abstractmethod
    def _open(self) -> None:
        """Start what is needed; called once per opening."""

    @abstractmethod
    def _close(self) -> None:
        """Stop it, whatever happened before."""

    @abstractmethod
    def _load(self, workload: Workload) -> None:
        """Make the workload ready to be timed under its key."""

    def _load_artifact(self, workload: Workload, path: Path) -> None:
        """The same from a file of this runtime; a device that runs no files goes by the workload."""
        del path
        self._load(workload)

    @abstractmethod
    def _time_s(self, key: str, calls: int) -> float:
        """Seconds that this many calls take, after some that are not counted."""

    def _calls_per_block(self, key: str, rule: TimingRule) -> int:
        """Calls to time as one sample; for devices where to begin one costs more than to read a clock."""
        return calls_per_block(self._time_s, key, rule)

    def details(self, key: str) -> dict[str, Any]:
        """What is known of a loaded workload beside its time, such as ``peak_memory_bytes``, for its row."""
        del key
        return {}

    def _spin(self, key: str, seconds: float) -> int:
        """Calls for about so long and says how often; devices that warm up before they time had better do it."""
        begin, calls = self.clock_s(), 0
        while self.clock_s() - begin < seconds:
            self._time_s(key, self._loaded[key])
            calls += self._loaded[key]
        return calls

    def _rest(self, seconds: float) -> None:
        """Does nothing for so long."""
        time.sleep(seconds)

    def _meter(self) -> PowerMeter:
        """The device's own energy meter; raises ``MissingDeviceError`` where it has none that is read."""
        raise MissingDeviceError(
            f"no energy meter of {self.device} is known here, and --power-command was not given",
            mend=f"give {POWER_COMMAND_MEND}",
        )

    def _unload(self, key: str) -> None:  # noqa: B027 - a device without memory has nothing to free
        """Forget a workload."""

    def _begin(self, label: str) -> None:  # noqa: B027 - most devices need not know
        """A session of samples begins; for devices that have to know."""

    @abstractmethod
    def fingerprint(self) -> dict[str, str | int]:
        """What makes two openings the same device."""

    @abstractmethod
    def environment(self) -> dict[str, Any]:
        """The device's state, for the record."""

    @property
    def clock_s(self) -> Any:
        """The clock that limits refer to."""
        return time.monotonic

    @final
    def __enter__(self) -> Self:
        if not self._is_open:
            self._open()
            self._is_open = True
        return self

    @final
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        self._loaded.clear()
        self._close()

    @final
    def load(self, workloads: Iterable[Workload], rule: TimingRule) -> Iterator[str]:
        """Makes workloads ready and finds how many calls a sample needs; yields each key when it is."""
        self._refuse_closed()
        for workload in workloads:
            if workload.key not in self._loaded:
                self._load(workload)
                self._loaded[workload.key] = self._calls_per_block(workload.key, rule)
            yield workload.key

    @final
    def load_artifact(self, workload: Workload, path: Path, rule: TimingRule) -> None:
        """Makes a file of this runtime ready under the workload's key: what ships is then what is timed."""
        self._refuse_closed()
        self._load_artifact(workload, path)
        self._loaded[workload.key] = self._calls_per_block(workload.key, rule)

    def _refuse_closed(self) -> None:
        if not self._is_open:
            raise ValueError(f"profiler {self.device} is not open; use it as `with profiler:`")

    @final
    def time_block(self, key: str) -> float:
        """Seconds of one block of a loaded workload: what is behind a single sample."""
        return self._time_s(key, self._loaded[key])

    @final
    def meter(self, command: str | None = None) -> PowerMeter:
        """What measures the device's energy: a command or file that prints watts or joules, or its own meter.

        Raises:
            MissingDeviceError: If there is none, naming what was looked for.
            UnitError: If the command prints something else.
        """
        command = self.power_command if command is None else command
        return CommandMeter(command) if command is not None else self._meter()

    @final
    def idle_power_w(self, meter: PowerMeter, seconds: float) -> float:
        """Mean power while nothing of ours runs."""
        return idle_power_w(meter, seconds, self._rest)

    @final
    def energy(self, key: str, meter: PowerMeter, *, seconds: float, idle_w: float) -> EnergyReading:
        """Energy per call of a loaded workload above idle, over one window of about so many seconds."""
        self._refuse_closed()
        return measure_energy(partial(self._spin, key), meter, window_s=seconds, idle_w=idle_w)

    @final
    def sample_ms(self, key: str) -> float:
        """One block of a loaded workload, in milliseconds a call."""
        return self.time_block(key) / self._loaded[key] * 1e3

    @final
    def unload(self, keys: Iterable[str]) -> None:
        """Frees what these workloads hold on the device."""
        for key in keys:
            if self._loaded.pop(key, None) is not None:
                self._unload(key)

    @final
    def sample(
        self, keys: Iterable[str], rule: TimingRule, *, label: str = "", have: Mapping[str, int] | None = None
    ) -> Iterator[Sample]:
        """Interleaved samples of loaded keys, with the sentinel between them, until the rule is met.

        ``label`` names the session, on which the order of the samples depends; ``have`` counts samples from before.
        """
        keys = list(keys)
        for _ in self.load([SENTINEL], rule):
            pass
        self._begin(label)
        calls = {key: self._loaded[key] for key in (*keys, SENTINEL.key)}
        warm_s = 0.0
        while warm_s < rule.warmup_s:
            warm_s += self._time_s(SENTINEL.key, calls[SENTINEL.key])
        yield from interleave(
            self._time_s, calls, rule=rule, seed=label, sentinel=SENTINEL.key, have=have, clock_s=self.clock_s
        )

    @final
    def measure_all(
        self, workloads: Iterable[Workload], rule: TimingRule | None = None, *, label: str = ""
    ) -> dict[str, Measurement]:
        """All workloads, interleaved; raises ``DeviceLostError`` if the device goes away."""
        rule = rule or TimingRule()
        keys = list(self.load(workloads, rule))
        return measurements(list(self.sample(keys, rule, label=label)))

    @final
    def measure(self, workload: Workload, rule: TimingRule | None = None) -> Measurement:
        """One workload."""
        return self.measure_all([workload], rule)[workload.key]


def measurements(samples: list[Sample]) -> dict[str, Measurement]:
    """The measurements that the samples of one session make."""
    corrected = corrected_ms(samples)
    raw: dict[str, list[Sample]] = {}
    for sample in samples:
        raw.setdefault(sample.key, []).append(sample)
    return {
        key: Measurement(
            key=key,
            samples_ms=tuple(sample.ms for sample in group),
            corrected_ms=tuple(corrected[key].tolist()),
            calls=group[0].calls,
        )
        for key, group in raw.items()
    }
