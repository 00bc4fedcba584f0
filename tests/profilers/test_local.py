"""This machine's CPU: what is timed computes what PyTorch computes, and whatever fails says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from profilers.devices.local import LocalProfiler
from profilers.environment import BRIEF_SPIN
from profilers.errors import ConversionError, DeviceLostError
from profilers.opspec import OpSpec
from profilers.registry import RUNTIMES, devices_of, find_runtime, is_installed
from profilers.runtimes.litert import converter_python
from profilers.testing import QUICK, SMALL
from profilers.workload import Workload

SHAPE = (1, 3, 16, 16)


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 5, padding=2, groups=8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()


class _Eigenvalues(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.linalg.eigvals(x)
        return found


def _inputs() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


def _expected() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    with torch.inference_mode():
        output: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = _network()(torch.from_numpy(_inputs())).numpy()
    return output


@pytest.fixture(scope="module", params=[name for name in RUNTIMES if is_installed(name) and "cpu" in devices_of(name)])
def profiler(request: pytest.FixtureRequest) -> Iterator[LocalProfiler]:
    if request.param == "litert" and not converter_python().is_file():
        pytest.skip("no converter to .tflite: make test-litert")
    with LocalProfiler(request.param, 1) as opened:
        yield opened


def test_what_is_timed_computes_what_pytorch_computes(profiler: LocalProfiler) -> None:
    (key,) = profiler.load([Workload(OpSpec("network", {}, SHAPE), _network)], QUICK)
    np.testing.assert_allclose(profiler.run(key, _inputs()), _expected(), atol=1e-5, rtol=1e-5)


def test_a_file_that_ships_is_loaded_instead_of_the_module(profiler: LocalProfiler, tmp_path: Path) -> None:
    runtime = find_runtime(profiler.runtime)
    path = tmp_path / f"shipped{runtime.suffix}"
    runtime.convert(_network(), SHAPE, path)
    shipped = Workload(OpSpec("shipped", {}, SHAPE), lambda: pytest.fail("the module was built"))
    profiler.load_artifact(shipped, path, QUICK)
    assert profiler.measure(shipped, QUICK).median_ms > 0  # timed as it was loaded
    np.testing.assert_allclose(profiler.run(shipped.key, _inputs()), _expected(), atol=1e-5, rtol=1e-5)


def test_a_file_that_cannot_be_loaded_names_the_operation_and_leaves_the_device_usable(
    profiler: LocalProfiler, tmp_path: Path
) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(b"not a network")
    damaged = Workload(OpSpec("damaged", {}, SHAPE), _network)
    with pytest.raises(ConversionError) as caught:
        profiler.load_artifact(damaged, path, QUICK)
    assert f"{profiler.runtime} failed at {damaged.key}" in caught.value.what
    assert "--runtime" in caught.value.mend
    assert profiler.measure(SMALL, QUICK).median_ms > 0


def test_a_module_that_cannot_be_converted_names_the_operation_that_is_in_the_way() -> None:
    bad = Workload(OpSpec("eigenvalues", {}, (1, 3, 4, 4)), _Eigenvalues)
    with LocalProfiler("onnxruntime", 1) as profiler:
        with pytest.raises(ConversionError) as caught:
            list(profiler.load([bad], QUICK))
        assert "_Eigenvalues cannot be written as ONNX" in caught.value.what
        assert "linalg_eigvals" in caught.value.what
        assert profiler.measure(SMALL, QUICK).median_ms > 0


def test_a_timing_process_that_was_killed_is_a_lost_device_and_can_be_opened_again() -> None:
    profiler = LocalProfiler("onnxruntime", 1)
    with profiler:
        keys = list(profiler.load([SMALL], QUICK))
        samples = profiler.sample(keys, QUICK)
        next(samples)
        assert profiler._agent is not None
        profiler._agent.kill()
        with pytest.raises(DeviceLostError) as caught:
            list(samples)
        assert "exit code -9" in caught.value.what
        assert caught.value.mend == "run the same command again: what was measured is kept"
    with profiler:
        assert profiler.measure(SMALL, QUICK).median_ms > 0


def test_a_workload_that_was_unloaded_is_gone_from_the_timing_process_and_can_be_loaded_again() -> None:
    with LocalProfiler("onnxruntime", 1) as profiler:
        list(profiler.load([SMALL], QUICK))
        profiler.unload([SMALL.key, "never loaded"])
        with pytest.raises(ConversionError, match="KeyError"):
            profiler.run(SMALL.key, np.zeros(SMALL.op.shape, np.float32))
        assert profiler.measure(SMALL, QUICK).median_ms > 0


@pytest.mark.parametrize("runtime", [name for name in ("onnxruntime", "openvino") if is_installed(name)])
def test_nothing_is_left_behind_when_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    for where in ("TMPDIR", "HOME", "XDG_CACHE_HOME"):  # what runtimes would tell their makers is kept in the latter
        monkeypatch.setenv(where, str(tmp_path))
    profiler = LocalProfiler(runtime, 1)
    with profiler:
        list(profiler.load([SMALL], QUICK))
        agent = profiler._agent
        assert agent is not None and agent.poll() is None
        assert not list(tmp_path.rglob("*.onnx"))
    assert agent.poll() == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("value", "kept"), [(BRIEF_SPIN[1], False), ("7", True)])
def test_what_is_timed_has_the_users_settings_not_those_that_we_train_with(
    monkeypatch: pytest.MonkeyPatch, value: str, kept: bool
) -> None:
    monkeypatch.setenv(BRIEF_SPIN[0], value)
    with LocalProfiler("onnxruntime", 1) as profiler:
        assert profiler._agent is not None
        list(profiler.load([SMALL], QUICK))  # it has started
        seen = Path(f"/proc/{profiler._agent.pid}/environ").read_text()
    assert (f"{BRIEF_SPIN[0]}={value}" in seen) is kept
