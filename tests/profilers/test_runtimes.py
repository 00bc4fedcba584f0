"""An engine is timed on one random input, a worker answers every request, and a module becomes one ONNX file."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from profilers.devices.worker import serve
from profilers.errors import ConversionError
from profilers.runtimes.base import LEAST_CALLS, REWARM_CALLS, Array, Engine, Runtime
from profilers.runtimes.onnx_file import INPUT, OPSET, OUTPUT, write_onnx
from profilers.runtimes.onnxruntime import OnnxRuntime
from profilers.runtimes.torch import TorchRuntime

SHAPE = (1, 3, 16, 16)
ROOT = Path(__file__).parents[2]


class CountingEngine(Engine):
    """Doubles its input and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.bound: list[Array] = []

    def bind(self, x: Array) -> Callable[[], object]:
        self.bound.append(x)

        def call() -> None:
            self.calls += 1

        return call

    def run(self, x: Array) -> Array:
        return 2 * x


class CountingRuntime(Runtime):
    """Loads a counting engine from any file that there is."""

    name, suffix, packages = "counting", ".count", ()

    def convert(self, module: nn.Module, shape: tuple[int, ...], path: Path) -> None:
        path.write_text("module")

    def load(self, path: Path, threads: int) -> CountingEngine:
        assert path.read_text() == "module"
        return CountingEngine()


# --- timing an engine ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call_s", "before"), [(0.0, REWARM_CALLS), (0.015, 4), (0.05, LEAST_CALLS)])
def test_calls_that_are_not_timed_bring_the_operation_back_first(
    monkeypatch: pytest.MonkeyPatch, call_s: float, before: int
) -> None:
    engine = CountingEngine()
    monkeypatch.setattr("time.perf_counter", lambda: engine.calls * call_s)
    time_s = engine.timer((1, 3, 4, 4), "float32")
    assert engine.calls == 0
    assert time_s(5) == pytest.approx(5 * call_s)
    assert engine.calls == before + 5


def test_the_input_is_random_and_the_same_every_time() -> None:
    first, second = CountingEngine(), CountingEngine()
    for engine in (first, second):
        engine.timer((2, 3, 8, 8), "float32")
    (one,), (other,) = first.bound, second.bound
    assert one.shape == (2, 3, 8, 8) and one.dtype == np.float32
    assert np.count_nonzero(one) == one.size
    assert one.std() == pytest.approx(1, abs=0.2)
    np.testing.assert_array_equal(one, other)


def test_compiling_leaves_no_artifact_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    CountingRuntime().compile(nn.Identity(), SHAPE)
    assert list(tmp_path.iterdir()) == []


# --- the worker ---------------------------------------------------------------------------------------------------


def _answers(*requests: dict[str, Any]) -> list[dict[str, Any]]:
    answers = io.StringIO()
    serve(CountingRuntime(), 1, io.StringIO("".join(json.dumps(request) + "\n" for request in requests)), answers)
    return [json.loads(line) for line in answers.getvalue().splitlines()]


def test_the_worker_loads_times_and_runs(tmp_path: Path) -> None:
    artifact, inputs, outputs = tmp_path / "artifact", tmp_path / "in.npy", tmp_path / "out.npy"
    artifact.write_text("module")
    np.save(inputs, np.arange(3.0))
    load, timed, run = _answers(
        {"do": "load", "key": "op", "path": str(artifact), "shape": [1, 3], "dtype": "float32"},
        {"do": "time", "key": "op", "calls": 3},
        {"do": "run", "key": "op", "inputs": str(inputs), "outputs": str(outputs)},
    )
    assert load == run == {}
    assert timed["s"] >= 0
    assert np.load(outputs).tolist() == [0.0, 2.0, 4.0]


def test_the_worker_answers_a_failure_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "artifact").write_text("module")
    missing, unknown, load = _answers(
        {"do": "load", "key": "op", "path": str(tmp_path / "missing"), "shape": [1], "dtype": "float32"},
        {"do": "time", "key": "op", "calls": 3},
        {"do": "load", "key": "op", "path": str(tmp_path / "artifact"), "shape": [1], "dtype": "float32"},
    )
    assert "FileNotFoundError" in missing["error"]
    assert unknown["error"] == "KeyError: 'op'"
    assert load == {}


def test_the_worker_frees_what_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "artifact").write_text("module")
    load, unload, timed = _answers(
        {"do": "load", "key": "op", "path": str(tmp_path / "artifact"), "shape": [1], "dtype": "float32"},
        {"do": "unload", "key": "op"},
        {"do": "time", "key": "op", "calls": 3},
    )
    assert load == unload == {}
    assert timed["error"] == "KeyError: 'op'"


def test_a_worker_whose_profiler_was_killed_removes_the_artifacts_and_ends(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    (folder / "1.onnx").write_text("left behind")
    command = [sys.executable, "-m", "profilers.devices.worker", "onnxruntime", "1", str(folder)]
    subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=True, timeout=60)
    assert not folder.exists()


# --- one ONNX file ------------------------------------------------------------------------------------------------

ARITHMETIC = ("Conv", "Gemm", "MatMul", "Clip", "Relu", "HardSwish", "Sigmoid", "BatchNormalization")


def _network() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    norm.running_mean += 0.5  # so that a network in training mode would compute something else
    return network


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The same network as it ships (True) and as it is timed (False)."""
    folders = {final: tmp_path_factory.mktemp("onnx") for final in (True, False)}
    for final, folder in folders.items():
        write_onnx(_network(), SHAPE, folder / "network.onnx", final=final)
    return {final: folder / "network.onnx" for final, folder in folders.items()}


@pytest.mark.parametrize("final", [True, False])
def test_a_network_is_one_file_of_the_opset_that_runtimes_read(files: dict[bool, Path], final: bool) -> None:
    assert list(files[final].parent.iterdir()) == [files[final]]
    model = onnx.load(files[final], load_external_data=False)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == OPSET == 20
    assert [value.name for value in model.graph.input] == [INPUT]
    assert [value.name for value in model.graph.output] == [OUTPUT]
    onnx.checker.check_model(model)


def test_what_ships_takes_any_batch_and_what_is_timed_takes_one(files: dict[bool, Path]) -> None:
    batch = {final: onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0] for final, path in files.items()}
    assert batch[True].dim_param and not batch[True].HasField("dim_value")
    assert batch[False].dim_value == 1


def test_what_is_timed_has_the_arithmetic_of_what_ships(files: dict[bool, Path]) -> None:
    counts = {
        final: Counter(node.op_type for node in onnx.load(path).graph.node if node.op_type in ARITHMETIC)
        for final, path in files.items()
    }
    assert counts[True] == counts[False]
    assert counts[True] == {"Conv": 2, "Clip": 1, "Relu": 1, "Gemm": 1}


@pytest.mark.parametrize("batch", [1, 5])
def test_what_ships_computes_what_pytorch_computes_for_every_batch(files: dict[bool, Path], batch: int) -> None:
    x = np.random.default_rng(0).standard_normal((batch, *SHAPE[1:])).astype(np.float32)
    with torch.inference_mode():
        expected = _network().eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(OnnxRuntime().load(files[True], 1).run(x), expected, atol=1e-5, rtol=1e-5)


class _Eigenvalues(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.linalg.eigvals(x)
        return found


def test_a_module_that_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_text("old")
    with pytest.raises(ConversionError, match="_Eigenvalues"):
        write_onnx(_Eigenvalues(), (1, 3, 4, 4), path, final=False)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


class _Broken(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError


@pytest.mark.parametrize("runtime", [TorchRuntime(), OnnxRuntime()])
def test_a_module_that_fails_is_named_and_nothing_is_written(runtime: Runtime, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"_Broken cannot be .*: "):
        runtime.convert(_Broken(), SHAPE, tmp_path / "module")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("runtime", [TorchRuntime(), OnnxRuntime()])
def test_a_damaged_artifact_is_named(runtime: Runtime, tmp_path: Path) -> None:
    path = tmp_path / f"module{runtime.suffix}"
    path.write_bytes(b"damaged")
    with pytest.raises(ConversionError, match=str(path)):
        runtime.load(path, 1)


def test_exporting_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_onnx(_network(), SHAPE, tmp_path / "network.onnx", final=False)
    assert capfd.readouterr() == ("", "")


def test_another_opset_than_was_asked_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = torch.onnx.export

    def older(*args: Any, **kwargs: Any) -> object:
        return export(*args, **{**kwargs, "opset_version": 17})

    monkeypatch.setattr(torch.onnx, "export", older)
    with pytest.raises(ConversionError, match=f"opset 17 where {OPSET}"):
        write_onnx(_network(), SHAPE, tmp_path / "network.onnx", final=False)
    assert list(tmp_path.iterdir()) == []
