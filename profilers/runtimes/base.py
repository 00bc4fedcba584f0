"""Runtime and Engine: the one path by which a module becomes something that runs and is timed.

What ``profile`` times, ``export`` writes and ``verify`` measures goes through the same runtime.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
import numpy.typing as npt

from profilers.errors import ConversionError

if TYPE_CHECKING:
    from torch import nn

Array = npt.NDArray[Any]


@contextlib.contextmanager
def refused(what: str, *, mend: str) -> Iterator[None]:
    """Turns what a library raises about a module or a file into a ``ConversionError``; they share no public base."""
    try:
        yield
    except (OSError, ConversionError):
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ConversionError(f"{what}: {reason or type(error).__name__}", mend=mend) from error


REWARM_CALLS, REWARM_S, LEAST_CALLS = 10, 0.06, 3
"""Calls before a sample that bring code, weights and address translations back after other operations ran: so many, or
for so long, but never fewer than the last. After one call alone, the next call of a network of 3 ms was 30% slower than
the steady state; operations get there with the third call, networks of 6 ms (30 MB) only after ten."""


class Engine(ABC):
    """A loaded artifact with an input in place."""

    @abstractmethod
    def bind(self, x: Array) -> Callable[[], object]:
        """Puts the input in place and returns the call to be timed, which does nothing else."""

    @abstractmethod
    def run(self, x: Array) -> Array:
        """The output for this input."""

    @final
    def timer(self, shape: tuple[int, ...], dtype: str) -> Callable[[int], float]:
        """``calls -> seconds`` on a fixed random input.

        Random, since zeros and denormals take another time. See ``REWARM_CALLS`` for what runs before.
        """
        call = self.bind(np.random.default_rng(0).standard_normal(shape).astype(dtype))

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


class Runtime(ABC):
    """Makes artifacts of modules and engines of artifacts.

    Attributes:
        name: As in ``--runtime``.
        suffix: Of its artifacts.
        packages: Whose versions belong in a table's header.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]

    @abstractmethod
    def convert(self, module: nn.Module, shape: tuple[int, ...], path: Path) -> None:
        """Writes the artifact of the module in evaluation mode; raises ``ConversionError`` where it cannot."""

    @abstractmethod
    def load(self, path: Path, threads: int) -> Engine:
        """Loads an artifact, here and now."""

    @final
    def compile(self, module: nn.Module, shape: tuple[int, ...], *, threads: int = 1) -> Engine:
        """Convert and load, for one use in this process."""
        with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
            path = Path(folder) / f"module{self.suffix}"
            self.convert(module, shape, path)
            return self.load(path, threads)
