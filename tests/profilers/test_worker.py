"""The timing process: every artifact is loaded twice, and samples take turns."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from profilers.devices.worker import INSTANCES, serve
from profilers.runtimes.base import LEAST_CALLS, REWARM_CALLS, Array, Engine


class CountingEngine(Engine):
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def bind(self, x: Array) -> Callable[[], object]:
        def call() -> None:
            self.calls += 1

        return call

    def run(self, x: Array) -> Array:
        return x


class CountingRuntime:
    """Remembers what it loaded."""

    def __init__(self) -> None:
        self.engines: list[CountingEngine] = []

    def load(self, path: Path, threads: int) -> CountingEngine:
        self.engines.append(CountingEngine())
        return self.engines[-1]


def answers(runtime: Any, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    told = io.StringIO("\n".join(json.dumps({"key": "a", **request}) for request in requests) + "\n")
    said = io.StringIO()
    serve(runtime, 1, told, said)
    return [json.loads(line) for line in said.getvalue().splitlines()]


def test_samples_of_an_operation_take_turns_among_its_instances() -> None:
    runtime = CountingRuntime()
    load = {"do": "load", "path": "a.onnx", "shape": [1, 3, 4, 4], "dtype": "float32"}
    seen: list[list[int]] = []
    for samples in (0, 1, 2, 3):
        runtime.engines.clear()
        said = answers(runtime, load, *[{"do": "time", "calls": 5}] * samples)
        assert all("error" not in answer for answer in said)
        seen.append([engine.calls for engine in runtime.engines])
    assert all(len(calls) == INSTANCES for calls in seen)
    taken = [[calls > 0 for calls in each] for each in seen]
    assert taken == [[False, False], [True, False], [True, True], [True, True]]
    assert seen[3][0] == 2 * seen[3][1]
    assert LEAST_CALLS + 5 <= seen[1][0] <= REWARM_CALLS + 5


def test_what_goes_wrong_with_one_operation_is_an_answer_and_the_next_is_served() -> None:
    runtime = CountingRuntime()
    load = {"do": "load", "path": "a.onnx", "shape": [1, 3, 4, 4], "dtype": "float32"}
    lost, loaded, timed = answers(runtime, {"do": "time", "calls": 1}, load, {"do": "time", "calls": 1})
    assert "KeyError" in lost["error"]
    assert loaded == {} and timed["s"] >= 0
