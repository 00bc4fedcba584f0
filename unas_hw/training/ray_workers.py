"""Children of a search on a Ray cluster, where one machine is not enough; Ray is imported when it is asked for."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, final

from profilers.errors import MissingDependencyError, UnasError
from unas_hw.errors import ChildError
from unas_hw.training.child import train_child
from unas_hw.training.workers import TRIES, Workers, answered

LOCAL = "local"


def refuse_without_ray() -> None:
    """Raises ``MissingDependencyError``."""
    if find_spec("ray") is None:
        raise MissingDependencyError("ray is not installed", mend="pip install 'unas-hw[ray]'")


@final
class RayWorkers(Workers):
    """Tasks of one CPU each, begun anew where their worker or their node is lost.

    Every node needs unas-hw, and the images under the same path. ``refuse_without_ray`` comes first.

    Args:
        address: Of the cluster, as ``ray.init`` takes it (``auto``, ``HOST:6379``, ``ray://HOST:10001``), or ``local``,
            which begins one of this machine.
        count: CPUs of a local one, and tasks at a time.

    Raises:
        ChildError: If there is no such cluster.
    """

    def __init__(self, address: str, count: int) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that we begin tells nobody of it
        import ray

        self._ray, self._count = ray, count
        where: dict[str, Any] = {"num_cpus": count} if address == LOCAL else {"address": address}
        try:
            _knock(address)
            ray.init(**where, include_dashboard=False if address == LOCAL else None, log_to_driver=False)
        except (OSError, RuntimeError, ValueError) as error:
            what = next(iter(str(error).splitlines()), "")
            raise ChildError(
                f"there is no Ray cluster at {address}: {what}",
                mend=f"begin one with ray start --head, or use --ray {LOCAL}",
            ) from error
        self._task = ray.remote(num_cpus=1, max_retries=TRIES - 1)(_trained)

    def train(self, children: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        waiting, running = list(enumerate(children))[::-1], dict[Any, int]()
        while waiting or running:
            while waiting and len(running) < self._count:
                number, child = waiting.pop()
                running[self._task.remote(dict(child))] = number
            (done, *_), _ = self._ray.wait(list(running), num_returns=1)
            number = running.pop(done)
            yield number, answered(children[number], self._answer(done))

    def _answer(self, done: Any) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = self._ray.get(done)
            return answer
        except (
            self._ray.exceptions.WorkerCrashedError,
            self._ray.exceptions.NodeDiedError,
            self._ray.exceptions.OutOfMemoryError,
        ):
            return None

    def close(self) -> None:
        self._ray.shutdown()


def _knock(address: str) -> None:
    """Raises ``OSError`` where nobody is at ``[ray://]HOST:PORT``: Ray itself goes on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _trained(child: dict[str, Any]) -> dict[str, Any]:
    """What a task does; errors of ours travel as plain data."""
    try:
        return train_child(child)
    except UnasError as error:
        return {"error": error.what, "mend": error.mend}
