"""A space priced by a table: every network costs the calibrated sum of its rows, the extremes, the median and the most
probable networks are those that enumeration finds, and a missing row is an error, never zero.
"""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from latency_tables.calibration import Calibration
from latency_tables.errors import MissingEntryError
from latency_tables.table import LatencyTable
from unas_hw.cost_model import AdditiveModel
from unas_hw.latency_model import LatencyModel, predict
from unas_hw.space import Architecture
from unas_hw.spaces.chain import ChainSpace

EVERYTHING: list[tuple[int, ...]] = list(itertools.product(range(6), range(7), range(6)))


@pytest.fixture
def model(space: ChainSpace, table: LatencyTable) -> LatencyModel:
    return LatencyModel(space, table)


@pytest.mark.parametrize(
    "calibration",
    [
        Calibration(),
        Calibration(model="scale+per_op", scale=0.8, per_op_ms=0.003),
        Calibration(model="scale+intercept", scale=1.1, intercept_ms=0.05),
    ],
    ids=lambda calibration: calibration.model,
)
def test_a_network_costs_the_calibrated_sum_of_its_rows(
    space: ChainSpace, table_path: Path, calibration: Calibration
) -> None:
    table = LatencyTable.load(table_path)
    table.calibration = calibration
    model = LatencyModel(space, table)
    for path in EVERYTHING[::7]:
        parts = space.parts(space.architecture(path))
        rows = sum(table.latency_ms(part.key) for part in parts)
        expected = calibration.scale * rows + calibration.per_op_ms * len(parts) + calibration.intercept_ms
        assert model.latency_ms(path) == pytest.approx(expected, rel=1e-12)
        assert predict(space, table, space.architecture(path)).predicted_ms == pytest.approx(expected, rel=1e-12)


def test_another_percentile_is_the_median_times_the_tables_tail(space: ChainSpace, table: LatencyTable) -> None:
    median, tail = LatencyModel(space, table), LatencyModel(space, table, percentile=90)
    ratio = table.tail_ratio(90)
    assert ratio > 1
    for path in EVERYTHING[::50]:
        assert tail.latency_ms(path) == pytest.approx(ratio * median.latency_ms(path))


def test_the_smallest_and_the_largest_are_the_fastest_and_the_slowest_of_all(model: LatencyModel) -> None:
    times = [model.latency_ms(path) for path in EVERYTHING]
    assert model.latency_ms(model.smallest) == pytest.approx(min(times))
    assert model.latency_ms(model.largest) == pytest.approx(max(times))
    assert min(times) < 0.5 * max(times)


def test_half_of_all_networks_are_faster_than_the_median(model: LatencyModel) -> None:
    times = sorted(model.latency_ms(path) for path in EVERYTHING)
    assert times[len(times) // 2 - 1] <= model.median_ms * (1 + 1e-9)
    assert model.median_ms <= times[len(times) // 2] * (1 + 1e-9)


def test_the_distribution_of_the_latency_is_that_of_all_networks(model: LatencyModel) -> None:
    probs = [torch.softmax(torch.randn(count, dtype=torch.float64), 0) for count in (6, 7, 6)]
    weights = [math.prod(float(row[i]) for row, i in zip(probs, path, strict=True)) for path in EVERYTHING]
    times = [model.latency_ms(path) for path in EVERYTHING]
    found = model.distribution(probs)
    mean = sum(weight * time for weight, time in zip(weights, times, strict=True))
    assert float(found.expectation()) == pytest.approx(mean)
    budget_ms = sorted(times)[100] * 1.000001
    within = sum(weight for weight, time in zip(weights, times, strict=True) if time <= budget_ms)
    assert float(found.cdf(budget_ms)) == pytest.approx(within)


def _ranked(model: AdditiveModel, log_probs: list[Tensor], low: float, high: float) -> list[tuple[int, ...]]:
    fitting = [path for path in EVERYTHING if low <= model.value(path) <= high]
    scores = {path: sum(float(row[i]) for row, i in zip(log_probs, path, strict=True)) for path in fitting}
    return sorted(fitting, key=lambda path: -scores[path])


@pytest.mark.parametrize("seed", range(12))
def test_the_most_probable_networks_within_bounds_are_those_that_enumeration_finds(
    model: LatencyModel, seed: int
) -> None:
    generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    log_probs = [
        torch.log_softmax(2 * torch.randn(count, dtype=torch.float64, generator=generator), 0) for count in (6, 7, 6)
    ]
    smallest, largest = model.latency_ms(model.smallest), model.latency_ms(model.largest)
    low, high = sorted(smallest + rng.uniform(0.02, 0.98) * (largest - smallest) for _ in range(2))
    for bounds in ((low, high), (0.0, high)):
        wanted = _ranked(model, log_probs, *bounds)
        assert model.most_probable(log_probs, *bounds, 6) == wanted[:6]


def test_of_many_networks_with_the_same_latency_none_of_the_most_probable_is_lost(space: ChainSpace) -> None:
    every_third = [key for term in space.terms() if term.decisions for (key,) in [keys or ("",) for keys in term.keys]]
    prices = {key: float(place % 3) for place, key in enumerate(every_third)}
    model = AdditiveModel(space, lambda key: prices.get(key, 0.0), name="latency", unit="ms", constant=1.0)
    generator = torch.Generator().manual_seed(0)
    log_probs = [
        torch.log_softmax(torch.randn(count, dtype=torch.float64, generator=generator), 0) for count in (6, 7, 6)
    ]
    for latency_ms in (2.0, 4.0, 6.0):
        wanted = _ranked(model, log_probs, latency_ms - 0.1, latency_ms + 0.1)
        assert len(wanted) > 20
        assert model.most_probable(log_probs, latency_ms - 0.1, latency_ms + 0.1, 6) == wanted[:6]


def test_the_fastest_network_is_found_where_only_it_fits(model: LatencyModel) -> None:
    uniform = [torch.full((count,), -math.log(count), dtype=torch.float64) for count in (6, 7, 6)]
    just = model.latency_ms(model.smallest) * (1 + 1e-9)
    assert model.most_probable(uniform, 0.0, just, 6) == [model.smallest]
    assert model.most_probable(uniform, 0.0, 0.5 * just, 6) == []


def test_fewer_networks_than_asked_for_are_all_of_them(model: LatencyModel) -> None:
    uniform = [torch.full((count,), -math.log(count), dtype=torch.float64) for count in (6, 7, 6)]
    high = sorted(model.latency_ms(path) for path in EVERYTHING)[3] * (1 + 1e-9)
    assert sorted(model.most_probable(uniform, 0.0, high, 10)) == sorted(_ranked(model, uniform, 0.0, high))


def _without(table: LatencyTable, key: str) -> LatencyTable:
    rows = {name: row for name, row in table.rows.items() if name != key}
    return LatencyTable(table.path, table.header, rows, table.samples, table.sessions, table.calibration)


def test_a_row_of_a_kind_that_the_table_lacks_is_refused_by_name(space: ChainSpace, table: LatencyTable) -> None:
    lost = space.workloads()[0]
    assert lost.op.kind == "conv"  # the only one
    with pytest.raises(MissingEntryError) as caught:
        LatencyModel(space, _without(table, lost.key))
    assert lost.key in caught.value.what
    assert "the nearest is" in caught.value.what
    assert caught.value.mend.startswith("unas-hw profile")


def test_an_unknown_operation_is_predicted_flagged_and_widens_the_interval(
    space: ChainSpace, table: LatencyTable
) -> None:
    lost = space.layers[1].candidates["k7e6"]
    assert lost is not None
    poorer = _without(table, lost.key)
    without, with_it = Architecture("toy", ("k3e3", "id", "k3e3")), Architecture("toy", ("k7e6", "id", "k3e3"))
    assert predict(space, poorer, without) == predict(space, table, without)
    known, guessed = predict(space, table, with_it), predict(space, poorer, with_it)
    assert guessed.regressed == (lost.key,)
    assert guessed.coverage == 3 / 4
    assert guessed.low_ms < known.predicted_ms < guessed.high_ms
    assert guessed.high_ms / guessed.low_ms > 1.1 * known.high_ms / known.low_ms


def test_a_bound_is_looser_where_rows_are_guessed(space: ChainSpace, table: LatencyTable) -> None:
    lost = space.layers[1].candidates["k7e6"]
    assert lost is not None
    assert 1 < LatencyModel(space, table).upper(0.9) < LatencyModel(space, _without(table, lost.key)).upper(0.9)


def test_a_prediction_comes_with_an_interval_around_it(space: ChainSpace, table: LatencyTable) -> None:
    found = predict(space, table, space.architecture((3, 3, 3)))
    assert found.coverage == 1
    assert found.low_ms < found.predicted_ms < found.high_ms
    assert found.high_ms / found.low_ms < 1.2


def test_the_simulated_networks_are_as_fast_as_predicted(space: ChainSpace, table: LatencyTable) -> None:
    from profilers.devices.simulated import find_simulated

    phone = find_simulated(str(table.header["device"]).partition(":")[2])
    for path in EVERYTHING[::25]:
        true_ms = phone.latency_ms(space.workload(space.architecture(path)))
        assert LatencyModel(space, table).latency_ms(path) == pytest.approx(true_ms, rel=0.05)
