"""How many networks are trained for real, and how long: from a number, or from seconds and what a step takes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self, final

from profilers.errors import UnitError
from profilers.units import parse_ms
from unas_hw.errors import ConfigurationError

NONE, AUTO = "none", "auto"
SHARE = 0.5
"""Of the time that the search took, where nobody says."""
CHOICES = ((32, 3), (24, 3), (16, 3), (12, 2), (10, 2), (12, 1), (10, 1))
"""Networks and rungs that a time may be for: the first of them with ``TELLING`` steps in the first rung."""
TELLING = {True: 100, False: 300}
"""Steps after which trainings begin to tell networks apart: those that begin with shared weights, and others."""
LEAST = 16
"""Steps of a training at least."""
FEWEST, RUNGS = 8, 3
"""Of ``--finals N``: networks at least; rungs."""
RULES, NOMINEES = 3, 2
"""Networks that are there by a rule, such as the largest; nominees that begin with them at least."""
REPEATS = 2
"""Trainings with fresh seeds of the network that ships: those it was chosen by flatter it."""


@final
@dataclass(frozen=True)
class Finals:
    """What ``--finals`` says: so many networks, so many seconds, none, or (``auto``) neither."""

    networks: int | None = None
    seconds: float | None = None
    none: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ``ConfigurationError`` where it is none of them."""
        if text in (NONE, AUTO):
            return cls(none=text == NONE)
        if re.fullmatch(r"\d+", text) and int(text) >= FEWEST:
            return cls(networks=int(text))
        with suppress(UnitError):
            if (seconds := parse_ms(text) / 1000) > 0:
                return cls(seconds=seconds)
        raise ConfigurationError(
            f"--finals is {text!r}", mend=f"say how many networks, {FEWEST} or more, or how long: 16, 30m, none"
        )


@final
@dataclass(frozen=True)
class Rung:
    """How long networks are trained beyond the rung before: epochs of the first ``images`` of the training part."""

    epochs: int
    images: int

    @property
    def seen(self) -> int:
        """Images, each as often as it is seen."""
        return self.epochs * self.images


@final
@dataclass(frozen=True, kw_only=True)
class Plan:
    """Successive halving (Jamieson and Talwalkar, arXiv 1502.07943) with a control group that stays to the end.

    Attributes:
        networks: That begin.
        first: Those of them that begin before the model proposes others.
        control: Random networks among them.
        rungs: One after the other, and last the training of what ships; after each of the others the better half goes
            on.
        begun: Rungs whose length is not changed any more.
        seconds: All may take; None where nobody said, and lengths stay what they are.
    """

    networks: int
    first: int
    control: int
    rungs: tuple[Rung, ...]
    begun: int = 1
    seconds: float | None = None

    @classmethod
    def counted(cls, networks: int, begun: bool, images: int, batch_size: int) -> Self:
        """So many networks; the first rung has ``TELLING`` steps or an epoch."""
        steps = max(TELLING[begun], math.ceil(images / batch_size))
        return cls.of_networks(networks, _rungs(steps, RUNGS, images, batch_size))

    @classmethod
    def timed(cls, seconds: float, step_s: float, begun: bool, images: int, batch_size: int) -> Self:
        """What so many seconds are enough for, where a step takes ``step_s``, all workers counted."""
        able = seconds / step_s
        choice = next((each for each in CHOICES if able / _unit(*each).left(0) >= TELLING[begun]), CHOICES[-1])
        rungs = _rungs(able / _unit(*choice).left(0), choice[1], images, batch_size)
        return cls.of_networks(choice[0], rungs, seconds)

    @classmethod
    def of_networks(cls, networks: int, rungs: tuple[Rung, ...], seconds: float | None = None) -> Self:
        """With a control group; of fewer than six random networks most verdicts are that nothing can be told."""
        control = networks * 3 // 8 if networks >= 16 else networks // 4
        first = max(networks // 2, control + RULES + NOMINEES)
        return cls(networks=networks, first=first, control=control, rungs=rungs, seconds=seconds)

    @property
    def halvings(self) -> tuple[Rung, ...]:
        """All rungs but the last training."""
        return self.rungs[:-1]

    def survivors(self, number: int) -> int:
        """Networks of a rung that are there by their results."""
        return math.ceil(self.networks / (1 << number))

    def left(self, number: int, factor: float = 1.0) -> float:
        """Images, each as often as it is seen, of all networks from this rung on; repeats are of all rungs."""
        total, last = 0.0, len(self.rungs) - 1
        for place, rung in enumerate(self.rungs):
            seen = rung.seen * (factor if place >= number else 1.0)
            stay = min(self.survivors(place) + self.control + 1, self.networks) if place else self.networks
            trained = 1 if place == last else (stay if place >= number else 0) + (REPEATS if number < last else 0)
            total += seen * trained
        return total

    def fitted(self, number: int, able: float, images: int, batch_size: int) -> Self:
        """The plan with a length of this rung, and of those after it, with which about ``able`` images are seen."""
        fixed, all_of_it = self.left(number, 0.0), self.left(number)
        if all_of_it <= fixed:
            return replace(self, begun=number + 1)
        factor = max((able - fixed) / (all_of_it - fixed), 0.0)
        later = (lasting(rung.seen * factor / batch_size, images, batch_size) for rung in self.rungs[number:])
        return replace(self, rungs=(*self.rungs[:number], *later), begun=number + 1)

    def fewer(self, begun: int, able: float) -> Self:
        """With so many networks, ``begun`` of which have ended the first rung, that ``able`` images are enough for."""
        networks = self.networks
        while networks > begun and replace(self, networks=networks).left(0) - begun * self.rungs[0].seen > able:
            networks -= 1
        return replace(self, networks=networks)

    def as_json(self) -> dict[str, Any]:
        """The inverse of ``of``."""
        return {**vars(self), "rungs": [[rung.epochs, rung.images] for rung in self.rungs]}

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        """From a file."""
        return cls(**{**kept, "rungs": tuple(Rung(*rung) for rung in kept["rungs"])})


def least_s(step_s: float, begun: bool) -> float:
    """Seconds in which finals may tell anything: fewest networks, one rung."""
    return step_s * TELLING[begun] * _unit(*CHOICES[-1]).left(0)


def _unit(networks: int, count: int) -> Plan:
    """Of an image a step, whose first rung is a step."""
    return Plan.of_networks(networks, _rungs(1, count, 1, 1))


def lasting(steps: float, images: int, batch_size: int) -> Rung:
    """Whole epochs of all images, or of nearly all where more would be too long; one of a part where steps are few."""
    seen = max(steps, LEAST if images > 1 else 1) * batch_size
    epochs = max(round(seen / images), 1)
    return Rung(epochs, min(int(seen / epochs), images))


def _rungs(steps: float, count: int, images: int, batch_size: int) -> tuple[Rung, ...]:
    """The first of so many steps; after each, the last too, a network has trained twice as long as before it."""
    return tuple(lasting(steps * 2 ** max(rung - 1, 0), images, batch_size) for rung in range(count + 1))
