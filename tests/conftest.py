"""What holds for all tests."""

from __future__ import annotations

import gc
import hashlib
import sys
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from typing import Any

import pytest

from profilers.environment import spin_briefly

spin_briefly()  # before any test imports torch: other work may share the cores


def pytest_collection_finish() -> None:
    """What was imported stays: without it a full collection, of which searches ask for many, takes a tenth."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _one_registry() -> None:
    """PyTorch's exporter translates its library of functions anew for each file: half of a small one's time."""
    module: Any = sys.modules.get("torch.onnx._internal.exporter._registration")
    if module is not None and not isinstance(vars(module.ONNXRegistry)["from_torchlib"], staticmethod):
        module.ONNXRegistry.from_torchlib = staticmethod(cache(module.ONNXRegistry.from_torchlib))


@pytest.fixture(scope="session")
def _exports() -> dict[tuple[Any, ...], Any]:
    """ONNX models by the network, its weights and what was asked for."""
    return {}


@pytest.fixture(scope="module")
def remembered_exports(_exports: dict[tuple[Any, ...], Any]) -> Iterator[None]:
    """What ships is exported once from the same network with the same weights: it takes seconds."""
    from profilers.runtimes import onnx_file

    export = onnx_file._exported

    def remembered(module: Any, *told: Any) -> Any:
        weights = hashlib.sha256(b"".join(each.numpy().tobytes() for each in module.state_dict().values()))
        key = (repr(module), weights.digest(), *told)
        if key not in _exports:
            _exports[key] = export(module, *told)
        return deepcopy(_exports[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_file, "_exported", remembered)
        yield


@pytest.fixture(scope="session")
def trt() -> Any:
    """TensorRT-RTX, which builds for other GPUs than the one at hand."""
    from profilers.agent.engines import is_installed
    from profilers.agent.engines.tensorrt_build import library

    if not is_installed("tensorrt"):
        pytest.skip("TensorRT-RTX is not installed (it has no package for this machine)")
    if library().__name__ == "tensorrt":
        pytest.skip("TensorRT is installed, which builds for the GPU at hand only")
    return library()
