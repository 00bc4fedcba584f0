"""Runtime: makes artifacts of modules; ``profilers.agent`` runs them. The one path by which a module becomes something
that is timed: what ``profile`` times, ``export`` writes and ``verify`` measures goes through the same runtime.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, final

from profilers.errors import ConversionError, UnknownNameError

if TYPE_CHECKING:
    from torch import nn

    from profilers.agent.engine import Engine


_CONVERTING = threading.RLock()
"""Exporters change what belongs to the whole process: warnings, loggers, standard output."""


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


class Runtime(ABC):
    """Makes artifacts of modules and engines of artifacts.

    Args:
        options: What follows its name: ``torch+compile``.

    Attributes:
        engine: Its name without options, and that of its engine in ``profilers.agent.engines``.
        suffix: Of its artifacts.
        packages: Whose versions belong in a table's header.
        converters: Modules that its conversion needs, beside those of the project.
        precisions: That it runs, as in the keys of operations.
        devices: Kinds of device that it runs on, ``cpu`` and ``gpu``.
        known_options: That may follow its name, and what they do.
    """

    engine: ClassVar[str]
    suffix: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    converters: ClassVar[tuple[str, ...]] = ()
    precisions: ClassVar[tuple[str, ...]] = ("float32",)
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    known_options: ClassVar[dict[str, str]] = {}

    @final
    def __init__(self, *options: str) -> None:
        for option in options:
            if option not in self.known_options:
                near = get_close_matches(option, self.known_options) or list(self.known_options)
                raise UnknownNameError(
                    f"runtime {self.engine!r} has no option {option!r}",
                    mend=f"did you mean {self.engine}+{near[0]}?" if near else f"write --runtime {self.engine}",
                )
        self.options = tuple(dict.fromkeys(sorted(options)))

    @property
    def name(self) -> str:
        """As in ``--runtime``."""
        return "+".join((self.engine, *self.options))

    def stored(self, precision: str) -> str:
        """The precision of its files for this one; another where it is the engine that rounds."""
        return precision

    @abstractmethod
    def _convert(self, module: nn.Module, shape: tuple[int, ...], path: Path, precision: str) -> None:
        """Writes the artifact."""

    @final
    def convert(self, module: nn.Module, shape: tuple[int, ...], path: Path, precision: str = "float32") -> None:
        """Writes the artifact of the module in evaluation mode; raises ``ConversionError`` where it cannot."""
        if precision not in self.precisions:
            raise ConversionError(
                f"{self.name} runs no {precision} here", mend=f"choose one of {', '.join(self.precisions)}"
            )
        with _CONVERTING:
            self._convert(module, shape, path, precision)

    @final
    def load(self, path: Path, threads: int, precision: str = "float32") -> Engine:
        """Loads an artifact, here and now."""
        from profilers.agent.engines import load_engine

        with refused(f"{self.name} cannot load {path}", mend="export it again: unas-hw export"):
            return load_engine(self.engine, str(path), threads, precision, self.options)
