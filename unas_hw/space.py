"""SearchSpace, Decision, Architecture: what a search chooses among."""

from __future__ import annotations

import json
import math
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from profilers.opspec import OpSpec
from profilers.workload import Workload
from unas_hw.errors import ArchitectureError

if TYPE_CHECKING:
    from torch import nn

    from unas_hw.supernet import Supernet

ALIASES = {"id": ("identity", "skip")}


@dataclass(frozen=True)
class Decision:
    """One independent categorical choice, a letter ``z_g`` of the paper."""

    name: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Term:
    """One additive part of a network's latency.

    Attributes:
        decision: Index of the decision it depends on; None for a fixed part.
        keys: Operations run per choice, as table keys; a fixed part has one entry. Empty where nothing runs.
        count: How often it counts (a cell that is repeated).
    """

    decision: int | None
    keys: tuple[tuple[str, ...], ...]
    count: int = 1


@dataclass(frozen=True)
class Architecture:
    """One network of a space: the name of a choice per decision."""

    space: str
    choices: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.space}:{','.join(self.choices)}"


class SearchSpace(ABC):
    """A finite set of networks for one input shape, described by independent decisions.

    Attributes:
        name: What the command line calls it.
        input_shape: ``(N, C, H, W)`` that latencies are for; N is the batch.
        classes: Outputs of the network.
    """

    name: str
    input_shape: tuple[int, int, int, int]
    classes: int

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
        """The operations that this network runs, in order."""

    @abstractmethod
    def network(self, architecture: Architecture) -> nn.Module:
        """The network on its own, freshly initialised."""

    @abstractmethod
    def supernet(self) -> Supernet:
        """All networks at once, with shared weights."""

    @property
    def size(self) -> int:
        """How many networks there are."""
        return math.prod(len(decision.choices) for decision in self.decisions)

    @property
    def title(self) -> str:
        """Name and input shape, as ``mbconv-small@1x1x8x8``."""
        return f"{self.name}@{'x'.join(map(str, self.input_shape))}"

    @final
    def workload(self, architecture: Architecture) -> Workload:
        """The whole network as one thing to measure."""
        attrs: dict[str, int | float | str] = {
            "choices": "-".join(architecture.choices),
            "classes": self.classes,
            "space": self.name,
        }
        return Workload(
            OpSpec("network", attrs, self.input_shape),
            lambda: self.network(architecture),
            self.parts(architecture),
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
        """Uniform over the space."""
        return self.architecture([rng.randrange(len(decision.choices)) for decision in self.decisions])

    @final
    def spread(self, count: int, rng: random.Random) -> tuple[Architecture, ...]:
        """Smallest, largest and random networks between them, stratified by MACs.

        Stratified, because uniform draws of 21 layers all have about the same size (a sum of
        independent parts) and would test a table on a sliver of the space only.
        """
        sizes = [self._choice_macs(term) for term in self.terms()]
        lightest, heaviest = [0] * len(self.decisions), [0] * len(self.decisions)
        for term, macs in zip(self.terms(), sizes, strict=True):
            if term.decision is not None:
                lightest[term.decision] = min(range(len(macs)), key=macs.__getitem__)
                heaviest[term.decision] = max(range(len(macs)), key=macs.__getitem__)
        found = {self.architecture(lightest): None, self.architecture(heaviest): None}
        for _ in range(1000):  # a space may have fewer networks than are asked for
            if len(found) >= min(count, self.size):
                break
            share = (len(found) - 1) / max(count - 1, 1)
            drawn = [
                self._draw_near(share, decision, low, high, rng)
                for decision, low, high in zip(self.decisions, lightest, heaviest, strict=True)
            ]
            found[self.architecture(drawn)] = None
        return tuple(found)[:count]

    @staticmethod
    def _draw_near(share: float, decision: Decision, low: int, high: int, rng: random.Random) -> int:
        """A choice that is the heaviest, the lightest or any, so that ``share`` moves the network's size."""
        lean = abs(2 * share - 1)
        if rng.random() < lean:
            return high if share > 0.5 else low
        return rng.randrange(len(decision.choices))

    def _choice_macs(self, term: Term) -> list[int]:
        macs: dict[str, int] = {workload.key: workload.cost.macs for workload in self.workloads()}
        return [sum(macs[key] for key in keys) for keys in term.keys]

    @final
    def parse(self, text: str) -> Architecture:
        """Reads ``k3e3,id,...``, with or without ``space:`` before it, or the path of a JSON file."""
        if text.lstrip().startswith("{") or text.endswith(".json") or Path(text).is_file():
            return self._check(*_read_json(text))
        name, colon, body = text.rpartition(":")
        return self._check(name if colon else self.name, [part for part in re.split(r"[\s,/|-]+", body) if part])

    def _check(self, space: str, choices: Sequence[str]) -> Architecture:
        if space != self.name:
            raise ArchitectureError(
                f"the architecture is of space {space!r}, not of {self.name!r}", mend=f"add --space {space}"
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
