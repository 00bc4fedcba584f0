"""The peak of a step is measured, and the fastest way of running it that keeps a budget is found."""

from __future__ import annotations

import pytest
import torch

from unas_hw.errors import MemoryBudgetError
from unas_hw.memory import CLEAR, Mode, StepCost, StepPeak, fit, measure, modes
from unas_hw.spaces.chain import ChainSpace
from unas_hw.supernet import Supernet

pytestmark = pytest.mark.skipif(not CLEAR.exists(), reason="only Linux tells the peak memory of a process")
MB = 2**20


def test_the_peak_is_that_since_it_is_looked_at() -> None:
    with StepPeak("cpu") as before:
        begin = before.bytes()
        torch.ones(64 * MB)  # 256 MB, given back at once
        assert before.bytes() - begin > 200 * MB
    with StepPeak("cpu") as after:
        assert after.bytes() - begin < 100 * MB


def _step(net: Supernet) -> None:
    path = torch.full((3, 7), 1 / 7, requires_grad=True)
    net(torch.randn(64, 1, 8, 8), path).square().mean().backward()


def test_a_budget_that_every_way_keeps_gets_the_fastest(space: ChainSpace) -> None:
    net, seen = space.supernet(), list[StepCost]()
    mode, costs = fit(lambda: _step(net), net, 1 << 40, measured=seen.append)
    assert [cost.mode for cost in costs] == modes(net, sampled_paths=False) and seen == costs
    assert mode == min(costs, key=lambda cost: cost.seconds or 0.0).mode and mode.exact
    assert {mixed.recompute for mixed in net.mixed_ops()} == {mode.recompute}


def test_a_budget_that_no_way_keeps_is_refused_with_what_was_measured(space: ChainSpace) -> None:
    net = space.supernet()
    with pytest.raises(MemoryBudgetError, match="no way to run a step keeps 1 MB: recomputed") as caught:
        fit(lambda: _step(net), net, 10**6, sampled_paths=True)
    assert "--batch-size" in caught.value.mend


def test_a_pass_that_grows_beyond_the_budget_is_given_up(space: ChainSpace) -> None:
    net = space.supernet()
    cost = measure(lambda: _step(net), net, Mode(recompute=False), limit_bytes=10**6)
    assert cost.seconds is None and cost.peak_bytes > 10**6 and "given up" in str(cost)
    assert measure(lambda: _step(net), net, Mode(recompute=True)).seconds
