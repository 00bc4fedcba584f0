"""Who trains the children of a search: this process, or several of this machine; a lost one is replaced."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue
from typing import Any, Self, final

from profilers.agent.machine import usable_cores
from unas_hw.errors import ChildError
from unas_hw.training.child import train_child

MOST = 8
"""Processes where nobody says how many: each has PyTorch and the images in memory."""
TRIES = 3
"""How often a child is begun whose worker is lost each time."""


class Workers(ABC):
    """Who trains children; used as a context."""

    @abstractmethod
    def train(self, children: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Trains them at the same time, as far as there are workers; yields number and answer as they finish.

        Args:
            children: By ``unas_hw.training.child.told_child``; the first are begun first.

        Raises:
            ChildError: If a child cannot be trained, or its worker was lost ``TRIES`` times.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends all workers, whatever they do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def many(count: int | None, ray: str | None = None) -> Workers:
    """So many workers, see ``--workers``; of a Ray cluster where one is named."""
    count = count_of(count)
    if ray is not None:
        from unas_hw.training.ray_workers import RayWorkers

        return RayWorkers(ray, count)
    return Here() if count == 1 else LocalWorkers(count)


def place_of(count: int | None, ray: str | None) -> str:
    """The same in words."""
    count = count_of(count)
    return f"{count} process(es)" if ray is None else f"{count} task(s) of Ray at {ray}"


def count_of(told: int | None) -> int:
    """How many there are where so many are asked for, or nobody says."""
    return told or min(len(usable_cores()), MOST)


@final
class Here(Workers):
    """This process, on one thread."""

    def train(self, children: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, child in enumerate(children):
            yield number, train_child(child)

    def close(self) -> None:
        """Nothing."""


@final
class LocalWorkers(Workers):
    """Processes of this machine, each of one thread; begun when they are needed, and kept for further children.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._threads = ThreadPoolExecutor(count, "unas-hw-children")
        self._idle: SimpleQueue[subprocess.Popen[str] | None] = SimpleQueue()
        for _ in range(count):
            self._idle.put(None)
        self._lock, self._closed = threading.Lock(), False
        self._processes: list[subprocess.Popen[str]] = []

    def train(self, children: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        futures = {self._threads.submit(self._train, child): number for number, child in enumerate(children)}
        for future in as_completed(futures):
            yield futures[future], answered(children[futures[future]], future.result())

    def _train(self, child: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer; None where no worker lived to give one."""
        worker = self._idle.get()
        try:
            for _ in range(TRIES):
                if worker is None or worker.poll() is not None:
                    worker = self._begin()
                if (answer := _asked(worker, child)) is not None:
                    return answer
            return None
        finally:
            self._idle.put(worker)

    def _begin(self) -> subprocess.Popen[str]:
        with self._lock:
            if self._closed:
                raise ChildError("the workers were closed", mend="run the same command again")
            process = subprocess.Popen(
                [sys.executable, "-m", "unas_hw.training.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self._processes.append(process)
            return process

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for process in self._processes:
                process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _asked(worker: subprocess.Popen[str], child: Mapping[str, Any]) -> dict[str, Any] | None:
    assert worker.stdin is not None and worker.stdout is not None
    try:
        worker.stdin.write(json.dumps(child) + "\n")
        worker.stdin.flush()
        line = worker.stdout.readline()
    except BrokenPipeError:
        line = ""
    if not line.endswith("\n"):
        worker.kill()
        worker.wait()
        return None
    answer: dict[str, Any] = json.loads(line)
    return answer


def answered(child: Mapping[str, Any], answer: Mapping[str, Any] | None) -> dict[str, Any]:
    """The answer, where it is none of failure; raises ``ChildError``."""
    name = f"{child['space']}:{','.join(child['choices'])}"
    if answer is None:
        raise ChildError(
            f"{name} cannot be trained: its worker was lost {TRIES} times",
            mend="look for a lack of memory (dmesg), use fewer --workers, and run the same command again",
        )
    if "error" in answer:
        raise ChildError(f"{name} cannot be trained where its worker is: {answer['error']}", mend=answer["mend"])
    return dict(answer)
