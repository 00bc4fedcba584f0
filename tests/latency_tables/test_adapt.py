"""Adaptation finds a device that is like others, mends what they have wrong, and says honestly how far it is off."""

from __future__ import annotations

import math

import numpy as np
import pytest

from latency_tables.adapt import Adaptation, adapt
from profilers.timing import Floats

OPS, DEVICES = 6, 5


class World:
    """Networks of 4 to 30 operations on devices whose operations cost different shares.

    The new device is a mixture of the first two, except that the last operation costs ``extra`` times the mean more.
    """

    def __init__(self, networks: int, seed: int = 0, noise: float = 0.0, extra: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        rows_ms = rng.uniform(0.1, 1.0, (OPS, DEVICES))
        self.counts = rng.integers(0, 6, (networks, OPS)).astype(np.float64)
        self.counts[:, 0] += 4
        self.source_ms: Floats = self.counts @ rows_ms + 0.5
        own_ms = rows_ms[:, :2] @ np.array([0.7, 1.6])
        own_ms[-1] += extra * own_ms.mean()
        self.true_ms: Floats = self.counts @ own_ms + 2.0
        self.measured_ms: Floats = self.true_ms * np.exp(rng.normal(0, noise, networks))

    def adapt(self, networks: int, counts: Floats | None = None) -> Adaptation:
        features = self.counts if counts is None else counts
        return adapt(self.source_ms[:networks], features[:networks], self.measured_ms[:networks])

    def error(self, adapted: Adaptation, networks: int, counts: Floats | None = None) -> float:
        """MAPE on the networks that were not given."""
        features = (self.counts if counts is None else counts)[networks:]
        predicted_ms = adapted.latency_ms(self.source_ms[networks:], features)
        return float(np.mean(np.abs(predicted_ms / self.true_ms[networks:] - 1)) * 100)


def test_a_mixture_of_known_devices_is_found_from_ten_networks() -> None:
    world = World(networks=300)
    assert world.error(world.adapt(10), 10) < 1


def test_what_no_source_has_is_mended_by_counts() -> None:
    world = World(networks=300, extra=1.5)
    nothing = np.empty((300, 0))
    with_counts, without = world.error(world.adapt(20), 20), world.error(world.adapt(20, nothing), 20, nothing)
    assert with_counts < 1
    assert without > 3 * with_counts


def test_few_noisy_networks_do_better_than_least_squares() -> None:
    ours, plain = [], []
    for seed in range(10):
        world = World(networks=300, seed=seed, noise=0.05)
        ours.append(world.error(world.adapt(12), 12))
        design = np.column_stack([world.source_ms, world.counts])
        scaled = design[:12] / world.measured_ms[:12, None]
        solution, *_ = np.linalg.lstsq(scaled, np.ones(12), rcond=None)
        plain.append(np.mean(np.abs(design[12:] @ solution / world.true_ms[12:] - 1)) * 100)
    assert np.mean(ours) < 0.7 * np.mean(plain)


def test_a_source_that_runs_the_other_way_gets_no_negative_weight() -> None:
    world = World(networks=200)
    opposite = world.source_ms.mean() ** 2 / world.true_ms  # slow where the new device is fast
    source_ms = np.column_stack([world.source_ms[:, 0], opposite])
    adapted = adapt(source_ms[:30], np.empty((30, 0)), world.measured_ms[:30])
    assert min(adapted.weights) >= 0
    assert adapted.weights[1] * opposite.mean() < 0.1 * world.true_ms.mean()


def test_rows_add_up_to_networks() -> None:
    world = World(networks=40, noise=0.02, extra=1.0)
    adapted = world.adapt(30)
    one, other = (adapted.latency_ms(world.source_ms[[i]], world.counts[[i]]) for i in (31, 32))
    both = adapted.latency_ms(world.source_ms[[31]] + world.source_ms[[32]], world.counts[[31]] + world.counts[[32]])
    assert both == pytest.approx(one + other - adapted.constant_ms)


def test_units_do_not_matter() -> None:
    world = World(networks=60, noise=0.02, extra=1.0)
    plain = world.adapt(30).latency_ms(world.source_ms[30:], world.counts[30:])
    unit_of_source = np.array([1e-3, 1.0, 7.0, 1.0, 1e3])
    unit_of_count = np.array([1.0, 1e4, 1.0, 1e-4, 1.0, 1.0])
    source_ms, counts = world.source_ms * unit_of_source, world.counts * unit_of_count
    other = adapt(source_ms[:30], counts[:30], world.measured_ms[:30] * 1e3).latency_ms(source_ms[30:], counts[30:])
    assert other == pytest.approx(plain * 1e3, rel=1e-6)


def test_a_count_that_no_measured_network_has_gets_nothing() -> None:
    world = World(networks=30)
    world.counts[:, 3] = 0
    assert world.adapt(30).coefficients_ms[3] == 0


def test_one_spoilt_measurement_moves_little() -> None:
    world = World(networks=300, noise=0.01)
    clean = world.error(world.adapt(20), 20)
    world.measured_ms[7] *= 2
    assert world.error(world.adapt(20), 20) < clean + 1


def test_errors_are_those_of_new_networks_and_not_of_the_fit() -> None:
    told, true = [], []
    for seed in range(10):
        world = World(networks=400, seed=seed, noise=0.05)
        junk = np.random.default_rng(seed).normal(size=(400, 40))  # more counts than networks: a fit could be perfect
        adapted = world.adapt(15, junk)
        assert adapted.errors is not None
        told.append(adapted.errors.mape)
        predicted_ms = adapted.latency_ms(world.source_ms[15:], junk[15:])
        true.append(np.mean(np.abs(predicted_ms / world.measured_ms[15:] - 1)) * 100)
    assert np.mean(told) == pytest.approx(np.mean(true), rel=0.25)


def test_intervals_cover_what_they_say() -> None:
    covered = []
    for seed in range(15):
        world = World(networks=400, seed=seed, noise=0.05, extra=0.5)
        adapted = world.adapt(20)
        low, high = adapted.interval(0.9)
        ratio = world.measured_ms[20:] / adapted.latency_ms(world.source_ms[20:], world.counts[20:])
        covered.append(np.mean((low <= ratio) & (ratio <= high)))
    assert 0.85 < np.mean(covered) < 0.95


def test_too_few_networks_for_an_interval_say_so() -> None:
    assert World(networks=5).adapt(5).interval(0.9) == (0.0, math.inf)


@pytest.mark.parametrize("sources", [1, 3, 30])
@pytest.mark.parametrize("counts", [0, OPS])
def test_five_networks_do(sources: int, counts: int) -> None:
    world = World(networks=100, noise=0.01)
    rng = np.random.default_rng(1)
    source_ms = world.true_ms[:, None] * rng.uniform(0.2, 5, sources) * np.exp(rng.normal(0, 0.01, (100, sources)))
    features = world.counts[:, :counts]
    adapted = adapt(source_ms[:5], features[:5], world.measured_ms[:5], noise_floor=0.7)
    assert (len(adapted.weights), len(adapted.coefficients_ms), len(adapted.residuals)) == (sources, counts, 5)
    assert adapted.errors is not None
    assert (adapted.errors.networks, adapted.errors.noise_floor) == (5, 0.7)
    predicted_ms = adapted.latency_ms(source_ms[5:], features[5:])
    assert np.mean(np.abs(predicted_ms / world.true_ms[5:] - 1)) < 0.03


def test_more_networks_than_folds_are_all_held_out_once() -> None:
    world = World(networks=40, noise=0.02)
    adapted = world.adapt(40)
    assert len(adapted.residuals) == 40
    assert adapted.errors is not None
    assert 0.5 < adapted.errors.mape < 4


@pytest.mark.parametrize(
    ("source_ms", "counts", "measured_ms", "said"),
    [
        (np.ones((3, 1)), np.ones((2, 1)), np.ones(3), "shapes"),
        (np.ones(3), np.ones((3, 1)), np.ones(3), "shapes"),
        (np.ones((1, 1)), np.ones((1, 1)), np.ones(1), "two networks"),
        (np.ones((3, 0)), np.ones((3, 1)), np.ones(3), "a source"),
        (np.zeros((3, 1)), np.ones((3, 1)), np.ones(3), "source latency"),
        (np.ones((3, 1)), np.ones((3, 1)), np.array([1.0, math.nan, 1.0]), "measured latency"),
        (np.ones((3, 1)), np.full((3, 1), math.inf), np.ones(3), "count"),
    ],
)
def test_what_cannot_be_fitted_is_refused(source_ms: Floats, counts: Floats, measured_ms: Floats, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        adapt(source_ms, counts, measured_ms)
