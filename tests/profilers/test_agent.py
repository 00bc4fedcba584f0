"""The timing process answers every request, is timed on one random input, and can be sent to a board as it is."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profilers.agent.engine import LEAST_CALLS, REWARM_CALLS, Array, Engine
from profilers.agent.serve import INSTANCES, encode, receive, serve

ROOT = Path(__file__).parents[2]
OLDEST = (3, 8)
"""What long-lived distributions for boards still have."""


class CountingEngine(Engine):
    """Doubles its input and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.bound: list[Array] = []

    def bind(self, x: Array) -> Callable[[], object]:
        self.bound.append(x)

        def call() -> None:
            self.calls += 1

        return call

    def run(self, x: Array) -> Array:
        return 2 * x


class Loader:
    """Remembers what it loaded; refuses what is not a module."""

    def __init__(self) -> None:
        self.engines: list[CountingEngine] = []
        self.folders: set[Path] = set()

    def __call__(self, path: str, precision: str) -> CountingEngine:
        self.folders.add(Path(path).parent)
        if Path(path).read_bytes() != b"module":
            raise ValueError("not a module")
        self.engines.append(CountingEngine())
        self.engines[-1].details = {"precision": precision}
        return self.engines[-1]


LOAD = {"do": "load", "suffix": ".onnx", "precision": "float32", "shape": [1, 3, 4, 4]}
TIME = {"do": "time", "calls": 5}


def answers(loader: Loader, *requests: tuple[dict[str, Any], bytes]) -> list[tuple[dict[str, Any], bytes]]:
    told = io.BytesIO(b"".join(encode({"key": "a", **request}, payload) for request, payload in requests))
    said = io.BytesIO()
    serve(loader, told, said)
    said.seek(0)
    return list(iter(lambda: receive(said), None))


# --- timing an engine -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call_s", "before"), [(0.0, REWARM_CALLS), (0.015, 4), (0.05, LEAST_CALLS)])
def test_calls_that_are_not_timed_bring_the_operation_back_first(
    monkeypatch: pytest.MonkeyPatch, call_s: float, before: int
) -> None:
    engine = CountingEngine()
    monkeypatch.setattr("time.perf_counter", lambda: engine.calls * call_s)
    time_s = engine.timer((1, 3, 4, 4))
    assert engine.calls == 0
    assert time_s(5) == pytest.approx(5 * call_s)
    assert engine.calls == before + 5


def test_the_input_is_random_and_the_same_every_time() -> None:
    first, second = CountingEngine(), CountingEngine()
    for engine in (first, second):
        engine.timer((2, 3, 8, 8))
    (one,), (other,) = first.bound, second.bound
    assert one.shape == (2, 3, 8, 8) and one.dtype == np.float32
    assert np.count_nonzero(one) == one.size
    assert one.std() == pytest.approx(1, abs=0.2)
    np.testing.assert_array_equal(one, other)


# --- the protocol ---------------------------------------------------------------------------------------------------


def test_samples_of_an_operation_take_turns_among_its_instances() -> None:
    seen: list[list[int]] = []
    for samples in (0, 1, 2, 3):
        loader = Loader()
        said = answers(loader, (LOAD, b"module"), *[(TIME, b"")] * samples)
        assert all("error" not in answer for answer, _ in said)
        seen.append([engine.calls for engine in loader.engines])
    assert all(len(calls) == INSTANCES for calls in seen)
    assert seen[0] == [1, 1]  # for its memory
    timed = [[calls - 1 for calls in each] for each in seen]
    assert [[calls > 0 for calls in each] for each in timed] == [
        [False, False],
        [True, False],
        [True, True],
        [True, True],
    ]
    assert timed[3][0] == 2 * timed[3][1]
    assert LEAST_CALLS + 5 <= timed[1][0] <= REWARM_CALLS + 5


def test_it_loads_times_runs_and_forgets() -> None:
    inputs = io.BytesIO()
    np.save(inputs, np.arange(3.0))
    load, timed, run, unload, gone = answers(
        Loader(),
        (LOAD, b"module"),
        (TIME, b""),
        ({"do": "run"}, inputs.getvalue()),
        ({"do": "unload"}, b""),
        (TIME, b""),
    )
    assert load[0]["details"]["precision"] == "float32"
    assert load[0]["details"]["peak_memory_bytes"] < 2**20
    assert timed[0]["s"] >= 0
    assert np.load(io.BytesIO(run[1])).tolist() == [0.0, 2.0, 4.0]
    assert unload[0] == {}
    assert gone[0] == {"error": "KeyError: 'a'"}


def test_the_memory_is_what_loading_and_one_call_took_at_most_beyond_what_there_was() -> None:
    kept = []

    class Big(Loader):
        def __call__(self, path: str, precision: str) -> CountingEngine:
            engine = super().__call__(path, precision)
            kept.append(np.ones(5 * 2**20))  # 40 MB that stay
            engine.bind = lambda x: lambda: np.ones(10 * 2**20).sum()  # type: ignore[method-assign]  # 80 MB that do not
            return engine

    for answer, _ in answers(Big(), (LOAD, b"module"), (LOAD, b"module")):
        assert 119e6 < answer["details"]["peak_memory_bytes"] < 140e6


def test_an_answer_is_sent_before_the_next_request_is_awaited() -> None:
    sent, arrived = io.BytesIO(), list[int]()

    class Requests(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            arrived.append(len(sent.getvalue().splitlines()))
            return super().readline(size)

    told = b"".join(encode({"key": "a", **request}) for request in (TIME, TIME))
    serve(Loader(), Requests(told), io.BufferedWriter(sent))
    assert arrived == [0, 1, 2]


def test_it_spins_for_a_meter_and_says_how_often_it_called() -> None:
    loader = Loader()
    _, spun = answers(loader, (LOAD, b"module"), ({"do": "spin", "s": 0.05}, b""))
    assert spun[0]["calls"] == loader.engines[0].calls - 1 > 100


def test_what_goes_wrong_with_one_operation_is_an_answer_and_the_next_is_served() -> None:
    lost, damaged, loaded, timed = answers(Loader(), (TIME, b""), (LOAD, b"damaged"), (LOAD, b"module"), (TIME, b""))
    assert "KeyError" in lost[0]["error"]
    assert damaged[0]["error"] == "ValueError: not a module"
    assert "error" not in loaded[0] and timed[0]["s"] >= 0


def test_a_request_that_was_cut_off_is_the_end_and_leaves_nothing_behind() -> None:
    whole = encode({"key": "a", **LOAD}, b"module")
    for length in (3, len(whole) - 1):
        loader, said = Loader(), io.BytesIO()
        serve(loader, io.BytesIO(whole + whole[:length]), said)
        assert len(said.getvalue().splitlines()) == 1
        assert loader.folders and not any(folder.exists() for folder in loader.folders)


def test_the_process_says_what_machine_it_is_on_and_removes_its_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "profilers.agent", "onnxruntime", "1"],
        cwd=ROOT,
        input=encode({"do": "describe", "packages": ["numpy"]}),
        capture_output=True,
        env={"TMPDIR": str(tmp_path)},
        check=True,
        timeout=60,
    )
    received = receive(io.BytesIO(done.stdout))
    assert received is not None
    assert received[0]["fingerprint"]["kind"] == "cpu"
    assert "onnxruntime" in received[0]["engines"]
    assert received[0]["state"]["versions"] == {"numpy": np.__version__}
    assert list(tmp_path.iterdir()) == []


# --- on a board -----------------------------------------------------------------------------------------------------

SOURCES = sorted((ROOT / "profilers" / "agent").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_a_board_with_an_old_python_and_nothing_of_ours_can_run_it(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=OLDEST)
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        ours = [name for name in names if name.partition(".")[0] in ("profilers", "latency_tables", "unas_hw", "cli")]
        assert all(name.startswith("profilers.agent") for name in ours)
    at_the_top = {
        (node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name).partition(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert at_the_top <= {*sys.stdlib_module_names, "numpy", "profilers"}
