"""An interrupt ends a job even where the code that it met swallowed its exception."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from cli.terminal import follow
from unas_hw.progress import Step


def test_an_interrupt_that_a_library_swallows_ends_the_job_at_its_next_step() -> None:
    done = []

    def job() -> Iterator[Step]:
        yield Step("import", 0, 2)
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:  # as libraries do around their optional imports
            done.append("swallowed")
        yield Step("import", 1, 2)
        done.append("went on")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        follow(job())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert done == ["swallowed"]
    assert signal.getsignal(signal.SIGINT) is before
