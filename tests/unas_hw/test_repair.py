"""A network that missed its budget is moved as little as it takes: the neighbours are those that going through all
networks finds, each once, none that another budget or a measurement excludes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.unas_hw.made_up import MadeUpSpace, PickySpace
from unas_hw.cost_model import AdditiveModel
from unas_hw.repair import neighbours as repair
from unas_hw.repair.neighbours import aim_ms, neighbours, scale_of
from unas_hw.search.selection import BAND, Path
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space
from unas_hw.spaces.chain import ChainSpace
from unas_hw.spaces.nas_bench_201 import NasBench201


def _log_probs(space: SearchSpace) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    counts = [len(decision.choices) for decision in space.decisions]
    return [torch.randn(count, generator=generator, dtype=torch.float64).log_softmax(0) for count in counts]


def _priced(space: SearchSpace, constant: float = 0.0) -> AdditiveModel:
    """Every operation costs what its arithmetic and a little noise say, so that no two networks cost the same."""
    keys = sorted(workload.key for workload in space.workloads())
    noise = dict(zip(keys, np.random.default_rng(0).uniform(1, 2, len(keys)).tolist(), strict=True))
    macs = {workload.key: workload.cost.macs for workload in space.workloads()}
    return AdditiveModel(space, lambda key: noise[key] * (1 + macs[key] / 1e5), name="x", unit="ms", constant=constant)


def _by_hand(
    model: AdditiveModel,
    path: Path,
    log_probs: Sequence[Tensor],
    most_ms: float,
    count: int,
    fits: Callable[[Path], bool] = lambda path: True,
    tried: Sequence[Path] = (),
) -> list[Path]:
    """Of all networks of the space."""
    space = model.space
    known = {space.running(each) for each in (path, *tried)}
    everything = list(itertools.product(*(range(len(decision.choices)) for decision in space.decisions)))
    costs = dict(zip(everything, model.values(np.array(everything)).tolist(), strict=True))

    def order(each: Path) -> tuple[bool, float]:
        return costs[each] < BAND * most_ms, -sum(float(p[i]) for p, i in zip(log_probs, each, strict=True))

    wanted = [
        each
        for each in everything
        if costs[each] <= most_ms and space.is_usable(each) and fits(each) and space.running(each) not in known
    ]
    for radius in (2, 3, len(path)):
        ball = [each for each in wanted if sum(a != b for a, b in zip(path, each, strict=True)) <= radius]
        found: dict[Path, Path] = {}
        for each in sorted(ball, key=order):
            found.setdefault(space.running(each), each)
        if found:
            return list(found.values())[:count]
    return []


def _chain() -> ChainSpace:
    """The first four layers of the space for small images, each with all of its blocks."""
    whole = find_space("mbconv-small")
    assert isinstance(whole, ChainSpace)
    searched = [layer for layer in whole.layers if layer.searched][:4]
    return ChainSpace("four", whole.input_shape, whole.classes, searched)


@pytest.fixture(scope="module")
def spaces(space: ChainSpace) -> dict[str, SearchSpace]:
    cells = NasBench201("cells", image_size=8, channels=1, classes=3, batch=1, width=4, cells=1)
    return {
        "toy": space,
        "mbconv": _chain(),
        "cells": cells,
        "shared": MadeUpSpace(),
        "dead": MadeUpSpace(dead=True),
        "picky": PickySpace(),
    }


@pytest.mark.parametrize("name", ["toy", "mbconv", "cells", "shared", "dead", "picky"])
@pytest.mark.parametrize("share", [0.97, 0.8, 0.6, 0.45, 0.3])
def test_neighbours_are_those_that_going_through_all_networks_finds(
    spaces: dict[str, SearchSpace], name: str, share: float
) -> None:
    model, log_probs = _priced(spaces[name]), _log_probs(spaces[name])
    least, most = model.range
    bound, seen = least + share * (most - least), 0
    for path in (model.largest, model.most_probable(log_probs, 0.0, most, 1)[0]):
        found = neighbours(model, path, log_probs, bound, count=8)
        assert found == _by_hand(model, path, log_probs, bound, 8)
        seen += len(found)
    assert seen


@pytest.mark.parametrize("name", ["toy", "cells", "picky", "dead"])
def test_other_budgets_and_what_was_tried_are_respected(spaces: dict[str, SearchSpace], name: str) -> None:
    model, log_probs = _priced(spaces[name]), _log_probs(spaces[name])
    least, most = model.range
    bound = least + 0.7 * (most - least)

    def fits(path: Path) -> bool:
        return sum(path) % 3 != 0

    first = neighbours(model, model.largest, log_probs, bound, fits=fits)
    assert first and all(map(fits, first))
    again = neighbours(model, model.largest, log_probs, bound, fits=fits, tried=first[:2])
    assert again == _by_hand(model, model.largest, log_probs, bound, 6, fits, first[:2])
    assert not {model.space.running(path) for path in first[:2]} & {model.space.running(path) for path in again}


def test_the_same_network_with_another_dead_decision_was_tried_too(spaces: dict[str, SearchSpace]) -> None:
    space, model = spaces["dead"], _priced(spaces["dead"])
    log_probs, bound = _log_probs(space), model.range[1]
    (best,) = neighbours(model, model.largest, log_probs, bound, count=1, fits=lambda path: path[2] == 0)
    twin = (best[0], (best[1] + 1) % 3, *best[2:])
    assert space.running(twin) == space.running(best)
    others = neighbours(model, model.largest, log_probs, bound, count=99, tried=[twin])
    assert space.running(best) not in set(map(space.running, others)) and len(others) > 5


def test_nearer_networks_come_before_more_probable_ones(spaces: dict[str, SearchSpace]) -> None:
    model, log_probs = _priced(spaces["mbconv"]), _log_probs(spaces["mbconv"])
    bound = 0.9 * model.range[1]
    best = model.most_probable(log_probs, 0.0, bound, 1)[0]
    for path in neighbours(model, model.largest, log_probs, bound, count=99):
        assert 1 <= sum(a != b for a, b in zip(path, model.largest, strict=True)) <= 2
        assert path != best


@pytest.mark.slow
def test_where_no_ball_holds_one_the_whole_space_is_asked_and_then_nothing_is_left() -> None:
    space = find_space("mbconv-small")
    model, log_probs = _priced(space), _log_probs(space)
    least, most = model.range
    far = neighbours(model, model.largest, log_probs, least + 0.1 * (most - least))
    assert len(far) == 6
    for path in far:
        assert model.value(path) <= least + 0.1 * (most - least)
        assert sum(a != b for a, b in zip(path, model.largest, strict=True)) > 3
    assert neighbours(model, model.largest, log_probs, least) == [model.smallest]
    assert neighbours(model, model.largest, log_probs, 0.999 * least) == []
    assert neighbours(model, model.largest, log_probs, least, tried=[model.smallest]) == []
    assert neighbours(model, model.largest, log_probs, least, fits=lambda path: path != model.smallest) == []


def test_of_too_many_networks_only_the_nearer_ball_is_gone_through(
    spaces: dict[str, SearchSpace], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = spaces["mbconv"]
    model, log_probs = _priced(space), _log_probs(space)
    bound = 0.99 * model.range[1]
    assert any(
        sum(map(int.__ne__, path, model.largest)) == 2 for path in neighbours(model, model.largest, log_probs, bound)
    )
    monkeypatch.setattr(repair, "MOST", 30)
    for path in neighbours(model, model.largest, log_probs, bound, count=99):
        assert sum(map(int.__ne__, path, model.largest)) == 1


def test_a_large_space_is_gone_through_in_parts(
    spaces: dict[str, SearchSpace], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, log_probs = _priced(spaces["mbconv"]), _log_probs(spaces["mbconv"])
    at_once = neighbours(model, model.largest, log_probs, 0.7 * model.range[1], count=50)
    monkeypatch.setattr(repair, "CHUNK", 7)
    assert neighbours(model, model.largest, log_probs, 0.7 * model.range[1], count=50) == at_once


def test_the_tables_scale_is_the_median_of_what_was_measured() -> None:
    assert scale_of([(0.4, 0.6)]) == pytest.approx(1.5)
    assert scale_of([(0.4, 0.6), (0.5, 0.5), (0.1, 0.9)]) == pytest.approx(1.5)
    assert scale_of([(1.0, 1.2), (1.0, 1.4)]) == pytest.approx(1.3)
    assert scale_of([(1.0, 1.2), (-0.1, 0.3)]) == pytest.approx(1.2)  # of a fit that is wrong for small networks
    assert scale_of([(-0.1, 0.3)]) == 1


def test_predictions_are_aimed_where_measurements_will_meet_the_budget() -> None:
    assert aim_ms(0.6, [(0.5, 1.0)]) == pytest.approx(0.3)
    assert aim_ms(0.6, [(0.5, 1.0), (0.4, 0.8)]) == pytest.approx(0.3)
    assert aim_ms(0.6, [(0.5, 0.9), (0.4, 0.8)]) == pytest.approx(0.2)  # 0.4 ms that the table knows nothing of
    line = [(each, 0.4 + each) for each in (0.5, 0.45, 0.4, 0.35)]
    assert aim_ms(0.6, [*line, (0.3, 2.0)]) == pytest.approx(0.2, abs=0.01)
    assert aim_ms(0.6, [(0.5, 0.8), (0.4, 0.9)]) == pytest.approx(0.375)  # no line says that smaller is slower
    assert aim_ms(0.6, [(0.5, 1.0), (0.5, 0.8)]) == pytest.approx(0.375)
    assert aim_ms(0.6, [(0.5, 1.0), (-0.1, 0.7)]) == pytest.approx(-0.3)
    assert aim_ms(0.6, [(0.5, 1.0), (0.4, 0.7)]) == pytest.approx(0.6 * 0.4 / 0.7)  # and a budget is not used twice
    # Two networks that lie so close together differ by noise: no line of theirs gives a tenth of the budget away.
    assert aim_ms(0.96, [(1.027, 1.018), (0.986, 1.004)]) == pytest.approx(0.943, abs=0.01)
