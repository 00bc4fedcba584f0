"""TensorRT builds engines of every block of the spaces, ahead of time, for GPUs that are not here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from profilers.agent.engines import tensorrt_build
from profilers.runtimes.tensorrt import TensorRt
from unas_hw.ops.darts import OPS
from unas_hw.ops.darts import build as build_op
from unas_hw.spaces import find_space

GPUS = ("SM86", "SM89", "SM120")
"""GeForce RTX 30, 40 and 50."""


def _mbconv() -> Iterator[tuple[str, nn.Module, tuple[int, ...]]]:
    for workload in find_space("mbconv").workloads():
        yield workload.key, workload.build(), workload.op.shape


def _every_fifth() -> Iterator[tuple[str, nn.Module, tuple[int, ...]]]:
    """Each kernel with each expansion, at two of the widths: int8 takes three times as long to build."""
    return islice(_mbconv(), 0, None, 5)


def _darts() -> Iterator[tuple[str, nn.Module, tuple[int, ...]]]:
    """As in its search on CIFAR: cells of three widths, of which the second and third begin at stride 2."""
    for op in OPS:
        for channels, size, stride in ((16, 32, 1), (32, 16, 1), (64, 8, 1), (32, 32, 2), (64, 16, 2)):
            yield f"{op} of {channels} at stride {stride}", build_op(op, channels, stride), (1, channels, size, size)


@pytest.mark.slow  # a minute in all
@pytest.mark.parametrize(
    ("blocks", "count", "precision"),  # whole networks of both in every precision: benchmarks/export/tensorrt.py
    [(_mbconv, 70, "float16"), (_every_fifth, 14, "int8"), (_darts, 35, "float32"), (_darts, 35, "bfloat16")],
)
def test_an_engine_is_built_of_every_block_for_three_generations_of_gpus(
    trt: Any, blocks: Callable[[], Iterator[Any]], count: int, precision: str, tmp_path: Path
) -> None:
    refused, built = {}, 0
    for name, module, shape in blocks():
        TensorRt().convert(module, shape, tmp_path / "block.onnx", precision)
        try:
            built += len(tensorrt_build.build(str(tmp_path / "block.onnx"), precision, capabilities=GPUS)) > 0
        except RuntimeError as error:
            refused[name] = str(error)
    assert not refused
    assert built == count
