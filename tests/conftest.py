"""What holds for all tests."""

from __future__ import annotations

import gc
import sys
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
    """PyTorch's exporter translates its library of functions anew for each file, which is half of a small one's time."""
    module: Any = sys.modules.get("torch.onnx._internal.exporter._registration")
    if module is not None and not isinstance(vars(module.ONNXRegistry)["from_torchlib"], staticmethod):
        module.ONNXRegistry.from_torchlib = staticmethod(cache(module.ONNXRegistry.from_torchlib))


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
