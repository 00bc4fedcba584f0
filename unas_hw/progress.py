"""Step: what a job reports while it works."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Step:
    """What just happened.

    Attributes:
        stage: What the job is at ...
        done, total: ... and how far it is with that.
        note: One line worth keeping on the screen.
        epoch: Metrics of an epoch, or of an update of a policy, that has ended with this step, as in ``metrics.jsonl``.
        measured: Candidates that were measured since the step before: ``architecture``, ``latency_ms``, and more.
    """

    stage: str
    done: int
    total: int
    note: str = ""
    epoch: Mapping[str, Any] | None = None
    measured: tuple[Mapping[str, Any], ...] = ()


Job = Generator[Step, None, Result]
"""Yields steps, returns its result."""


def finish(job: Job[Result]) -> Result:
    """Runs a job to its end without looking at its steps."""
    while True:
        try:
            next(job)
        except StopIteration as end:
            result: Result = end.value
            return result
