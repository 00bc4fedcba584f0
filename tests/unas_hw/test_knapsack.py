"""The knapsack gives every network within the budget in the order of its score, as going through all of them does."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pytest

from tests.unas_hw.made_up import COUNTS, EVERYTHING, MadeUpSpace, PickySpace
from unas_hw.cost_model import AdditiveModel
from unas_hw.errors import SpaceError
from unas_hw.methods.freenas import knapsack as of_knapsack
from unas_hw.methods.freenas.knapsack import Knapsack, Path
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space
from unas_hw.spaces.chain import ChainSpace, Layer
from unas_hw.terms import Costs

Tables = dict[tuple[int, ...], Costs]


def macs(space: SearchSpace) -> dict[str, float]:
    return {workload.key: float(workload.cost.macs) for workload in space.workloads()}


def bent(x: Any) -> Any:
    """Twice as steep from a thousand on, as a calibration may be."""
    return x + np.maximum(x - 1000, 0)


def model_of(space: SearchSpace, bend: Callable[[Any], Any] = lambda x: x) -> AdditiveModel:
    return AdditiveModel(space, macs(space).__getitem__, name="MACs", unit="", constant=7.0, bend=bend)


def by_hand(model: AdditiveModel, tables: Tables, most: float, every: list[Path]) -> list[tuple[float, Path]]:
    """All usable networks within the budget with their scores, the best first; of the same network one path."""
    space, found = model.space, dict[Path, tuple[float, Path]]()
    for path in every:
        live = space.live(np.array([path]))[0]
        parts = {decisions: float(table[tuple(path[g] for g in decisions)]) for decisions, table in tables.items()}
        if np.isneginf(list(parts.values())).any() or model.value(path) > most or not space.is_usable(path):
            continue
        score = sum(part for decisions, part in parts.items() if live[list(decisions)].all())
        found.setdefault(space.running(path), (score, path))
    return sorted(found.values(), key=lambda each: -each[0])


def made_up_tables(seed: int) -> Tables:
    """Scores that tie 0 to 3 and leave 1 and 4 alone; some must not be chosen."""
    rng = np.random.default_rng(seed)
    tied: tuple[tuple[int, ...], ...] = ((0, 3), (1,), (2,), (4,))
    tables: Tables = {decisions: rng.normal(size=[COUNTS[g] for g in decisions]) for decisions in tied}
    tables[2,][rng.integers(4)] = -np.inf
    return tables


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("bend", [lambda x: x, bent])
@pytest.mark.parametrize("build", [MadeUpSpace, PickySpace, partial(MadeUpSpace, dead=True)])
def test_all_networks_come_in_the_order_of_their_scores(
    build: Callable[[], SearchSpace], bend: Callable[[Any], Any], seed: int
) -> None:
    model, tables = model_of(build(), bend), made_up_tables(seed)
    low, high = model.range
    for share in (0.0, 0.1, 0.5, 1.0):
        most = low + share * (high - low)
        wanted = by_hand(model, tables, most, EVERYTHING)
        knapsack = Knapsack(model, tables)
        found = list(knapsack.ranked(most))
        scores = {path: score for score, path in wanted}
        running = {model.space.running(path): score for score, path in wanted}
        assert [running[model.space.running(path)] for path in found] == pytest.approx([score for score, _ in wanted])
        assert len(set(map(model.space.running, found))) == len(scores) and knapsack.exact


@pytest.mark.parametrize("seed", range(3))
def test_scores_and_prices_that_are_equal_lose_no_network(seed: int) -> None:
    space, rng = MadeUpSpace(), np.random.default_rng(seed)
    model = AdditiveModel(space, lambda key: float(len(key) % 3), name="x", unit="")
    tables: Tables = {(g,): rng.integers(0, 2, count).astype(float) for g, count in enumerate(COUNTS)}
    most = model.median
    wanted = by_hand(model, tables, most, EVERYTHING)
    found = list(Knapsack(model, tables).ranked(most))
    assert set(found) == {path for _, path in wanted} and len(found) == len(wanted)


def test_a_budget_of_exactly_the_smallest_network_is_not_lost_to_rounding() -> None:
    space = MadeUpSpace()
    tables: Tables = {(g,): np.zeros(count) for g, count in enumerate(COUNTS)}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        prices = {workload.key: float(rng.random()) for workload in space.workloads()}
        model = AdditiveModel(space, prices.__getitem__, name="x", unit="", constant=0.1)
        assert model.smallest in set(Knapsack(model, tables).ranked(model.range[0]))


def test_prices_and_scores_below_nothing_are_as_good_as_others() -> None:
    space = MadeUpSpace()
    prices = {key: (-1) ** number * value for number, (key, value) in enumerate(macs(space).items())}
    model = AdditiveModel(space, prices.__getitem__, name="x", unit="", constant=-1e6)
    tables: Tables = {decisions: table - 3 for decisions, table in made_up_tables(0).items()}
    most = model.median
    wanted = by_hand(model, tables, most, EVERYTHING)
    found = list(Knapsack(model, tables).ranked(most))
    assert found == [path for _, path in wanted] and found


def test_a_real_space_is_ranked_as_going_through_all_of_it_does(space: ChainSpace) -> None:
    model, rng = model_of(space), np.random.default_rng(0)
    counts = [len(decision.choices) for decision in space.decisions]
    tables: Tables = {(g,): rng.random(count) for g, count in enumerate(counts)}
    every = list(itertools.product(*map(range, counts)))
    for most in np.quantile([model.value(path) for path in every], (0.05, 0.3, 0.8)).tolist():
        wanted = by_hand(model, tables, most, every)
        assert list(Knapsack(model, tables).ranked(most)) == [path for _, path in wanted]


def test_cells_with_dead_edges_are_ranked_as_going_through_all_of_them_does() -> None:
    space = find_space("nas_bench_201?width=2&cells=1", image_shape=(1, 8, 8))
    model, rng = model_of(space), np.random.default_rng(0)
    tables: Tables = {(g,): np.array([-np.inf, *rng.random(4)]) for g in range(6)}
    whole = list(itertools.product(range(1, 5), repeat=6))
    for share in (0.01, 0.3):
        most = model.range[0] + share * (model.range[1] - model.range[0])
        knapsack = Knapsack(model, tables)
        found = list(islice(knapsack.ranked(most), 200))
        assert found == [path for _, path in by_hand(model, tables, most, whole)][:200] and knapsack.exact
    free: Tables = {(g,): np.array([0.0, *table[1:]]) for (g,), table in tables.items()}
    cut = next(Knapsack(model, free).ranked(model.range[0]))
    assert model.value(cut) == model.range[0] and space.is_usable(cut)


def test_further_costs_are_kept_within_their_limits() -> None:
    model, tables = model_of(MadeUpSpace()), made_up_tables(2)
    other = AdditiveModel(model.space, lambda key: float(len(key)), name="x", unit="", constant=1.0)
    wanted = [path for _, path in by_hand(model, tables, model.median, EVERYTHING) if other.value(path) <= other.median]
    assert list(Knapsack(model, tables).ranked(model.median, [(other, other.median)])) == wanted and wanted


def test_nothing_is_found_where_nothing_is_within_the_budget_or_allowed() -> None:
    model, tables = model_of(MadeUpSpace()), made_up_tables(0)
    assert list(Knapsack(model, tables).ranked(model.range[0] - 1)) == []
    nothing: Tables = {**tables, (2,): np.full(4, -np.inf)}
    for space in (MadeUpSpace(), MadeUpSpace(dead=True)):
        assert list(Knapsack(model_of(space), nothing).ranked(model.range[1])) == []


def test_a_network_that_costs_just_the_budget_is_within_it() -> None:
    model = model_of(MadeUpSpace(), bent)
    tables: Tables = {(g,): np.zeros(count) for g, count in enumerate(COUNTS)}
    for path in EVERYTHING[::7]:
        assert path in set(Knapsack(model, tables).ranked(model.value(path)))


def test_what_is_left_out_is_owned_up_to(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tables = model_of(MadeUpSpace()), made_up_tables(1)
    monkeypatch.setattr(of_knapsack, "STATES", 1)
    knapsack = Knapsack(model, tables)
    found = list(knapsack.ranked(model.median))
    assert not knapsack.exact
    assert all(model.value(path) <= model.median for path in found) and found
    monkeypatch.undo()
    monkeypatch.setattr(of_knapsack, "LOOKED_AT", 8)
    knapsack = Knapsack(model, tables)
    assert len(list(knapsack.ranked(model.range[1]))) == 8 and not knapsack.exact


def test_many_dead_networks_are_not_gone_through_and_what_is_found_is_within_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(of_knapsack, "MAX_JOINT", 10)
    model, tables = model_of(MadeUpSpace(dead=True)), made_up_tables(0)
    knapsack = Knapsack(model, tables)
    found = list(knapsack.ranked(model.median))
    assert found and not knapsack.exact
    assert all(model.value(path) <= model.median for path in found)


def test_decisions_that_all_hang_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_knapsack, "COMBINATIONS", 5)
    model = model_of(MadeUpSpace())
    with pytest.raises(SpaceError, match="hang together") as caught:
        list(Knapsack(model, made_up_tables(0)).ranked(model.range[1]))
    assert "--method" in caught.value.mend


def test_twenty_one_layers_of_seven_choices_take_less_than_five_seconds() -> None:
    small = find_space("mbconv-small?width=0.25")
    assert isinstance(small, ChainSpace)
    workloads = itertools.cycle(small.workloads())
    layers = [Layer(str(layer), {str(j): next(workloads) for j in range(7)}) for layer in range(21)]
    model = model_of(ChainSpace("long", small.input_shape, 10, layers))
    rng = np.random.default_rng(0)
    tables: Tables = {(g,): table + 1e4 * rng.random(7) for (g,), table in model.costs.tables.items()}
    begin = time.monotonic()
    for share in (0.1, 0.5, 0.9):
        most = model.range[0] + share * (model.range[1] - model.range[0])
        knapsack = Knapsack(model, tables)
        best = list(islice(knapsack.ranked(most), 50))
        scores = [sum(tables[g,][index] for g, index in enumerate(path)) for path in best]
        assert len(set(best)) == 50 and knapsack.exact and scores == sorted(scores, reverse=True)
    assert time.monotonic() - begin < 5
