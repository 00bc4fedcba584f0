"""Masks of two temperatures are trained towards a budget, whatever the weights are, and end as whole units."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latency_tables.calibration import Calibration
from latency_tables.interpolation import Surface
from tests.unas_hw.small_residual import build
from unas_hw.data import Dataset
from unas_hw.errors import MethodError, RunError
from unas_hw.methods.pruning.config import PruneConfig
from unas_hw.methods.pruning.masks import (
    Masks,
    Theta,
    Widths,
    binary_gap,
    everything,
    kept_of,
    pieces,
    two_temperatures,
)
from unas_hw.methods.pruning.search import METRICS, PruneSearch, discretise
from unas_hw.methods.pruning.shapes import Arithmetic, Limit, TableLatency, fits
from unas_hw.prunable.prunable import Prunable, prunable
from unas_hw.runs import Run

SHORT = PruneConfig(epochs=8, resample_every=2, batch_size=16)


@pytest.fixture(scope="module")
def small() -> Prunable:
    torch.manual_seed(0)
    return prunable(build(), (1, 8, 8))


def theta_of(small: Prunable, generator: torch.Generator | None = None) -> Masks:
    generator = generator or torch.Generator().manual_seed(0)
    return {name: torch.randn(ones.shape, generator=generator) for name, ones in everything(small).items()}


def macs_limit(small: Prunable, share: float) -> Limit:
    macs = Arithmetic(small, "macs")
    whole = float(macs(Widths.of(small, everything(small))))
    return Limit(macs, share * whole, whole)


def search_of(
    small: Prunable, data: Dataset, run: Path, config: PruneConfig = SHORT, share: float = 0.5
) -> PruneSearch:
    return PruneSearch(small, build, data.train, [macs_limit(small, share)], config, Run.begin(run, {}))


def test_the_forward_pass_has_the_low_temperature_and_the_backward_pass_the_high_one() -> None:
    theta = torch.tensor([-1.0, -0.01, 0.0, 0.5, 2.0], requires_grad=True)
    mask = two_temperatures(theta, 0.05, 1.0)
    torch.testing.assert_close(mask, torch.sigmoid(theta / 0.05))
    mask.sum().backward()
    soft = torch.sigmoid(theta.detach())
    torch.testing.assert_close(theta.grad, soft * (1 - soft))
    assert theta.grad is not None and theta.grad[0] > 0.1  # what is off learns


def test_noise_draws_units_with_the_probability_that_the_gradient_is_of(small: Prunable) -> None:
    theta = Theta(small, torch.Generator().manual_seed(0), start=1.0, spread=0.0)
    generator = torch.Generator().manual_seed(1)
    drawn = [theta.masks(1e-4, 0.7, 1.0, generator)["down"].detach() for _ in range(400)]
    assert float(torch.stack(drawn).mean()) == pytest.approx(1 / (1 + math.exp(-1 / 0.7)), abs=0.02)


def test_a_group_never_loses_its_last_unit_while_masks_are_trained(small: Prunable) -> None:
    theta = Theta(small, torch.Generator().manual_seed(0), start=1.0, spread=0.5)
    with torch.no_grad():
        theta.values["inner"].fill_(-3.0)
    theta.keep_one(1.0)
    assert int((theta.values["inner"] > 0).sum()) == 1


def test_the_gap_is_that_of_the_mask_that_is_furthest_from_binary() -> None:
    assert binary_gap({"a": torch.tensor([0.0, 1.0, 0.98]), "b": torch.tensor(0.001)}) == pytest.approx(0.02)


def test_the_entropy_is_highest_where_nothing_is_decided(small: Prunable) -> None:
    generator = torch.Generator().manual_seed(0)
    assert Theta(small, generator, start=1e-9, spread=0.0).entropy(1.0) == pytest.approx(math.log(2))
    assert Theta(small, generator, start=8.0, spread=0.0).entropy(1.0) < 0.01


@pytest.mark.parametrize("name", ["macs", "params"])
def test_arithmetic_is_that_of_the_smaller_module(small: Prunable, name: str) -> None:
    masks = kept_of(small, pieces(small, theta_of(small))[10:])
    masks["stem"][0] = masks["inner"][0] = masks["down"][0] = True
    slim = small.slimmed(masks)
    counted = float(Arithmetic(small, name)(Widths.of(small, masks)))
    if name == "params":
        assert counted == sum(weight.numel() for weight in slim.parameters())
    else:
        wide, inner, down = (int(masks[group].sum()) for group in ("stem", "inner", "down"))
        block = float(masks[small.blocks[0].name])
        assert counted == 64 * 9 * (wide + block * 2 * wide * inner) + 16 * 9 * wide * down + 3 * down


def test_complexity_is_differentiable_in_masks_and_a_dropped_block_costs_nothing(small: Prunable) -> None:
    masks = {name: torch.full_like(ones, 0.5).requires_grad_() for name, ones in everything(small).items()}
    macs = Arithmetic(small, "macs")
    macs(Widths.of(small, masks)).backward()
    assert all(mask.grad is not None and bool((mask.grad > 0).all()) for mask in masks.values())
    block = small.blocks[0].name
    dropped = everything(small) | {block: torch.zeros(())}
    narrow = dropped | {"inner": torch.zeros(12)}
    assert float(macs(Widths.of(small, dropped))) == float(macs(Widths.of(small, narrow)))


def test_table_latency_sums_interpolated_rows_and_calibrates_them(small: Prunable) -> None:
    rows = [Surface((8,), (8, 16), np.array([[1.0, 2.0]])) for _ in small.layers]
    plain = TableLatency(small, rows, [0.0] * len(rows))
    widths = Widths.of(small, everything(small))
    known = {"stem": 1.0, "inner": 1.5, "outer": 1.0, "down": 2.0, "head": 1 - 5 / 8}
    assert float(plain(widths)) == pytest.approx(sum(known.values()), abs=0.2)  # the head has three outputs
    doubled = TableLatency(small, rows, [0.0] * len(rows), Calibration(scale=2.0, intercept_ms=0.5), tail=1.5)
    assert float(doubled(widths)) == pytest.approx(1.5 * (2 * float(plain(widths)) + 0.5))
    assert len(plain.parts(widths)) == len(small.layers)
    dropped = Widths.of(small, everything(small) | {small.blocks[0].name: torch.zeros(())})
    assert len(plain.parts(dropped)) == len(small.layers) - 2
    assert float(plain(dropped)) < float(plain(widths))


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2])
def test_what_is_left_keeps_the_budget_and_uses_it(small: Prunable, share: float) -> None:
    limit = macs_limit(small, share)
    masks = discretise(small, theta_of(small), [limit])
    assert masks is not None
    used = limit.value(Widths.of(small, masks))
    assert 0.85 * limit.limit <= used <= limit.limit
    assert all(bool(masks[group.name].any()) for group in small.groups)


def test_a_block_for_which_too_little_is_left_comes_back_narrower_rather_than_leaving_it_unused(
    small: Prunable,
) -> None:
    (block,) = small.blocks
    assert small.inside(block.name) == {"inner"}
    theta = {name: torch.ones(ones.shape) for name, ones in everything(small).items()} | {block.name: torch.tensor(-1)}
    theta["inner"] = torch.arange(12.0) + 1
    limit = macs_limit(small, 0.7)
    masks = discretise(small, theta, [limit])
    assert masks is not None and bool(masks[block.name])
    assert 1 < int(masks["inner"].sum()) < 12 and bool(masks["inner"][-1])
    assert 0.93 * limit.limit < limit.value(Widths.of(small, masks)) <= limit.limit
    without = limit.value(Widths.of(small, everything(small) | {block.name: torch.tensor(False)}))
    masks = discretise(small, theta, [replace(limit, limit=1.05 * without)])  # of which little is left
    assert masks is not None and not bool(masks[block.name])


def test_what_has_the_highest_theta_is_kept(small: Prunable) -> None:
    theta = theta_of(small)
    masks = discretise(small, theta, [macs_limit(small, 0.6)])
    assert masks is not None
    for group in small.groups:
        kept, values = masks[group.name], theta[group.name]
        if not bool(kept.all()):
            assert values[kept].min() > values[~kept].max()


def test_a_budget_below_the_least_that_can_be_kept_has_no_masks(small: Prunable) -> None:
    assert discretise(small, theta_of(small), [macs_limit(small, 0.001)]) is None


def test_several_budgets_hold_together(small: Prunable) -> None:
    params = Arithmetic(small, "params")
    whole = float(params(Widths.of(small, everything(small))))
    limits = [macs_limit(small, 0.7), Limit(params, 0.3 * whole, whole)]
    masks = discretise(small, theta_of(small), limits)
    assert masks is not None and fits(limits, Widths.of(small, masks))


def test_channels_are_kept_in_multiples_but_for_those_of_narrow_layers(small: Prunable) -> None:
    masks = discretise(small, theta_of(small), [macs_limit(small, 0.5)], multiple=4)
    assert masks is not None
    assert int(masks["down"].sum()) % 4 == 0
    assert int(masks["inner"].sum()) % 3 == 0  # a quarter of twelve


def test_training_comes_to_the_budget_with_binary_masks_and_new_weights_every_round(
    small: Prunable, data: Dataset, tmp_path: Path
) -> None:
    search = search_of(small, data, tmp_path / "run", replace(SHORT, epochs=16))
    weights: dict[Tensor, int] = {}
    metrics: dict[str, Any] = {}
    for metrics in search.steps():
        weights[next(search.network.parameters())] = metrics["round"]
    assert list(weights.values()) == [*range(1, 9)]
    assert metrics["binary_gap"] < 1e-3
    assert metrics["macs"]["share"] < 0.75
    lines = search.run.lines(METRICS)
    assert [line["round"] for line in lines] == [1 + number // 2 for number in range(16)]
    assert lines[0]["macs"]["share"] > metrics["macs"]["share"]
    keys = {"epoch", "round", "loss", "entropy", "low", "binary_gap", "kept_units", "kept_blocks", "macs"}
    assert lines[0].keys() == keys


def test_a_larger_lambda_leaves_less(small: Prunable, data: Dataset, tmp_path: Path) -> None:
    shares = []
    for weight in (0.0, 0.03, 0.3, 3.0):
        config = replace(SHORT, ascent=0.0, multiplier=weight)
        *_, last = search_of(small, data, tmp_path / f"{weight:g}", config).steps()
        assert last["macs"]["multiplier"] == weight
        shares.append(last["macs"]["share"])
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.6 and shares[-1] < 0.01


def test_a_killed_pruning_goes_on_bit_for_bit(small: Prunable, data: Dataset, tmp_path: Path) -> None:
    whole = search_of(small, data, tmp_path / "whole")
    for _ in whole.steps():
        pass
    for _ in range(3):  # killed after an epoch each time, once within a round and once between two
        search = search_of(small, data, tmp_path / "killed")
        search.resume()
        next(search.steps())
    search = search_of(small, data, tmp_path / "killed")
    search.resume()
    assert search.epoch == 3
    for _ in search.steps():
        pass
    assert search.run.lines(METRICS) == whole.run.lines(METRICS)
    for name, value in whole.theta.values.items():
        assert torch.equal(value, search.theta.values[name])
    for one, two in zip(whole.network.state_dict().values(), search.network.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_a_loss_that_is_no_number_stops_with_a_mend(small: Prunable, data: Dataset, tmp_path: Path) -> None:
    search = search_of(small, data, tmp_path / "run", replace(SHORT, w_lr=1.0))

    def broken() -> nn.Module:
        network = build()
        nn.init.constant_(next(network.parameters()), math.nan)
        return network

    search = PruneSearch(small, broken, data.train, search.limits, SHORT, Run.begin(tmp_path / "nan", {}))
    with pytest.raises(RunError, match="diverged") as raised:
        next(search.steps())
    assert "prune.w_lr" in raised.value.mend


@pytest.mark.parametrize("setting", [{"epochs": 0}, {"low": 0.0}, {"spread": 1.5}, {"multiple": 0}, {"ramp": 2.0}])
def test_hyper_parameters_that_cannot_be_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(MethodError, match=next(iter(setting))):
        PruneConfig(**setting)  # type: ignore[arg-type]
