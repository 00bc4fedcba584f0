"""Engine: a loaded artifact that runs and is timed."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
"""A numpy array; its type parameters are newer than the oldest Python on a board."""

REWARM_CALLS, REWARM_S, LEAST_CALLS = 10, 0.06, 3
"""Calls before a sample that bring code, weights and address translations back after other operations ran: so many, or
for so long, but never fewer than the last. After one call alone, the next call of a network of 3 ms was 30% slower than
the steady state; operations get there with the third call, networks of 6 ms (30 MB) only after ten."""

SPIN_CALLS = 4


class Engine(ABC):
    """A loaded artifact with an input in place.

    Attributes:
        details: How it is timed, or what it turned out to be, for the table's row: ``{"clock": "cuda-graph"}``.
    """

    details: dict[str, Any]

    def __init__(self) -> None:
        self.details = {}

    @abstractmethod
    def bind(self, x: Array) -> Callable[[], object]:
        """Puts a float32 input in place, in the artifact's own type; returns the call to be timed, and nothing else."""

    @abstractmethod
    def run(self, x: Array) -> Array:
        """The output for this input, both float32."""

    def wait(self) -> None:  # noqa: B027 - most calls are done when they return
        """Until everything that was called is done."""

    def spin(self, shape: tuple[int, ...], seconds: float) -> int:
        """Calls for about so long, for an energy meter; says how often."""
        call, calls, end = self.bind(random_input(shape)), 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            for _ in range(SPIN_CALLS):
                call()
            self.wait()
            calls += SPIN_CALLS
        return calls

    def timer(self, shape: tuple[int, ...]) -> Callable[[int], float]:
        """``calls -> seconds`` on a fixed random input, by the wall clock.

        Random, since zeros and denormals take another time. See ``REWARM_CALLS`` for what runs before.
        """
        call = self.bind(random_input(shape))

        def time_s(calls: int) -> float:
            begin = time.perf_counter()
            for number in range(1, REWARM_CALLS + 1):
                call()
                if number >= LEAST_CALLS and time.perf_counter() - begin >= REWARM_S:
                    break
            begin = time.perf_counter()
            for _ in range(calls):
                call()
            return time.perf_counter() - begin

        return time_s


def random_input(shape: tuple[int, ...]) -> Array:
    """The same for every engine of a shape: standard normal, float32."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
