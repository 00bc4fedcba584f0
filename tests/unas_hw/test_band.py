"""Random networks of a band of cost, and the largest of it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from unas_hw.resources import Macs, Params
from unas_hw.search.band import drawn, most
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space


@pytest.fixture(scope="module")
def everything(space: SearchSpace) -> np.ndarray:
    return np.array(list(product(*(range(len(each.choices)) for each in space.decisions))))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_all_networks_of_a_band_are_found_and_no_others(
    space: SearchSpace, everything: np.ndarray, share: float
) -> None:
    macs = Macs(space)
    least, largest = macs.range
    high = least + share * (largest - least)
    values = macs.values(everything)
    inside = {tuple(path) for path in everything[(values >= 0.85 * high) & (values <= high)].tolist()}
    assert len(inside) > 2
    assert set(drawn(macs, 0.85 * high, high, 10_000, 0)) == inside


def test_they_are_drawn_alike_though_the_band_is_at_the_end_of_a_large_space() -> None:
    space = find_space("mbconv-small", image_shape=(1, 8, 8), classes=10)
    macs = Macs(space)
    least, largest = macs.range
    high = least + 0.9 * (largest - least)
    paths = drawn(macs, 0.96 * high, high, 500, 0)
    assert len(set(paths)) == 500
    values = macs.values(np.array(paths))
    assert ((values >= 0.96 * high) & (values <= high)).all()
    # Uniform draws that happen to fall into the band are what such a draw stands for.
    rng = np.random.default_rng(1)
    uniform = np.stack([rng.integers(0, len(each.choices), 400_000) for each in space.decisions], 1)
    uniform = uniform[(macs.values(uniform) >= 0.96 * high) & (macs.values(uniform) <= high)]
    assert len(uniform) > 100
    for g, decision in enumerate(space.decisions):
        ours, theirs = (np.bincount(each[:, g], minlength=len(decision.choices)) / len(each)
                        for each in (np.array(paths), uniform))  # fmt: skip
        assert np.abs(ours - theirs).max() < 0.2
    assert drawn(macs, 0.96 * high, high, 20, 0) == drawn(macs, 0.96 * high, high, 20, 0)
    assert drawn(macs, 0.96 * high, high, 20, 0) != drawn(macs, 0.96 * high, high, 20, 1)


def test_a_budget_that_binds_nothing_leaves_draws_uniform(space: SearchSpace) -> None:
    macs = Macs(space)
    paths = np.array(drawn(macs, 0.0, 3 * macs.range[1], 60, 0))
    assert len(paths) == 60
    middle = np.median(macs.values(paths))
    assert macs.range[0] < middle < 0.8 * macs.range[1], "the largest are no more probable than others"


def test_other_budgets_are_kept_too(space: SearchSpace) -> None:
    macs, params = Macs(space), Params(space)
    limit = np.mean(params.range)
    found = drawn(macs, 0.0, macs.range[1], 50, 0, fits=lambda path: bool(params.value(path) <= limit))
    assert found and max(params.value(path) for path in found) <= limit


def test_an_empty_band_has_none(space: SearchSpace) -> None:
    macs = Macs(space)
    assert drawn(macs, 2 * macs.range[1], 3 * macs.range[1], 5, 0) == []


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_the_largest_within_a_budget_is_the_largest(space: SearchSpace, everything: np.ndarray, share: float) -> None:
    macs, params = Macs(space), Params(space)
    high = macs.range[0] + share * (macs.range[1] - macs.range[0])
    able = everything[macs.values(everything) <= high]
    found = most(macs, params, 0.0, high, everything[:1])
    assert found is not None
    assert params.value(found) == params.values(able).max()
