"""Running a job: the bar, callbacks, and what an interrupt leaves behind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from types import FrameType
from typing import Any, TypeVar

from unas_hw.api.bar import bar
from unas_hw.progress import Job, Step

Raw = TypeVar("Raw")
Made = TypeVar("Made")
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Callback:
    """What is called while something runs; every method does nothing until a subclass says otherwise.

    An exception in one stops the run and reaches the caller as it is. What the run has kept stays, and the same call
    goes on from there. Of a search that goes on, candidates that were measured before are told again.
    """

    def on_step(self, step: Step) -> None:
        """Something was done; ``step`` says what, how far it is, and often has a line for people."""

    def on_epoch_end(self, metrics: Mapping[str, Any]) -> None:
        """An epoch has ended: its line of ``metrics.jsonl``, with ``stage`` and ``seconds``."""

    def on_candidate_measured(self, candidate: Mapping[str, Any]) -> None:
        """A network was measured, or trained as a child: ``architecture``, ``latency_ms``, and what else is known."""

    def on_result(self, result: Any) -> None:
        """It is done, and this is what the caller gets."""


def follow(
    job: Job[Raw],
    made: Callable[[Raw], Made],
    callbacks: Iterable[Callback] = (),
    progress: bool | None = None,
) -> Made:
    """Runs a job to its end.

    Args:
        job: Not yet begun. It is closed whatever happens: locks, devices and processes are given back.
        made: What becomes of its result.
        callbacks: In this order; after the bar.
        progress: Whether there is a bar; None for one in a terminal and in a notebook.
    """
    told = tuple(callbacks)
    with interruptible() as interrupts, bar(progress) as show, closing(job):
        while True:
            if interrupts:
                raise _end(interrupts[0])
            try:
                step = next(job)
            except StopIteration as end:
                result = made(end.value)
                break
            show(step)
            for each in told:
                _tell(each, step)
    for each in told:
        each.on_result(result)
    return result


def _tell(callback: Callback, step: Step) -> None:
    callback.on_step(step)
    for candidate in step.measured:
        callback.on_candidate_measured(candidate)
    if step.epoch is not None:
        callback.on_epoch_end({"stage": step.stage, **step.epoch})


def _end(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """The signals so far that would end the process, each of which is raised, so that everything is closed first.

    An interrupt is ``KeyboardInterrupt``, any other ``SystemExit`` with the code that a shell has for it. They are kept
    because a library that catches everything while it is imported swallows the exception. What is ignored, as SIGHUP is
    under ``nohup``, or handled by somebody else is left alone.
    """
    seen: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        raise _end(number)

    ours = (signal.default_int_handler, signal.SIG_DFL)
    here = threading.current_thread() is threading.main_thread()
    before = {number: found for number in ENDS if here and (found := signal.getsignal(number)) in ours}
    for number in before:
        signal.signal(number, end)
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
