"""Verify: is the artifact the network, and does it keep the promise? A verdict that says why."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from profilers.agent.engine import Array

TOLERANCES = {
    "float32": (1e-4, 0.0),
    "float16": (2e-2, 0.01),
    "tf32": (2e-2, 0.01),
    "bfloat16": (1e-1, 0.03),
    "int8": (0.5, 0.1),
}
"""By precision: the largest error of an output (beside float32: as a share of the largest output, if that is above 1),
and the share of images whose class may change."""
LOST_POINTS = {"float16": 0.1, "tf32": 0.1, "bfloat16": 0.5, "int8": 0.5}
"""By precision: how many points of top-1 accuracy may be lost, beyond what chance explains."""
ENOUGH_IMAGES = 64
"""Of fewer images none may change its class, or, beside float32, the share says nothing and is not checked."""
MAX_PREDICTION_ERROR = 15.0
"""Percent; beyond it the table misleads, whatever the budget says."""

MEASURED, PREDICTED, MOVED, PREDICTION = (
    "upper bound of measured_ms within the budget",
    "predicted_ms within the budget (nothing was measured)",
    "factor by which the anchors moved",
    "prediction error in percent",
)
MOST_MOVED = 1.5
"""Beyond it a latency at the table's speed is no latency of this machine, and what the clock said is judged."""


@final
@dataclass(frozen=True)
class Check:
    """One thing that was looked at; passed while ``seen <= allowed``, so never for NaN.

    The numbers are in the unit that the name says; ``words`` are behind them, such as an error of a library.
    """

    name: str
    seen: float
    allowed: float
    words: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is within what is allowed."""
        return self.seen <= self.allowed

    def __str__(self) -> str:
        words = f": {self.words}" if self.words else ""
        return f"{'pass' if self.passed else 'FAIL'}  {self.name}: {self.seen:.4g} (allowed {self.allowed:.4g}){words}"

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return {
            "name": self.name, "seen": self.seen, "allowed": self.allowed, "passed": self.passed, "words": self.words
        }  # fmt: skip


@final
@dataclass(frozen=True)
class Verdict:
    """All checks of one artifact; false if any failed and if nothing was checked."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return "\n".join(map(str, self.checks)) or "FAIL  nothing was checked"


def parity(expected: Array, seen: Array, where: str, precision: str = "float32") -> list[Check]:
    """Outputs ``(N, classes)`` of the network and of the artifact, on the same images."""
    max_error, max_disagreement = TOLERANCES[precision]
    if precision != "float32":
        max_error *= max(1.0, float(np.abs(expected).max()))
    if expected.shape != seen.shape:
        return [Check(f"outputs of another shape ({where})", 1, 0)]
    disagreement = float((expected.argmax(1) != seen.argmax(1)).mean())
    checks = [Check(f"max_abs_error ({where})", float(np.abs(expected - seen).max()), max_error)]
    if precision == "float32" or len(expected) >= ENOUGH_IMAGES:
        checks.append(Check(f"top1_disagreement ({where})", disagreement, max_disagreement))
    return checks


def accuracy_check(right: Array, still_right: Array, precision: str) -> Check:
    """What a shorter type costs in top-1 accuracy: which of the same images were right, ``(N,)``, before and after.

    Allowed are ``LOST_POINTS`` and two standard errors of the difference, for images that only chance decides.
    """
    difference = right.astype(float) - still_right.astype(float)
    chance = 2 * float(difference.std()) / math.sqrt(len(difference))
    points, allowed = 100 * float(difference.mean()), LOST_POINTS[precision] + 100 * chance
    words = f"{right.mean():.2%} before, {still_right.mean():.2%} after, {len(right)} images"
    return Check("points of top-1 accuracy lost", points, allowed, words)


def budget_check(upper_ms: float, budget_ms: float) -> Check:
    """The promise, by the upper bound of the measurement."""
    return Check(MEASURED, upper_ms, budget_ms)


def table_checks(measured_ms: float, predicted_ms: float, anchor_scale: float) -> list[Check]:
    """Whether the table could have told, and whether it is still of this machine."""
    factor, words = max(anchor_scale, 1 / anchor_scale), f"x{anchor_scale:.3f} to the table's speed"
    if factor > MOST_MOVED:
        words += "; unas-hw profile --refresh brings the table to this machine"
    return [
        Check(MOVED, factor, MOST_MOVED, words),
        Check(PREDICTION, abs(predicted_ms / measured_ms - 1) * 100, MAX_PREDICTION_ERROR),
    ]


def published_check(predicted_ms: float, budget_ms: float) -> Check:
    """The promise, where only a published table knows the device."""
    return Check(PREDICTED, predicted_ms, budget_ms)


def budget_missed(checks: Iterable[Check]) -> bool:
    """Whether nothing else failed than the budget and what tells of the table's speed."""
    failed = {check.name for check in checks if not check.passed}
    return bool(failed & {MEASURED, PREDICTED}) and failed <= {MEASURED, PREDICTED, MOVED, PREDICTION}
