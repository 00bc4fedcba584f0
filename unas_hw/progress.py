"""Step: what a job reports while it works."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Step:
    """``done`` of ``total`` of a stage; ``note`` is one line worth keeping on the screen."""

    stage: str
    done: int
    total: int
    note: str = ""


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
