"""The search asks for networks once, learns what it is taught, and goes on from a checkpoint as if nothing had been."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from unas_hw.errors import MethodError
from unas_hw.methods.monas.config import MonasConfig
from unas_hw.methods.monas.rewards import Bound, Child, Reward
from unas_hw.methods.monas.search import CHECKPOINT, Batch, MonasSearch
from unas_hw.runs import RUNS, Run
from unas_hw.search.front import hypervolume
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space
from unas_hw.spaces.chain import ChainSpace

CONFIG = MonasConfig(children=60, batch=4)


def latency(child: Child) -> float:
    return child.latency_ms


def priced(path: Sequence[int]) -> Child:
    """Higher choices are more accurate, with diminishing returns, and dearer."""
    size = sum(path)
    return Child(path=tuple(path), accuracy=1 - 0.8 ** (size + path[0]), latency_ms=1.0 + size)


def reward_of(config: MonasConfig, limit_ms: float | None = None) -> Reward:
    bounds = [] if limit_ms is None else [Bound(latency, limit_ms, 18.0)]
    return Reward(config.reward, latency, (1.0, 18.0), bounds, ranked=config.weight is None)


def searched(search: MonasSearch, batches: int | None = None) -> list[Batch]:
    """Teaches it until it is done, or so many batches."""
    done: list[Batch] = []
    while not search.is_done and (batches is None or len(done) < batches):
        done.append(search.propose())
        search.learn(done[-1], [priced(path) for path in done[-1].paths])
    return done


def test_it_asks_for_as_many_networks_as_it_was_told_none_of_them_twice(space: ChainSpace) -> None:
    search = MonasSearch(space, reward_of(CONFIG), CONFIG, seed=0)
    paths = [path for batch in searched(search) for path in batch.paths]
    assert len(search.known) == len({space.running(path) for path in paths}) == 60
    assert len(paths) == 60  # with 64 draws of 252 networks there is always one that is new


def test_it_ends_when_it_knows_every_network(space: ChainSpace) -> None:
    config = replace(CONFIG, children=1_000, batch=8)
    search = MonasSearch(space, reward_of(config), config, seed=0)
    searched(search)
    assert len(search.known) == space.size == 252


def test_networks_that_run_the_same_or_nothing_are_asked_for_once_or_never() -> None:
    space = find_space("nas_bench_201", image_shape=(3, 8, 8))
    config = replace(CONFIG, children=400)
    search = MonasSearch(space, reward_of(config), config, seed=0)
    paths = np.array([path for batch in searched(search) for path in batch.paths])
    assert space.usable(paths).all()
    assert len({space.running(path) for path in paths.tolist()}) == len(search.known) == 400


@pytest.mark.parametrize("weight", [None, 0.5])
def test_imitation_makes_the_best_that_are_known_more_probable(space: ChainSpace, weight: float | None) -> None:
    def log_prob_of_best(imitation: float) -> float:
        config = replace(CONFIG, lr=1e-2, weight=weight, imitation=imitation)
        search = MonasSearch(space, reward_of(config), config, seed=0)
        searched(search, batches=10)
        best = search.front() if search.swept else search.ranked()[:4]
        places = torch.linspace(0, 1, len(best), dtype=torch.float64)[:, None] if search.swept else None
        with torch.no_grad():
            return float(search.controller.log_prob(torch.tensor([child.path for child in best]), places)[0].mean())

    assert log_prob_of_best(1.0) > log_prob_of_best(0.0) + 0.1


@pytest.mark.slow
def test_the_swept_search_finds_more_of_the_front_than_chance() -> None:
    space = find_space("mbconv-small")
    counts = [len(decision.choices) for decision in space.decisions]
    highest = 1.0 + sum(counts) - len(counts)

    def area(paths: Iterable[Sequence[int]]) -> float:
        children = map(priced, paths)
        return hypervolume(np.array([(child.accuracy, -child.latency_ms) for child in children]), (0.0, -highest))

    rng, ours, chance = np.random.default_rng(0), list[float](), list[float]()
    for seed in range(2):
        config = replace(CONFIG, children=300)
        reward = Reward("mixed", latency, (1.0, highest), ranked=True)
        search = MonasSearch(space, reward, config, seed=seed)
        searched(search)
        ours.append(area(search.known))
        chance.append(area(rng.integers(counts, size=(300, len(counts))).tolist()))
    assert min(ours) > max(chance)


@pytest.mark.slow
def test_the_controller_learns_to_keep_a_bound_that_most_networks_break(space: ChainSpace) -> None:
    config = replace(CONFIG, reward="constraint", children=10_000, draws=1, softening=0.0, batch=8)
    search = MonasSearch(space, reward_of(config, limit_ms=5.0), config, seed=0)
    kept = []
    for _ in range(250):
        batch = search.propose()
        children = [priced(path) for path in batch.paths]
        kept.append(np.mean([child.latency_ms <= 5.0 for child in children]))
        search.learn(batch, children)
    assert np.mean(kept[:4]) < 0.4 < 0.8 < np.mean(kept[-25:])


@pytest.mark.parametrize("weight", [None, 0.6])
def test_it_goes_on_from_its_checkpoint_as_if_nothing_had_been(space: ChainSpace, weight: float | None) -> None:
    config = replace(CONFIG, weight=weight)
    whole = MonasSearch(space, reward_of(config), config, seed=3, run=Run.begin(RUNS / "whole", {}))
    expected = searched(whole)
    first = MonasSearch(space, reward_of(config), config, seed=3, run=Run.begin(RUNS / "killed", {}))
    seen = searched(first, batches=4)
    # The fifth batch was begun: one of its children was finished, and nothing was learnt of it.
    begun = first.propose()
    finished = [(number, priced(path)) for number, batch in enumerate(seen) for path in batch.paths]
    finished += [(4, priced(begun.paths[0]))]
    second = MonasSearch(space, reward_of(config), config, seed=3, run=Run.open(RUNS / "killed"))
    second.resume(finished[::-1])
    assert second.known.keys() == first.known.keys()
    rest = searched(second)
    assert [batch.paths for batch in [*seen, *rest]] == [batch.paths for batch in expected]
    assert (RUNS / "killed" / CHECKPOINT).read_bytes() == (RUNS / "whole" / CHECKPOINT).read_bytes()
    assert second.front() == whole.front()


def test_a_search_without_a_checkpoint_begins_at_the_beginning(space: ChainSpace) -> None:
    search = MonasSearch(space, reward_of(CONFIG), CONFIG, seed=0, run=Run.begin(RUNS / "new", {}))
    batch = search.propose()
    search.resume([(0, priced(batch.paths[0]))])
    assert not search.known and search.propose().paths == batch.paths


def test_the_best_keep_all_bounds_and_the_front_is_ordered_by_cost(space: ChainSpace) -> None:
    search = MonasSearch(space, reward_of(CONFIG, limit_ms=6.0), CONFIG, seed=0)
    searched(search)
    ranked = search.ranked()
    kept = [child.latency_ms <= 6.0 for child in ranked]
    assert kept == sorted(kept, reverse=True) and any(kept) and not all(kept)
    within = [child.accuracy for child in ranked if child.latency_ms <= 6.0]
    assert within == sorted(within, reverse=True)
    front = search.front()
    assert [child.latency_ms for child in front] == sorted({child.latency_ms for child in front})
    assert [child.accuracy for child in front] == sorted({child.accuracy for child in front})


@pytest.mark.parametrize("changes", [{"weight": 1.2}, {"children": 0}, {"softening": 1.0}])
def test_settings_that_cannot_be_are_refused_by_name(space: SearchSpace, changes: dict[str, float]) -> None:
    config = replace(CONFIG, **changes)  # type: ignore[arg-type]
    with pytest.raises(MethodError, match=next(iter(changes))):
        MonasSearch(space, reward_of(CONFIG), config, seed=0)
