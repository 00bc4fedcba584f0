"""A Workload builds its module late and counts its work by arithmetic, without memory for it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from profilers.opspec import OpSpec
from profilers.testing import convolution
from profilers.workload import Workload


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


def test_workloads_are_equal_when_they_name_the_same_operation() -> None:
    assert convolution(8) == convolution(8)
    assert convolution(8) != convolution(16)
    assert len({convolution(8), convolution(8), convolution(16)}) == 2
