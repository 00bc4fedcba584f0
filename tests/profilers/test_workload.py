"""A Workload builds its module late and counts its work by arithmetic, without memory for it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from profilers.opspec import OpSpec
from profilers.testing import convolution
from profilers.workload import Cost, Workload


def test_the_work_of_a_convolution_is_what_arithmetic_says() -> None:
    cost = convolution(8).cost
    assert cost.macs == 8 * 8 * 3 * 3 * 32 * 32
    assert cost.params == 8 * 8 * 3 * 3 + 8
    assert cost.moved_bytes == 4 * (2 * 8 * 32 * 32 + cost.params)


def test_a_network_is_the_sum_of_its_parts_and_is_not_built_for_counting() -> None:
    def build() -> nn.Module:
        pytest.fail("built")

    parts = (convolution(8), convolution(8), convolution(16))
    network = Workload(OpSpec("network", {}, (1, 8, 32, 32)), build, parts)
    for name in ("macs", "params", "moved_bytes"):
        assert getattr(network.cost, name) == sum(getattr(part.cost, name) for part in parts)


def test_nothing_is_built_before_it_is_needed_and_no_memory_is_taken_to_count() -> None:
    built: list[torch.device] = []

    def build() -> nn.Module:
        module = nn.Linear(100_000, 100_000)  # 40 GB, were it not on the device without memory
        built.append(module.weight.device)
        return module

    workload = Workload(OpSpec("linear", {}, (1, 100_000)), build)
    assert workload.key == "linear[]@1x100000:float32"
    assert built == []
    assert workload.cost.macs == 10**10
    assert built == [torch.device("meta")]


def test_two_that_are_built_alike_are_counted_once() -> None:
    built: list[int] = []

    def build(channels: int, *, bias: bool) -> nn.Module:
        built.append(channels)
        return nn.Conv2d(4, channels, 1, bias=bias)

    def cost(channels: int, dtype: str = "float32", bias: bool = True) -> Cost:
        return Workload(OpSpec("conv", {}, (1, 4, 8, 8), dtype), partial(build, channels, bias=bias)).cost

    whole, half = cost(8), cost(8, "float16")
    assert built == [8]
    assert whole.moved_bytes == 2 * half.moved_bytes
    assert cost(16).macs == 2 * whole.macs
    assert cost(8, bias=False).params == whole.params - 8
    assert len(built) == 3


def test_what_is_built_from_parts_without_a_hash_is_counted_too() -> None:
    workload = Workload(OpSpec("linear", {}, (1, 4)), partial(lambda sizes: nn.Linear(*sizes), [4, 8]))
    assert workload.cost.macs == 4 * 8


def test_workloads_are_equal_when_they_name_the_same_operation() -> None:
    assert convolution(8) == convolution(8)
    assert convolution(8) != convolution(16)
    assert len({convolution(8), convolution(8), convolution(16)}) == 2
