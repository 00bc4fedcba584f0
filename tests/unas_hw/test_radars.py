"""RADARS: memory is predicted, candidates are given up by what their rewards say, and a kill changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latency_tables.table import LatencyTable
from unas_hw.data import Dataset
from unas_hw.latency_model import LatencyModel
from unas_hw.methods.radars.config import RadarsConfig
from unas_hw.methods.radars.footprint import Footprint, Reach, narrowed, sizes_of
from unas_hw.methods.radars.pruners import ChildPruner, SubspacePruner
from unas_hw.methods.radars.search import CHECKPOINT, JOURNAL, RadarsSearch, by_worth
from unas_hw.resources import Params
from unas_hw.runs import Run
from unas_hw.search.constraints import Constraint
from unas_hw.spaces import find_space
from unas_hw.spaces.chain import ChainSpace
from unas_hw.spaces.subspace import Kept, Structure, everything
from unas_hw.supernet import Pruned

CONFIG = RadarsConfig(
    warmup_episodes=2,
    episodes=8,
    prune_every=2,
    episode_children=3,
    batch_size=16,
    valid_images=16,
    hidden=8,
    save_every=3,
)
COUNTS = (6, 7, 6)


@pytest.fixture
def model(space: ChainSpace, table: LatencyTable) -> LatencyModel:
    return LatencyModel(space, table)


@pytest.fixture(scope="module")
def sizes(space: ChainSpace) -> list[list[float]]:
    structure = Structure(space)
    return sizes_of(space.supernet(), torch.randn(16, 1, 8, 8), structure.mask(everything(space)))


@pytest.fixture
def footprint(space: ChainSpace, sizes: list[list[float]]) -> Footprint:
    return Footprint(Structure(space), sizes)


@pytest.fixture
def reach(model: LatencyModel) -> Reach:
    return Reach(model, aim_ms=model.median_ms)


def test_a_candidate_takes_what_a_pass_keeps_of_it_and_its_weights(space: ChainSpace) -> None:
    net, mask = space.supernet(), Structure(space).mask(everything(space))
    few, many = (sizes_of(net, torch.randn(count, 1, 8, 8), mask) for count in (8, 16))
    identity, *blocks = few[1]
    weights = [4 * 4 * sum(w.numel() for w in block.parameters()) for block in net.mixed_ops()[1].candidates]
    assert identity < min(blocks) and few[1][4] > few[1][1]  # k3e6 has more channels than k3e3
    for small, large, own in zip(few[1], many[1], weights, strict=True):
        assert large - own == pytest.approx(
            2 * (small - own), rel=0.1
        )  # but for statistics: as many as there are images
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), net.state_dict().values(), strict=True))


def test_in_a_chain_every_choice_stands_for_its_own_bytes(footprint: Footprint, sizes: list[list[float]]) -> None:
    kept: Kept = ((0, 2), (1,), (3, 4, 5))
    total, shares = footprint.shares(kept)
    expected = {(g, j): sizes[g][j] for g, each in enumerate(kept) for j in each}
    assert total == pytest.approx(sum(expected.values()))
    for g, j in np.ndindex(*shares.shape):
        assert shares[g, j] == pytest.approx(expected.get((g, j), 0.0))


def test_where_choices_are_shared_their_sum_counts_what_is_run_once() -> None:
    darts = find_space("darts?layers=3&width=4", image_shape=(3, 16, 16), classes=3)
    structure = Structure(darts)
    sizes = [[1.0] * 7 for _ in range(3 * 14)]
    kept = tuple((0,) if g % 2 == 0 else (2, 4) for g in range(32))
    footprint = Footprint(structure, sizes)
    total, shares = footprint.shares(kept)
    assert total == 3 * 4 * 2  # in each of three cells and each of four nodes two operations, of input 0 alone
    assert shares[1, 2] == shares[3, 2] > 0  # either of the two pairs stands for a part of the operation they share
    without = footprint.bytes(tuple((2,) if g in (1, 3) else each for g, each in enumerate(kept)))
    assert without < total


def test_the_footprint_passes_through_what_was_measured(footprint: Footprint) -> None:
    small: Kept = ((0,), (0,), (0,))
    large: Kept = ((0, 1), (0, 1, 2), (0, 5))
    footprint.measured(small, 5e8)
    assert footprint.bytes(small) == pytest.approx(5e8)
    footprint.measured(large, 6e8)
    assert footprint.bytes(small) == pytest.approx(5e8) and footprint.bytes(large) == pytest.approx(6e8)
    assert footprint.bytes(everything_of(footprint)) > 6e8


def everything_of(footprint: Footprint) -> Kept:
    return tuple(tuple(range(len(each))) for each in footprint.sizes)


def test_what_is_lowest_in_rank_goes_until_the_target_is_kept(footprint: Footprint, reach: Reach) -> None:
    whole, worth = everything_of(footprint), np.ones((3, 7))
    worth[1, 2:] = 0
    half = footprint.bytes(whole) / 2
    kept, witness = narrowed(whole, reach.witness(), half, footprint, reach, by_worth(worth))
    assert footprint.bytes(kept) <= half and all(kept)
    assert set(kept[1]) & set(range(2, 7)) == set() or len(kept[0]) == len(kept[2]) == 6
    assert all(j in each for j, each in zip(witness, kept, strict=True)) and reach.excess(witness) <= 0
    assert narrowed(whole, witness, 2 * half, footprint, reach, by_worth(worth))[0] == whole
    least, _ = narrowed(whole, witness, 0.0, footprint, reach, by_worth(worth))
    assert list(map(len, least)) == [1, 1, 1]


def test_a_network_within_all_budgets_stays(footprint: Footprint, model: LatencyModel, space: ChainSpace) -> None:
    fastest = model.smallest
    tight = Reach(model, aim_ms=1.0001 * model.latency_ms(fastest))
    worth = np.ones((3, 7))
    for g, j in enumerate(fastest):
        worth[g, j] = 0  # everything speaks for giving up what has to stay
    kept, witness = narrowed(everything_of(footprint), fastest, 0.0, footprint, tight, by_worth(worth))
    assert kept == tuple((j,) for j in fastest) and witness == fastest
    params = Params(space)
    limited = Reach(model, 2 * model.latency_ms(model.largest), (Constraint(params, params.value(params.smallest)),))
    kept, witness = narrowed(everything_of(footprint), limited.witness(), 0.0, footprint, limited, by_worth(worth))
    assert params.value(witness) == params.value(params.smallest) and limited.excess(witness) <= 0


def test_children_tell_which_candidates_are_best() -> None:
    pruner = ChildPruner(COUNTS, CONFIG, 0)
    rng, episodes = np.random.default_rng(0), list[dict[str, Any]]()
    best = (2, 5, 0)
    for _ in range(40):
        paths = [tuple(int(rng.integers(count)) for count in COUNTS) for _ in range(4)]
        rewards = [sum(a == b for a, b in zip(path, best, strict=True)) / 10 + rng.normal(0, 0.05) for path in paths]
        episodes.append({"paths": [[path] for path in paths], "rewards": rewards, "baseline": 0.1})
    whole = tuple(tuple(range(count)) for count in COUNTS)
    worth = pruner.worth(whole, episodes, torch.Generator().manual_seed(0))
    assert tuple(worth.argmax(1)) == best and worth.max(1).min() > 0.8
    np.testing.assert_allclose(worth.sum(1), 1)
    assert worth[0, 6] == 0  # the first decision has no such choice
    rest = tuple(tuple(j for j in each if j != good) for each, good in zip(whole, best, strict=True))
    assert all(pruner.worth(rest, episodes, torch.Generator().manual_seed(0))[g, j] == 0 for g, j in enumerate(best))
    ignorant = pruner.worth(whole, [], torch.Generator().manual_seed(0))
    np.testing.assert_allclose(ignorant.sum(1), 1)


def test_children_are_drawn_of_what_is_left_and_the_controller_learns_from_them() -> None:
    pruner = ChildPruner(COUNTS, replace(CONFIG, episode_children=16, controller_lr=0.02), 0)
    kept, generator = ((0, 3), (2,), (1, 4, 5)), torch.Generator().manual_seed(0)
    for _ in range(30):
        children = pruner.draw(kept, generator)
        assert all(j in each for (path,) in children for j, each in zip(path, kept, strict=True))
        pruner.learn([float(path[0] == 3) for (path,) in children])
    last = pruner.draw(kept, generator)
    assert sum(path[0] == 3 for (path,) in last) >= 14


@pytest.mark.slow
def test_subspaces_are_drawn_within_the_bound_and_the_controller_learns_what_to_keep(
    footprint: Footprint, reach: Reach
) -> None:
    whole = everything_of(footprint)
    target, drawn = footprint.bytes(whole) / 2, list[Kept]()

    def fit(kept: Kept, worth: np.ndarray[Any, np.dtype[np.float64]]) -> Kept:
        drawn.append(narrowed(kept, reach.witness(), target, footprint, reach, by_worth(worth))[0])
        return drawn[-1]

    config = replace(CONFIG, episode_children=8, networks=3, controller_lr=0.02)
    pruner, generator = SubspacePruner(COUNTS, config, 0, fit), torch.Generator().manual_seed(0)
    before = pruner.worth(whole, [], torch.Generator().manual_seed(0))
    for _ in range(20):
        drawn.clear()
        children = pruner.draw(whole, generator)
        assert all(footprint.bytes(kept) <= target for kept in drawn)
        for kept, paths in zip(drawn, children, strict=True):
            assert all(j in each for path in paths for j, each in zip(path, kept, strict=True))
        pruner.learn([float(np.mean([path[2] == 5 for path in paths])) for paths in children])
    after = pruner.worth(whole, [], torch.Generator().manual_seed(0))
    assert after[2, 5] > before[2, 5] + 0.2 and after[2, 5] > after[2, :5].mean() + 0.2
    alone = pruner.worth(((4,), (1, 2), (0, 5)), [], torch.Generator().manual_seed(0))
    assert alone[0].tolist() == [0, 0, 0, 0, 1, 0, 0] and alone[1, 0] == alone[2, 1] == 0


@pytest.fixture
def begin(
    space: ChainSpace, model: LatencyModel, data: Dataset, sizes: list[list[float]], tmp_path: Path
) -> Callable[..., RadarsSearch]:
    def make(name: str, config: RadarsConfig = CONFIG) -> RadarsSearch:
        footprint = Footprint(Structure(space), sizes)
        bound = footprint.bytes(everything(space)) / 2
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = space.supernet()
        run = Run.begin(tmp_path / name, {})
        search = RadarsSearch(net, footprint, Reach(model, model.median_ms), data, bound, config, 0, run)
        search.resume()
        return search

    return make


@pytest.mark.parametrize("reading", ["children", "subspaces"])
def test_pruning_ends_below_the_bound_with_what_is_pruned_gone(
    begin: Callable[..., RadarsSearch], reading: Any
) -> None:
    search = begin("one", replace(CONFIG, reading=reading))
    lines = list(search.episodes())
    prunings = [line for line in lines if "kept" in line]
    assert [line["episode"] for line in prunings] == [4, 6, 8]
    assert [line["bytes"] for line in prunings] == sorted((line["bytes"] for line in prunings), reverse=True)
    assert (
        search.footprint.bytes(search.kept)
        <= search.target_bytes
        < search.footprint.bytes(everything_of(search.footprint))
    )
    for mixed, kept in zip(search.supernet.mixed_ops(), search.kept, strict=True):
        assert [j for j, each in enumerate(mixed.candidates) if not isinstance(each, Pruned)] == list(kept)
    assert search.reach.excess(search.witness) <= 0
    assert search.run.lines(JOURNAL) == json.loads(json.dumps(lines))


@pytest.mark.parametrize(("reading", "last"), [("children", 2), ("children", 5), ("children", 7), ("subspaces", 5)])
@pytest.mark.slow
def test_a_killed_pruning_goes_on_bit_for_bit(begin: Callable[..., RadarsSearch], reading: Any, last: int) -> None:
    config = replace(CONFIG, reading=reading)
    whole = begin("whole", config)
    list(whole.episodes())
    killed = begin("killed", config)
    for line in killed.episodes():
        if line["episode"] == last:
            break
    again = begin("killed", config)
    assert last - config.save_every < again.episode <= last
    list(again.episodes())
    assert again.run.lines(JOURNAL) == whole.run.lines(JOURNAL) and again.kept == whole.kept
    saved, expected = again.run.load_tensors(CHECKPOINT), whole.run.load_tensors(CHECKPOINT)
    assert saved is not None and expected is not None
    (ours, our_scalars), (theirs, their_scalars) = saved, expected
    assert our_scalars == their_scalars and ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    np.testing.assert_array_equal(again.worth(), whole.worth())


def test_what_exceeds_a_budget_is_rewarded_less(begin: Callable[..., RadarsSearch], model: LatencyModel) -> None:
    search = begin("one")
    search.reach = Reach(model, model.latency_ms(model.smallest) * 1.01)
    lines = list(search.episodes())
    assert search.multiplier.value > 0 and lines[-1]["penalty"] > lines[3]["penalty"] > 0
    last = lines[-1]
    for (path,), (accuracy,), reward in zip(last["paths"], last["accuracies"], last["rewards"], strict=True):
        assert reward == pytest.approx(accuracy - last["penalty"] * max(search.reach.excess(path), 0))
