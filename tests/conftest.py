"""What holds for all tests."""

from typing import Any

import pytest

from profilers.environment import spin_briefly

spin_briefly()  # before any test imports torch: other work may share the cores


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
