"""SearchSpace: what a search chooses among; algorithms over any space are in ``unas_hw.extremes``."""

from __future__ import annotations

import hashlib
import math
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, final
from urllib.parse import quote

import numpy as np

from profilers.opspec import OpSpec
from profilers.workload import NOTHING, Cost, Workload
from unas_hw.architecture import Architecture as Architecture
from unas_hw.architecture import Decision as Decision
from unas_hw.architecture import parse
from unas_hw.terms import Mask as Mask
from unas_hw.terms import Paths as Paths
from unas_hw.terms import Term as Term
from unas_hw.terms import TermCosts

if TYPE_CHECKING:
    from torch import nn

    from unas_hw.supernet import Supernet


class SearchSpace(ABC):
    """A finite set of networks for one input shape, described by independent decisions.

    A choice may make operations of other decisions dead: they change no output, and no runtime runs them. Such a space
    says so by ``has_dead_operations``, ``live`` and ``usable``.

    Attributes:
        name: What tables and architecture files call it; of a built-in space what the command line does.
        origin: What ``find_space`` makes it of again: the name, or the absolute path of the user's own file.
        input_shape: ``(N, C, H, W)`` that latencies are for; N is the batch.
        classes: Outputs of the network.
        precision: In which networks run, as in ``profilers.precision``; training is another matter.
    """

    name: str
    input_shape: tuple[int, int, int, int]
    classes: int
    precision: str
    _file: str | None = None

    @property
    def origin(self) -> str:
        return self._file or self.name

    @final
    def came_from(self, file: Path) -> None:
        """Says which file of the user's it was made of."""
        self._file = str(file.resolve())

    @property
    def version(self) -> str | None:
        """Of the user's own space, sixteen digits that change with its decisions and operations; None for others.

        Of a programmed one with anything in its file, for operations do not tell what its classes do.
        """
        if self._file is None:
            return None
        code = Path(self._file).read_bytes() if self._file.endswith(".py") else b""
        return hashlib.sha256(repr((self.decisions, self.terms())).encode() + code).hexdigest()[:16]

    @property
    @abstractmethod
    def decisions(self) -> tuple[Decision, ...]:
        """What there is to choose, in order."""

    @abstractmethod
    def terms(self) -> tuple[Term, ...]:
        """The additive parts of the latency."""

    @abstractmethod
    def workloads(self) -> tuple[Workload, ...]:
        """Every distinct operation that some network runs, fixed parts too."""

    @abstractmethod
    def parts(self, architecture: Architecture) -> tuple[Workload, ...]:
        """The operations that this network runs, in order; live ones only."""

    def beside(self, architecture: Architecture) -> Cost:
        """What the network does besides its parts, where these are not all of it; nothing, as a rule."""
        del architecture
        return NOTHING

    @abstractmethod
    def network(self, architecture: Architecture) -> nn.Module:
        """The network on its own, freshly initialised."""

    @abstractmethod
    def supernet(self) -> Supernet:
        """All networks at once, with shared weights."""

    @property
    def has_dead_operations(self) -> bool:
        """Whether a choice can make operations of another decision dead; ``live`` then says which."""
        return False

    def live(self, paths_NG: Paths) -> Mask:
        """``(N, G)``: whether what the decision chose is run; all of its terms are, or none."""
        return np.ones(paths_NG.shape, bool)

    def usable(self, paths_NG: Paths) -> Mask:
        """``(N,)``: whether anyone could want the network; false where nothing of the input reaches the output.

        A search samples the others like all; none is an anchor, calibrates a table, bounds the space's latencies or is
        returned.
        """
        return np.ones(len(paths_NG), bool)

    @property
    def has_unusable(self) -> bool:
        """Whether there may be networks that are not usable: the space says which."""
        return type(self).usable is not SearchSpace.usable

    @final
    def is_usable(self, path: Sequence[int]) -> bool:
        return bool(self.usable(np.array([path]))[0])

    @final
    def running(self, path: Sequence[int]) -> tuple[int, ...]:
        """The path with -1 where the decision is dead: equal for paths that are the same network."""
        if not self.has_dead_operations:
            return tuple(path)
        return tuple(np.where(self.live(np.array([path]))[0], path, -1).tolist())

    @property
    def size(self) -> int:
        """How many networks there are."""
        return math.prod(len(decision.choices) for decision in self.decisions)

    @property
    def title(self) -> str:
        """Name, input shape and a precision other than float32: ``mbconv-small@1x1x8x8``, ``...:float16``."""
        precision = "" if self.precision == "float32" else f":{self.precision}"
        return f"{self.name}@{'x'.join(map(str, self.input_shape))}{precision}"

    @final
    def workload(self, architecture: Architecture) -> Workload:
        """The whole network as one thing to measure."""
        parts = self.parts(architecture)
        attrs: dict[str, int | float | str] = {
            "choices": "-".join(architecture.choices),
            "classes": self.classes,
            "space": quote(self.origin, safe="/?&~"),  # a key has no room for = and commas
        }
        if self._file is not None:  # whose content may change, and the same choices then are another network
            attrs["parts"] = hashlib.sha256(" ".join(part.key for part in parts).encode()).hexdigest()[:8]
        return Workload(
            OpSpec("network", attrs, self.input_shape, self.precision),
            lambda: self.network(architecture),
            parts,
            self.beside(architecture),
        )

    @final
    def architecture(self, indices: Sequence[int]) -> Architecture:
        """The architecture of these choices, by index."""
        pairs = zip(self.decisions, indices, strict=True)
        return Architecture(self.name, tuple(decision.choices[index] for decision, index in pairs))

    @final
    def indices(self, architecture: Architecture) -> tuple[int, ...]:
        """The inverse of ``architecture``."""
        pairs = zip(self.decisions, architecture.choices, strict=True)
        return tuple(decision.choices.index(choice) for decision, choice in pairs)

    @final
    def draw(self, rng: random.Random) -> Architecture:
        """Uniform over the usable networks of the space."""
        path: list[int] | None = None
        while path is None or not self.is_usable(path):
            path = [rng.randrange(len(decision.choices)) for decision in self.decisions]
        return self.architecture(path)

    @final
    def costs(self, price: Callable[[str], float], constant: float = 0.0, combine: np.ufunc = np.add) -> TermCosts:
        """The terms, each at the price of its keys."""
        return TermCosts(self.terms(), [len(decision.choices) for decision in self.decisions], price, constant, combine)

    def parse(self, text: str) -> Architecture:
        """Reads ``k3e3,id,...``, with or without ``space:`` before it, or the path of a JSON file."""
        return parse(text, (self.name, self.origin), self.decisions, self.split)

    def split(self, text: str) -> list[str]:
        """The choices in a text, as they are written there; a space may know further ways to write them."""
        return [part for part in re.split(r"[\s,/|-]+", text) if part]
