"""What every energy meter is, and how one that gives single numbers fills a window with them."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Generic, Self, TypeVar

from profilers.errors import PowerError

Reading = TypeVar("Reading")
POWER_COMMAND_MEND: Final = (
    "--power-command COMMAND, where COMMAND (or a file) prints watts (`3.2W`) or a counter of joules (`12.5J`), for"
    " example --power-command \"awk '{print \\$1 / 1e6}' /sys/class/hwmon/hwmon0/power1_input\""
)


@dataclass(frozen=True, slots=True)
class Energy:
    """What one window cost.

    Attributes:
        energy_mj: Energy from the first reading to the last, idle power included.
        seconds: Time from the first reading to the last; a little more than the work between `start` and `stop`.
        readings: How many readings that rests on.
    """

    energy_mj: float
    seconds: float
    readings: int


class PowerMeter(ABC):
    """One source of energy readings; `start` and `stop` may be called in turn any number of times before `close`."""

    name: str

    @abstractmethod
    def start(self) -> None:
        """Opens a window."""

    @abstractmethod
    def stop(self) -> Energy:
        """Closes the window and says what it cost."""

    @abstractmethod
    def cancel(self) -> None:
        """Drops an open window, if there is one, without a reading."""

    def close(self) -> None:
        """Gives back what the meter holds; an open window is dropped."""
        self.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Poller:
    """Takes readings with their times: one at the start, one at the end, and in between from a thread.

    Args:
        read: Gives one reading.
        interval_s: Pause between readings; None takes only the first and the last, and starts no thread.
    """

    def __init__(self, read: Callable[[], float], interval_s: float | None) -> None:
        self._read = read
        self._interval_s = interval_s
        self._samples: list[tuple[float, float]] = []
        self._failure: Exception | None = None
        self._halt = threading.Event()
        self._take()
        self._thread: threading.Thread | None = None
        if interval_s is not None:
            self._thread = threading.Thread(target=self._poll, args=(interval_s,), name="power-meter", daemon=True)
            self._thread.start()

    def finish(self) -> list[tuple[float, float]]:
        self.cancel()
        if self._failure is not None:
            raise self._failure
        self._take()
        return self._samples

    def cancel(self) -> None:
        self._halt.set()
        if self._thread is not None:
            self._thread.join()

    def _take(self) -> None:
        before_s = time.perf_counter()
        value = self._read()
        # A slow reading belongs to some moment while it ran; the middle is the best guess.
        self._samples.append(((before_s + time.perf_counter()) / 2, value))

    def _poll(self, interval_s: float) -> None:
        while not self._halt.wait(interval_s):
            try:
                self._take()
            except Exception as error:
                self._failure = error  # it is raised where the window is closed: nobody hears a thread
                return


class SampledMeter(PowerMeter):
    """A meter of single numbers: watts, integrated by trapezoids, or a counter in millijoules, subtracted."""

    _counts: bool
    _interval_s: float | None
    _poller: _Poller | None = None

    @abstractmethod
    def _read(self) -> float:
        """One reading: millijoules if `_counts`, else watts."""

    def start(self) -> None:
        self.cancel()
        self._poller = _Poller(self._read, self._interval_s)

    def stop(self) -> Energy:
        if self._poller is None:
            raise not_started(self.name)
        poller, self._poller = self._poller, None
        samples = poller.finish()
        energy_mj = 0.0
        for (time_0_s, value_0), (time_1_s, value_1) in pairwise(samples):
            if not self._counts:
                energy_mj += (value_0 + value_1) / 2 * (time_1_s - time_0_s) * 1e3
            elif value_1 < value_0:
                raise PowerError(
                    f"the energy counter of {self.name} went back from {value_0:g} mJ to {value_1:g} mJ",
                    mend="measure again; if it stays, give a source that does not reset: " + POWER_COMMAND_MEND,
                )
            else:
                energy_mj += value_1 - value_0
        return Energy(energy_mj, samples[-1][0] - samples[0][0], len(samples))

    def cancel(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
            self._poller = None


class CounterMeter(PowerMeter, Generic[Reading]):
    """A meter of which one reading at each end of a window is enough."""

    _before: Reading | None = None

    @abstractmethod
    def _now(self) -> Reading:
        """A reading, with its time."""

    @abstractmethod
    def _spent(self, before: Reading, after: Reading) -> Energy:
        """What lies between two of them."""

    def start(self) -> None:
        self._before = self._now()

    def stop(self) -> Energy:
        if self._before is None:
            raise not_started(self.name)
        before, self._before = self._before, None
        return self._spent(before, self._now())

    def cancel(self) -> None:
        self._before = None


def not_started(name: str) -> PowerError:
    """The error of a window that was never opened."""
    return PowerError(f"the meter {name} was stopped before it was started", mend="call start() first")
