"""Calibration finds the terms that are there, takes no more, and its intervals cover what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from latency_tables.calibration import Calibration, Observed, errors, fit, spearman


def observed(scale: float, per_op: float, intercept: float, noise: float = 0.005, networks: int = 24) -> Observed:
    rng = np.random.default_rng(0)
    operations = rng.integers(4, 20, networks).astype(float)
    sums = operations * rng.uniform(0.1, 0.4, networks)
    true = scale * sums + per_op * operations + intercept

    def measured() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return true * np.exp(rng.normal(0, noise, networks))

    return Observed(sums_ms=sums, operations=operations, measured_ms=measured(), odd_ms=measured(), even_ms=measured())


@pytest.mark.parametrize(
    ("terms", "model"),
    [((0.8, 0.0, 0.0), "scale"), ((0.9, -0.03, 0.0), "scale+per_op"), ((0.9, 0.0, 0.4), "scale+intercept")],
)
def test_the_terms_that_are_there_are_found_and_no_others(terms: tuple[float, float, float], model: str) -> None:
    found = fit(observed(*terms))
    assert found.model == model
    assert (found.scale, found.per_op_ms, found.intercept_ms) == pytest.approx(terms, abs=0.03)
    assert found.errors is not None
    assert found.errors.mape < 1


def test_a_term_that_makes_the_worst_network_worse_is_refused() -> None:
    base = observed(0.8, -0.004, 0.0, noise=0.0)
    spoilt = base.measured_ms.copy()
    spoilt[3] *= 1.3  # the error of this one grows with every further term
    plain = fit(Observed(**{**base.__dict__, "measured_ms": spoilt}))
    assert plain.model == "scale"


def test_errors_are_percent() -> None:
    found = errors(np.array([1.03, 2.0, 2.7, 4.0]), np.array([1.0, 2.0, 3.0, 4.0]), 0.5)
    assert found.mape == pytest.approx((3 + 10) / 4)
    assert found.max_error == pytest.approx(10)
    assert found.within_5 == 75
    assert found.bias == pytest.approx((3 - 10) / 4)


def test_ranks_are_those_of_scipy_ties_included() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 8, 40).astype(float), rng.integers(0, 8, 40).astype(float)
    assert spearman(left, right) == pytest.approx(stats.spearmanr(left, right)[0])
    assert math.isnan(spearman([1, 2], [1, 2]))


def test_the_noise_floor_forgives_one_common_factor() -> None:
    quiet = observed(1, 0, 0, noise=0)
    assert quiet.noise_floor == pytest.approx(0, abs=1e-9)
    assert Observed(**{**quiet.__dict__, "odd_ms": 1.5 * quiet.even_ms}).noise_floor == pytest.approx(0, abs=1e-9)
    assert 0.5 < observed(1, 0, 0, noise=0.01).noise_floor < 2


def test_an_interval_covers_what_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        residuals = rng.normal(0, 0.02, 21)
        low, high = Calibration(residuals=tuple(residuals)).interval(0.9)
        covered += [low <= 1 + residual <= high for residual in rng.normal(0, 0.02, 20)]
    assert 0.88 < np.mean(covered) < 0.97


def test_without_networks_the_interval_is_unknown() -> None:
    assert Calibration().interval() == (0.0, math.inf)
    assert Calibration(residuals=(0.01,) * 8).interval(0.9) == (0.0, math.inf)
    assert Calibration(residuals=(0.01,) * 9).interval(0.9) == (0.99, 1.01)


def test_ranks_of_equal_numbers_say_nothing() -> None:
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))


def test_a_record_read_and_written_is_the_same_calibration() -> None:
    found = fit(observed(0.9, -0.03, 0.0))
    assert Calibration.from_record(found.to_record()) == found
