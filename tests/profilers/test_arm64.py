"""The agent on another instruction set: aarch64 under qemu, behind a real sshd. Its times mean nothing, its results do.

``make test-arm64`` makes what it needs with ``tests/arm64/setup.sh``.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from profilers.devices.ssh import SshProfiler
from profilers.opspec import OpSpec
from profilers.runtimes.onnxruntime import OnnxRuntime
from profilers.timing import TimingRule
from profilers.workload import Workload
from tests.profilers import sshd

FOLDER = os.environ.get("UNAS_HW_ARM64_ROOT")
SHAPE = (1, 32, 32, 32)
RULE = TimingRule(min_block_s=0.001, warmup_s=0.01, warmup_calls=1, min_rounds=4, max_rounds=4, min_time_s=0)

pytestmark = [
    pytest.mark.skipif(not FOLDER, reason="no aarch64 Python under qemu: make test-arm64"),
    pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing()),
    pytest.mark.slow,
]


def _inverted_residual() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(32, 192, 1, bias=False),
        nn.BatchNorm2d(192),
        nn.ReLU6(),
        nn.Conv2d(192, 192, 3, padding=1, groups=192, bias=False),
        nn.BatchNorm2d(192),
        nn.ReLU6(),
        nn.Conv2d(192, 32, 1, bias=False),
        nn.BatchNorm2d(32),
    ).eval()


def test_an_agent_on_aarch64_measures_a_block_and_computes_what_is_computed_here(tmp_path: Path) -> None:
    block, path = Workload(OpSpec("mbconv", {"kernel": 3}, SHAPE), _inverted_residual), tmp_path / "block.onnx"
    OnnxRuntime().convert(block.build(), SHAPE, path)
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    python = Path(FOLDER or "").resolve() / "python"
    with sshd.running(tmp_path) as server, SshProfiler(server.address(python=python), None, 1) as profiler:
        assert profiler.runtime == "onnxruntime"
        assert profiler.fingerprint()["arch"] == "aarch64"
        assert profiler.environment()["versions"]["onnxruntime"] == "1.23.2"
        profiler.load_artifact(block, path, RULE)
        seen = profiler.run(block.key, x)
        np.testing.assert_allclose(seen, OnnxRuntime().load(path, 1).run(x), atol=1e-5, rtol=1e-5)
        measured = profiler.measure(block, RULE)
        assert measured.median_ms > 0 and profiler.reconnections == 0
        print(f"a block of 30 MFLOP under qemu: {measured.median_ms:.0f} ms")  # noqa: T201 - for whoever runs it with -s
