"""The verdict of a search: how far what ships lies above random networks of its budget and above the largest one.

What won was chosen by its own result, chance and all, so only trainings of it with fresh seeds count. Intervals are
Student's t with Welch and Satterthwaite's degrees of freedom. They are of accuracy on these images: others differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np

from profilers.timing import Floats

CONFIDENCE = 0.95
EXPECTED_DOF = 4
"""Degrees of freedom that the noise expected from the images counts for, beside those of repeated trainings."""
NARROW = 1.0
"""Points to each side: a wider interval that includes 0 tells nothing."""
MOST = 1000
RANDOM, LARGEST = "random networks of this budget", "the largest"
Winner = Literal["nominee", "control", "largest"]
SHIPS: dict[Winner, str] = {
    "nominee": "",
    "control": "a random network of the control group won: it is the one that ships; ",
    "largest": "the largest network is the one that ships; ",
}


@final
@dataclass(frozen=True, kw_only=True)
class Advantage:
    """Of what ships, in percentage points.

    Attributes:
        over: What it is compared with, in words.
        points: None while one of the two has no training that counts.
        margin: Half of the 95% interval; None while nothing says how much chance there is.
        more: Trainings after which it would be told, or at least those that are missing; any number above ``MOST``.
    """

    over: str
    points: float | None
    margin: float | None
    more: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """At 95% confidence, in points."""
        if self.points is None or self.margin is None:
            return None
        return self.points - self.margin, self.points + self.margin

    @property
    def differs(self) -> bool:
        """Whether the interval excludes 0."""
        return self.points is not None and self.margin is not None and abs(self.points) > self.margin

    @property
    def told(self) -> bool:
        """Whether the interval excludes 0 or is narrow."""
        return self.differs or (self.margin is not None and self.margin <= NARROW)

    def words(self) -> str:
        """Such as ``0.2 ± 0.3 points above the largest: no better than the largest``."""
        if self.points is None:
            found = f"against {self.over}"
        else:
            found = f"{self._numbers()} points {'below' if self.points < 0 else 'above'} {self.over}"
        if self.differs:
            return found
        if self.told:
            return f"{found}: no better than {self.over.removesuffix(' of this budget')}"
        about = f"{'at least' if self.margin is None else 'about'} {self.more}"
        number = "more than a thousand" if self.more > MOST else about
        return f"{found}: cannot be told, it takes {number} more training{'s' if self.more > 1 else ''}"

    def _numbers(self) -> str:
        """With as many decimals as it takes to see whether the interval excludes 0, one or two."""
        points = abs(self.points or 0.0)
        if self.margin is None:
            return f"{points:.1f}"
        clear = round(self.margin, 1) > 0 and (round(points, 1) > round(self.margin, 1)) == self.differs
        digits = 1 if clear else 2
        return f"{points:.{digits}f} ± {self.margin:.{digits}f}"


@final
@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a search was worth.

    Attributes:
        winner: Which of the finals ships.
        control: Trainings of random networks that counted.
        largest: Trainings of the largest network that counted beside the winner's.
        over_random: Advantage over the mean of all networks of the budget's band.
        over_largest: None where nothing is compared: the largest ships, or was not among the finals.
    """

    winner: Winner
    control: int
    largest: int
    over_random: Advantage
    over_largest: Advantage | None

    def words(self) -> str:
        """One line."""
        parts = [self.over_random, *([self.over_largest] if self.over_largest else [])]
        return SHIPS[self.winner] + "; ".join(part.words() for part in parts)

    def as_json(self) -> dict[str, Any]:
        """Plain values; None where there is none."""
        both = {"random": self.over_random, "largest": self.over_largest}
        return {
            "winner": self.winner,
            "random": self.control,
            "largest": self.largest,
            "advantage_points": {name: each and each.points for name, each in both.items()},
            "interval": {name: list(each.interval) if each and each.interval else None for name, each in both.items()},
            "told": {name: each and each.told for name, each in both.items()},
            "words": self.words(),
        }


def verdict(
    winner: Sequence[float],
    control: Sequence[Sequence[float]],
    largest: Sequence[float] | None,
    *,
    images: int,
    winner_is: Winner = "nominee",
) -> Verdict:
    """Compares accuracies, 0 to 1, of equally long trainings.

    Args:
        winner: Of what ships, trained with fresh seeds; the result that it was chosen by is not among them.
        control: Of each random network of the band, those that won too. Of one that won only its first result: without
            it the others would be worse than random networks are, and its repeats are the winner's.
        largest: Of the largest network of the band; None where it is not among the finals. Unused where it ships.
        images: On which accuracies were measured.
        winner_is: Which of the finals ships.
    """
    wins, randoms = 100 * np.array(winner, float), [100 * np.array(each, float) for each in control if each]
    others = 100 * np.array([] if largest is None or winner_is == "largest" else largest, float)
    means = np.array([each.mean() for each in randoms])
    noise, dof = _noise([each for each in (wins, *randoms, others) if len(each)], images)
    # The spread of the control group holds the noise, so it is no less; and where nothing was trained twice, no more.
    spread = max(float(means.var(ddof=1)), noise if dof else 0.0) if len(means) > 1 else math.nan
    known = len(wins), len(means), len(others)

    def over_random(repeats: int, networks: int) -> float:
        if not dof:
            return _margin((spread / repeats + spread / networks, networks - 1))
        return _margin((noise / repeats, dof + repeats - known[0]), (spread / networks, networks - 1))

    def over_largest(repeats: int, trainings: int) -> float:
        return _margin((noise / repeats + noise / trainings, dof + repeats - known[0] + trainings - known[2]))

    missing = max(1 - known[0], 0) + max(2 - known[1], 0)
    beside = _advantage(RANDOM, wins, means, missing, over_random)
    above = None
    if largest is not None and winner_is != "largest":
        missing = max(1 - known[0], 0) + max(1 - known[2], 0)
        above = _advantage(LARGEST, wins, others, missing if dof or missing else 1, over_largest)
    return Verdict(
        winner=winner_is, control=sum(map(len, randoms)), largest=known[2], over_random=beside, over_largest=above
    )


def _advantage(over: str, wins: Floats, others: Floats, missing: int, margin: Callable[[int, int], float]) -> Advantage:
    """Of the winner's mean over that of others; ``margin`` of so many of each."""
    points = float(wins.mean() - others.mean()) if len(wins) and len(others) else None
    if missing or points is None:
        return Advantage(over=over, points=points, margin=None, more=missing)
    counts = len(wins), len(others)
    found = Advantage(over=over, points=points, margin=margin(*counts), more=0)
    if found.told:
        return found
    more, goal = 0, max(abs(points), NARROW)
    while more <= MOST and margin(*counts) >= goal:
        first, second = counts
        counts = min((first + 1, second), (first, second + 1), key=lambda each: margin(*each))  # where it helps more
        more += 1
    return Advantage(over=over, points=points, margin=found.margin, more=more)


def _noise(trained: Sequence[Floats], images: int) -> tuple[float, int]:
    """Variance of one training's result, in squared points, and its degrees of freedom; 0 where none was repeated.

    Repeated trainings tell it, but they are few. So what n images let expect at an accuracy of p, about p (1 - p) / 2n
    (Jordan, arXiv 2304.01910, for two classes; it is near in NAS-Bench-Macro too), is pooled with them (as Smyth does,
    Stat. Appl. Genet. Mol. Biol. 2004).
    """
    repeated = sum(len(each) - 1 for each in trained)
    if not repeated:
        return math.nan, 0
    squares = sum(float(((each - each.mean()) ** 2).sum()) for each in trained)
    right = (float(np.concatenate(trained).mean()) / 100 * images + 1) / (images + 2)
    expected = 100**2 * right * (1 - right) / (2 * images)
    dof = EXPECTED_DOF + repeated
    return (EXPECTED_DOF * expected + squares) / dof, dof


def _margin(*shares: tuple[float, int]) -> float:
    """Half of the interval of a difference, from variances and their degrees of freedom."""
    from scipy.special import stdtrit  # takes a second to import

    variance = sum(share for share, _ in shares)
    if not variance:
        return 0.0
    dof = variance**2 / sum(share**2 / dof for share, dof in shares)
    return float(stdtrit(dof, (1 + CONFIDENCE) / 2)) * math.sqrt(variance)
