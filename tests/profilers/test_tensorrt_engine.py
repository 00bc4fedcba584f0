"""TensorRT's engines where they run: a small fake of the library stands in for what needs a GPU."""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from profilers.agent.engines import load_engine, tensorrt_build
from profilers.agent.engines import tensorrt as engine
from profilers.errors import ConversionError
from profilers.runtimes.tensorrt import TensorRt
from tests.profilers import fake_tensorrt
from tests.profilers.fake_tensorrt import FakeTensorRt, install, layer_told


@pytest.fixture(params=[False, True], ids=["tensorrt", "tensorrt_rtx"])
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    return install(request.param, monkeypatch)


def _load(folder: Path, model: str, precision: str = "float32", *options: str) -> Any:
    (folder / "network.onnx").write_text(model)
    return load_engine("tensorrt", str(folder / "network.onnx"), 1, precision, options)


@pytest.mark.parametrize("dtype", ["FLOAT", "HALF"])
def test_what_runs_takes_and_gives_float32_whatever_it_computes_in(
    fake: FakeTensorRt, dtype: str, tmp_path: Path
) -> None:
    loaded = _load(tmp_path, f"{dtype} 2 3")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    out = loaded.run(x)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, 2 * x)
    assert loaded.details["library"] == f"{fake.__name__} {fake.__version__}"


def test_it_is_built_for_the_gpu_at_hand_and_knows_what_was_found_out_before(
    fake: FakeTensorRt, tmp_path: Path
) -> None:
    for _ in range(2):
        _load(tmp_path, "FLOAT 2 3", "tf32")
    assert [each["capabilities"] for each in fake.builds] == [["current"] if fake.rtx else []] * 2
    assert [each["cache"] for each in fake.builds] == ([None, None] if fake.rtx else [b"", b"t"])
    assert [each["flags"] for each in fake.builds] == [{"TF32"}] * 2


def test_a_network_of_any_batch_is_built_for_that_of_its_input_and_what_was_bound_stays(
    fake: FakeTensorRt, tmp_path: Path
) -> None:
    loaded = _load(tmp_path, "FLOAT -1 3")
    (tmp_path / "network.onnx").unlink()  # as the agent does
    first = np.ones((1, 3), np.float32)
    call = loaded.bind(first)
    kept = loaded.bound[1, 3]
    for batch in (4, 1):
        x = np.full((batch, 3), batch, np.float32)
        np.testing.assert_array_equal(loaded.run(x), 2 * x)
    assert [each["batches"] for each in fake.builds] == [[1, 1, 1], [1, 4, 4]]
    assert loaded.bound[1, 3] is kept
    kept[1].copy_(torch.full((1, 3), 5.0))
    call()
    np.testing.assert_array_equal(kept[2].numpy(), np.full((1, 3), 10.0))


@pytest.mark.parametrize(("members", "flags"), [({"STRONGLY_TYPED": 0}, 1), ({"STRONGLY_TYPED": 1}, 2), ({}, 0)])
def test_networks_are_strongly_typed_in_every_version(
    fake: FakeTensorRt, members: dict[str, int], flags: int, tmp_path: Path
) -> None:
    """1 in TensorRT 10; from 11 on all are, and the flag does nothing."""
    fake.NetworkDefinitionCreationFlag = SimpleNamespace(**members)
    _load(tmp_path, "FLOAT 2 3")
    assert fake.network_flags == flags


@pytest.mark.parametrize("shape", ["2 3", "-1 3"])
def test_an_engine_tells_the_types_of_its_layers_of_any_batch_too(
    fake: FakeTensorRt, shape: str, tmp_path: Path
) -> None:
    fake.kernels = "INT8"
    assert _load(tmp_path, f"HALF {shape}").details["layers"] == {"CaskConvolution": {"int8": 1}}


def test_where_an_engine_tells_no_types_they_are_those_of_its_file(fake: FakeTensorRt, tmp_path: Path) -> None:
    fake.ProfilingVerbosity = SimpleNamespace(DETAILED="names alone")
    assert _load(tmp_path, "HALF -1 3").details["layers"] == {"CONVOLUTION": {"float16": 1}}
    plan = tensorrt_build.build(str(tmp_path / "network.onnx"), "float16")
    assert _engine(tmp_path, plan).details["layers"] == {}


def test_an_inspector_that_says_nothing_of_a_shape_is_asked_without_one(
    fake: FakeTensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(inspector: Any, format_: str) -> str:
        return "" if inspector.execution_context else json.dumps({"Layers": [layer_told("gemm", ["Half"], "Half")]})

    monkeypatch.setattr(fake_tensorrt.Inspector, "get_engine_information", told)
    assert _load(tmp_path, "FLOAT -1 3").details["layers"] == {"gemm": {"float16": 1}}


def _engine(folder: Path, plan: bytes) -> Any:
    (folder / "network.engine").write_bytes(plan)
    return load_engine("tensorrt", str(folder / "network.engine"), 1, "float32", ())


def test_what_was_built_before_runs_every_batch_that_it_was_built_for_and_no_other(
    fake: FakeTensorRt, tmp_path: Path
) -> None:
    (tmp_path / "network.onnx").write_text("FLOAT -1 3")
    loaded = _engine(tmp_path, tensorrt_build.build(str(tmp_path / "network.onnx"), "float32", batches=(2, 3, 8)))
    for batch in (2, 8):
        x = np.full((batch, 3), batch, np.float32)
        np.testing.assert_array_equal(loaded.run(x), 2 * x)
    assert [each["batches"] for each in fake.builds] == [[2, 3, 8]]
    assert loaded.details["layers"] == {}  # this one was not built to tell them
    for batch in (1, 9):
        with pytest.raises(RuntimeError, match=rf"input cannot have the shape \({batch}, 3\)"):
            loaded.run(np.zeros((batch, 3), np.float32))


def test_an_engine_that_cannot_be_read_here_is_refused_in_the_librarys_words(
    fake: FakeTensorRt, tmp_path: Path
) -> None:
    fake.logger = tensorrt_build.logger(fake)
    fake.logger.errors.append("something that was wrong earlier")
    with pytest.raises(RuntimeError, match=r"^Serialization \(tag\)$"):
        _engine(tmp_path, b"another version's")


@pytest.mark.parametrize("fake", [False], ids=["tensorrt"], indirect=True)
def test_timings_that_are_damaged_are_replaced_and_what_fails_later_is_told(fake: FakeTensorRt, tmp_path: Path) -> None:
    timings, path = bytearray(b"damaged"), tmp_path / "network.onnx"
    path.write_text("FLOAT 2 3")
    tensorrt_build.build(str(path), "float32", timing_cache=timings)
    assert timings == b"t"
    fake.refuses = "build"
    with pytest.raises(RuntimeError, match=r"^build \(no reason\)$"):
        tensorrt_build.build(str(path), "float32", timing_cache=bytearray(b"damaged"))


def test_it_is_timed_by_the_gpus_clock_on_a_stream_of_its_own(
    fake: FakeTensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    class Timer:
        def __init__(self, call: Callable[[], object], details: dict[str, Any], clock: str | None) -> None:
            details["clock"] = "cuda-events"
            asked.append(clock)
            self.call = call

        def __call__(self, calls: int) -> float:
            for _ in range(calls):
                self.call()
            return calls * 1e-3

        def spin(self, seconds: float) -> int:
            self.call()
            return round(seconds * 1e3)

    monkeypatch.setattr(engine, "cuda_timer", Timer)
    for options, clock in (((), None), (("cuda", "graph"), "graph")):
        loaded = _load(tmp_path, "FLOAT 2 3", "float32", *options)
        time_s = loaded.timer((2, 3))
        fake.streams.clear()
        assert time_s(3) == 3e-3 and loaded.spin((2, 3), 0.5) == 500
        assert fake.streams == [7] * 4
        assert loaded.details["clock"] == "cuda-events" and asked[-1] == clock


def test_two_clocks_are_one_too_many(fake: FakeTensorRt, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="two clocks"):
        _load(tmp_path, "FLOAT 2 3", "float32", "events", "graph")


@pytest.mark.parametrize("step", ["build", "deserialize", "execute"])
def test_a_step_that_fails_in_silence_is_an_error_with_the_reason_from_the_log(
    fake: FakeTensorRt, step: str, tmp_path: Path
) -> None:
    fake.refuses = step
    with pytest.raises(RuntimeError, match=rf"^{step} \(no reason\)$"):
        _load(tmp_path, "FLOAT 2 3").run(np.zeros((2, 3), np.float32))


def test_another_shape_than_the_networks_is_refused(fake: FakeTensorRt, tmp_path: Path) -> None:
    loaded = _load(tmp_path, "FLOAT 2 3")
    with pytest.raises(RuntimeError, match=r"input cannot have the shape \(2, 4\)"):
        loaded.run(np.zeros((2, 4), np.float32))


@pytest.mark.parametrize("fake", [False], ids=["tensorrt"], indirect=True)
def test_tensorrt_builds_for_no_other_gpu_and_says_who_does(fake: FakeTensorRt, tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_text("FLOAT 2 3")
    with pytest.raises(RuntimeError, match="GPU at hand only; TensorRT-RTX builds for others"):
        tensorrt_build.build(str(tmp_path / "network.onnx"), "float32", capabilities=("SM89",))


def test_without_a_driver_a_gpu_or_pytorch_loading_says_which_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    path = tmp_path / "network.onnx"
    TensorRt().convert(nn.Conv2d(3, 8, 3), (1, 3, 16, 16), path)
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(
        ConversionError, match=r"network\.onnx: there is no NVIDIA driver: libcuda\.so\.1 cannot be loaded"
    ):
        TensorRt().load(path, 1)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConversionError, match=r"PyTorch \S+ sees no NVIDIA GPU"):
        TensorRt().load(path, 1)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConversionError, match=r"PyTorch.* is not installed"):
        TensorRt().load(path, 1)
