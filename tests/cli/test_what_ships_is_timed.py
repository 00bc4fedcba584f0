"""The file that was exported is what is measured, not a network like it."""

from __future__ import annotations

from pathlib import Path

from profilers.devices.local import LocalProfiler
from profilers.runtimes.onnxruntime import OnnxRuntime
from profilers.testing import LARGE, QUICK, SMALL


def test_a_file_loaded_under_a_key_is_what_that_key_times(tmp_path: Path) -> None:
    OnnxRuntime().convert(LARGE.build(), LARGE.op.shape, tmp_path / "large.onnx")
    with LocalProfiler("onnxruntime", 1) as profiler:
        small = profiler.measure(SMALL, QUICK).median_ms
        profiler.unload([SMALL.key])
        file = type(SMALL)(type(SMALL.op)("file", {}, LARGE.op.shape), SMALL.build)
        profiler.load_artifact(file, tmp_path / "large.onnx", QUICK)
        assert profiler.measure(file, QUICK).median_ms > 4 * small
