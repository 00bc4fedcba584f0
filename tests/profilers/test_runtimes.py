"""A module becomes an artifact: one ONNX file, or what the runtime was made for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from profilers.errors import ConversionError, UnknownNameError
from profilers.registry import RUNTIMES, find_runtime, is_installed
from profilers.runtimes.base import Runtime
from profilers.runtimes.onnx_edit import INPUT, OUTPUT
from profilers.runtimes.onnx_file import OPSET, write_onnx
from profilers.runtimes.onnxruntime import OnnxRuntime

SHAPE = (1, 3, 16, 16)
INSTALLED = [find_runtime(name) for name in RUNTIMES if is_installed(name)]


# --- a runtime of one's own -----------------------------------------------------------------------------------------


class CopyingRuntime(Runtime):
    """Writes the type of the module."""

    engine, suffix, packages = "copying", ".copy", ()
    known_options: ClassVar = {"twice": "twice"}

    def _convert(self, module: nn.Module, shape: tuple[int, ...], path: Path, precision: str) -> None:
        path.write_text("module")


def test_an_artifact_is_loaded_by_the_engine_with_the_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[tuple[Any, ...]] = []
    monkeypatch.setattr("profilers.agent.engines.load_engine", lambda *args: loaded.append(args))
    CopyingRuntime("twice").load(tmp_path / "module.copy", 1)
    assert loaded == [("copying", str(tmp_path / "module.copy"), 1, "float32", ("twice",))]


def test_a_runtime_is_named_with_its_options_and_refuses_others() -> None:
    assert CopyingRuntime().name == "copying" and CopyingRuntime("twice").name == "copying+twice"
    with pytest.raises(UnknownNameError, match=r"no option 'twic'\n.*copying\+twice\?"):
        CopyingRuntime("twic")


def test_a_precision_that_a_runtime_does_not_have_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"copying runs no int8 here\n.*choose one of float32"):
        CopyingRuntime().convert(nn.Identity(), SHAPE, tmp_path / "module", "int8")
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize("runtime", INSTALLED, ids=lambda runtime: runtime.name)
def test_a_module_that_fails_is_named_and_nothing_is_written(runtime: Runtime, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"_Broken cannot be .*: "):
        runtime.convert(_Broken(), SHAPE, tmp_path / "module")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "runtime", [each for each in INSTALLED if "cpu" in each.devices], ids=lambda runtime: runtime.name
)
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


# --- what is asked for is what runs ---------------------------------------------------------------------------------


def _relative_error(runtime: Runtime, precision: str, tmp_path: Path) -> float:
    path = tmp_path / f"network{runtime.suffix}"
    runtime.convert(_network(), SHAPE, path, precision)
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    with torch.inference_mode():
        expected = _network().eval()(torch.from_numpy(x)).numpy()
    return float(np.abs(runtime.load(path, 1, precision).run(x) - expected).max() / np.abs(expected).max())


def test_ncnn_stores_weights_of_16_bits_only_where_that_is_asked_for(tmp_path: Path) -> None:
    assert _relative_error(find_runtime("ncnn"), "float32", tmp_path) < 1e-5
    assert 1e-5 < _relative_error(find_runtime("ncnn"), "float16", tmp_path) < 1e-2


@pytest.mark.parametrize(
    "options",
    [
        "channels_last",
        pytest.param("compile", marks=pytest.mark.slow),  # a C++ compiler's time
        pytest.param("compile+channels_last", marks=pytest.mark.slow),
    ],
)
def test_pytorch_with_options_computes_the_same(options: str, tmp_path: Path) -> None:
    assert _relative_error(find_runtime(f"torch+{options}"), "float32", tmp_path) < 1e-5


def test_ncnn_refuses_several_images(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="one image at a time, not 2"):
        find_runtime("ncnn").convert(_network(), (2, *SHAPE[1:]), tmp_path / "module")


@pytest.mark.parametrize("option", ["xnnpack", "cuda"])
def test_a_provider_that_is_not_there_is_an_error_not_the_cpu(files: dict[bool, Path], option: str) -> None:
    with pytest.raises(ConversionError, match=r"has no \w+ExecutionProvider, only"):
        find_runtime(f"onnxruntime+{option}").load(files[False], 1)
