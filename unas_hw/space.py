"""SearchSpace, Decision, Architecture: what a search chooses among."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, final
from urllib.parse import quote

import numpy as np

from profilers.opspec import OpSpec
from profilers.workload import Workload
from unas_hw.errors import ArchitectureError
from unas_hw.terms import Costs, TermCosts
from unas_hw.terms import Mask as Mask
from unas_hw.terms import Paths as Paths
from unas_hw.terms import Term as Term

if TYPE_CHECKING:
    from torch import nn

    from unas_hw.supernet import Supernet

ALIASES = {"id": ("identity", "skip")}
NEAREST = 2000
"""Networks that are looked at for an extreme one that is usable, the best first."""


@dataclass(frozen=True)
class Decision:
    """One independent categorical choice, a letter ``z_g`` of the paper."""

    name: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Architecture:
    """One network of a space: the name of a choice per decision."""

    space: str
    choices: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.space}:{','.join(self.choices)}"


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
            OpSpec("network", attrs, self.input_shape, self.precision), lambda: self.network(architecture), parts
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

    def spread(self, count: int, rng: random.Random) -> tuple[Architecture, ...]:
        """Smallest, largest and random networks between them, stratified by MACs; all usable, none of them twice.

        Stratified, because uniform draws of 21 layers all have about the same size (a sum of independent parts) and
        would test a table on a sliver of the space only.
        """
        macs = {workload.key: max(workload.cost.macs, 1) for workload in self.workloads()}
        costs = self.costs(macs.__getitem__)

        def size(paths_NG: Paths) -> Costs:
            return costs.total(paths_NG, self.live(paths_NG)) - costs.constant

        lightest, heaviest = self.extreme(costs, 1), self.extreme(costs, -1)
        low, high = size(np.array([lightest, heaviest]))
        found = {self.running(path): path for path in (lightest, heaviest)}
        for _ in range(1000):  # a space may have fewer networks than are asked for
            if len(found) >= min(count, self.size):
                break
            share = (len(found) - 1) / max(count - 1, 1)
            draws = 16 if self.has_unusable else 1  # there a single choice can leave little of a network, or nothing
            drawn = [self._draw_near(share, lightest, heaviest, rng) for _ in range(draws)]
            new = [path for path in drawn if self.is_usable(path) and self.running(path) not in found]
            if new:
                nearest = new[np.abs(size(np.array(new)) - low - share * (high - low)).argmin()]
                found[self.running(nearest)] = nearest
        return tuple(map(self.architecture, found.values()))[:count]

    def _draw_near(
        self, share: float, lightest: Sequence[int], heaviest: Sequence[int], rng: random.Random
    ) -> tuple[int, ...]:
        """Choices that are the heaviest, the lightest or any, so that ``share`` moves the network's size."""
        lean, end = abs(2 * share - 1), heaviest if share > 0.5 else lightest
        counts = [len(decision.choices) for decision in self.decisions]
        return tuple(to if rng.random() < lean else rng.randrange(k) for to, k in zip(end, counts, strict=True))

    @final
    def costs(self, price: Callable[[str], float], constant: float = 0.0, combine: np.ufunc = np.add) -> TermCosts:
        """The terms, each at the price of its keys."""
        return TermCosts(self.terms(), [len(decision.choices) for decision in self.decisions], price, constant, combine)

    @final
    def extreme(self, costs: TermCosts, sign: int) -> tuple[int, ...]:
        """The usable network whose cost times ``sign`` is lowest.

        Where choices make operations dead, and where none of the ``NEAREST`` best is usable, it is one that no change
        of one choice improves.
        """

        def size(paths_NG: Paths) -> Costs:
            return sign * costs.total(paths_NG, self.live(paths_NG))

        best, start = next(costs.ascending(sign)), next(costs.ascending(-1))
        if not self.has_dead_operations and self.is_usable(best):
            return best
        if not self.is_usable(start):
            start = self.indices(self.draw(random.Random(0)))
        found = self.descend(start, size)
        if not self.has_dead_operations and size(np.array([found])) > size(np.array([best])):
            return next(filter(self.is_usable, islice(costs.ascending(sign), NEAREST)), found)
        return found

    @final
    def descend(self, start: Sequence[int], size: Callable[[Paths], Costs]) -> tuple[int, ...]:
        """A usable network from which no change of one choice leads to a usable one of a smaller ``size``.

        Every step makes the change that helps most, of equal ones the one whose choices come first; so dead decisions
        end at their first choice. ``start`` has to be usable.
        """
        counts, path = [len(decision.choices) for decision in self.decisions], tuple(start)
        while True:
            near = [(*path[:g], index, *path[g + 1 :]) for g, count in enumerate(counts) for index in range(count)]
            sizes = np.where(self.usable(np.array(near)), size(np.array(near)), np.inf)
            _, best = min(zip(sizes.tolist(), near, strict=True))
            if best == path:
                return path
            path = best

    def parse(self, text: str) -> Architecture:
        """Reads ``k3e3,id,...``, with or without ``space:`` before it, or the path of a JSON file."""
        if text.lstrip().startswith("{") or text.endswith(".json") or os.path.isfile(text):  # the text may be long
            return self._check(*_read_json(text))
        name, colon, body = text.rpartition(":")
        return self._check(name if colon else self.name, self.split(body))

    def split(self, text: str) -> list[str]:
        """The choices in a text, as they are written there; a space may know further ways to write them."""
        return [part for part in re.split(r"[\s,/|-]+", text) if part]

    def _check(self, space: str, choices: Sequence[str]) -> Architecture:
        if space not in (self.name, self.origin):
            raise ArchitectureError(
                f"the architecture is of space {space!r}, not of {self.name!r}",
                mend=f"add --space {shlex.quote(space)}",
            )
        if len(choices) != len(self.decisions):
            raise ArchitectureError(
                f"{self.name} has {len(self.decisions)} decisions, the architecture has {len(choices)} choices",
                mend=f"give one choice per decision, such as {','.join(d.choices[0] for d in self.decisions)}",
            )
        pairs = zip(self.decisions, choices, strict=True)
        return Architecture(self.name, tuple(_choice(decision, choice) for decision, choice in pairs))


def _choice(decision: Decision, choice: str) -> str:
    names = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
    if choice not in decision.choices:  # which may have a word that elsewhere stands for another
        choice = names.get(choice, choice)
    if choice not in decision.choices:
        near = get_close_matches(choice, decision.choices)
        raise ArchitectureError(
            f"decision {decision.name} has no choice {choice!r}",
            mend=(f"did you mean {near[0]!r}? " if near else "") + f"there are {', '.join(decision.choices)}",
        )
    return choice


def _read_json(text: str) -> tuple[str, list[str]]:
    source = "the architecture" if text.lstrip().startswith("{") else text
    mend = 'give a file that search wrote, or {"space": NAME, "choices": [NAME, ...]}'
    try:
        content: Any = json.loads(text if source != text else Path(text).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArchitectureError(f"there is no file {text}", mend=mend) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArchitectureError(f"{source} is not JSON: {error}", mend=mend) from error
    if isinstance(content, dict) and isinstance(content.get("architecture"), str):  # what `search --json` prints
        space, _, body = content["architecture"].rpartition(":")
        content = {"space": space, "choices": body.split(",")}
    choices = content.get("choices") if isinstance(content, dict) else None
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise ArchitectureError(f"{source} has no list of choices", mend=mend)
    return str(content.get("space", "")), choices
