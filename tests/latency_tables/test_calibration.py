"""Calibration finds the terms that are there, takes no more, and its intervals cover what they say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from latency_tables.calibration import Calibration, Observed, errors, fit, noise_floor, spearman
from profilers.timing import Floats

ROWS_MS = np.array([0.02, 0.05, 0.1, 0.3, 0.6, 1.0])
INPUTS = np.array([0.3, 0.02, 0.2, 0.05, 0.1, 0.25])
WEIGHTS = np.array([0.01, 0.5, 0.05, 0.02, 1.0, 0.1])


def observed(
    scale: float = 1,
    per_op: float = 0,
    per_input: float = 0,
    per_weight: float = 0,
    intercept: float = 0,
    noise: float = 0.005,
    networks: int = 24,
    factors: Sequence[float] = (1,) * 6,
    seed: int = 0,
) -> Observed:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, (networks, len(ROWS_MS))).astype(float)
    counts[:, 2] += 1  # no network is empty
    prices = scale * np.array(factors) * ROWS_MS + per_op + per_input * INPUTS + per_weight * WEIGHTS
    true = counts @ prices + intercept

    def measured() -> Floats:
        return np.asarray(true * np.exp(rng.normal(0, noise, networks)), np.float64)

    return Observed(
        keys=tuple(f"conv[out={row}]@1x3x8x8:float32" for row in range(len(ROWS_MS))),
        rows_ms=ROWS_MS,
        inputs=INPUTS,
        weights=WEIGHTS,
        deviations=np.zeros(len(ROWS_MS)),
        counts=counts,
        measured_ms=measured(),
        odd_ms=measured(),
        even_ms=measured(),
    )


@pytest.mark.parametrize(
    ("terms", "model"),
    [
        ({"scale": 0.8}, "scale"),
        ({"scale": 0.9, "per_op": -0.03}, "scale+per_op"),
        ({"scale": 0.9, "per_input": 1.5}, "scale+per_input"),
        ({"scale": 0.9, "per_weight": 0.3}, "scale+per_weight"),
        ({"scale": 0.9, "intercept": 0.4}, "scale+intercept"),
        ({"scale": 1.1, "per_weight": 0.3, "intercept": 0.4}, "scale+per_weight+intercept"),
    ],
)
def test_the_terms_that_are_there_are_found_and_no_others(terms: dict[str, Any], model: str) -> None:
    found = fit(observed(**terms))
    assert sorted(found.model.split("+")) == sorted(model.split("+"))
    for name, value in terms.items():
        seen = getattr(found, name if name == "scale" else f"{name}_ms")
        assert seen == pytest.approx(value, abs=0.1 * abs(value) + 0.01)
    assert found.errors is not None
    assert found.errors.mape < 1


def test_whole_networks_correct_single_rows() -> None:
    factors = (1, 1, 1.15, 1, 0.85, 1.05)
    found = fit(observed(0.9, factors=factors, networks=40))
    assert found.model.endswith(", rows")
    unseen = observed(0.9, factors=factors, networks=40, seed=1, noise=0)
    without = replace(found, factors={})
    wrong = [np.abs(each.predict_ms(unseen) / unseen.measured_ms - 1).mean() for each in (found, without)]
    assert 2 * wrong[0] < wrong[1]
    assert wrong[0] < 0.015


def test_rows_stay_as_measured_where_networks_say_nothing_else() -> None:
    assert fit(observed(0.9)).factors == {}


def test_a_term_that_makes_the_worst_network_worse_is_refused() -> None:
    base = observed(0.8, per_op=-0.004, noise=0.0)
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
    quiet = observed(noise=0)
    assert quiet.noise_floor == pytest.approx(0, abs=1e-9)
    assert Observed(**{**quiet.__dict__, "odd_ms": 1.5 * quiet.even_ms}).noise_floor == pytest.approx(0, abs=1e-9)
    assert 0.5 < observed(noise=0.01).noise_floor < 2
    assert noise_floor(np.array([1.1]), np.array([1.0])) == pytest.approx(10), "one network shows none to forgive"


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
    found = fit(observed(0.9, per_op=-0.03))
    assert Calibration.from_record(found.to_record()) == found


def test_a_network_of_uncertain_rows_gets_a_wider_interval() -> None:
    rng = np.random.default_rng(0)
    calibration = Calibration(residuals=tuple(rng.normal(0, 0.02, 40)), row_deviations=(0.005,) * 40)
    narrow, wide = (calibration.interval(0.9, deviation)[1] - 1 for deviation in (0.005, 0.1))
    assert 0.02 < narrow < 0.05
    assert wide > 4 * narrow


def test_a_one_sided_bound_is_exceeded_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    exceeded = []
    for _ in range(300):
        upper = Calibration(residuals=tuple(rng.normal(0, 0.02, 30))).upper(0.9)
        exceeded += [1 + residual > upper for residual in rng.normal(0, 0.02, 20)]
    assert 0.07 < np.mean(exceeded) < 0.13
    assert Calibration(residuals=(0.01,) * 18).upper(0.95) == math.inf


def test_networks_beyond_a_knee_are_told_from_slow_rows() -> None:
    straight = observed(0.9, networks=40)
    bent = Calibration(knee_ms=float(np.median(straight.measured_ms)), slope=0.4)
    times = {name: bent.bend(getattr(straight, name)) for name in ("measured_ms", "odd_ms", "even_ms")}
    found = fit(replace(straight, **times))
    assert "knee" in found.model
    assert found.errors is not None and found.errors.mape < 1.5
    unseen = observed(0.9, networks=40, seed=1, noise=0)
    assert np.abs(found.predict_ms(unseen) / bent.bend(unseen.measured_ms) - 1).mean() < 0.015
    assert found.slope == pytest.approx(0.4, abs=0.1)
    assert fit(straight).slope == 0


@pytest.mark.parametrize("slope", [0.0, 0.4])
def test_bending_is_undone_by_unbending(slope: float) -> None:
    calibration = Calibration(knee_ms=2.0, slope=slope)
    x_ms = np.linspace(0.1, 9, 50)
    assert calibration.unbend(calibration.bend(x_ms)) == pytest.approx(x_ms)
    assert (np.diff(calibration.bend(x_ms)) > 0).all()
    assert calibration.bend(1.0) == 1.0
    assert calibration.bend(3.0) == pytest.approx(3.0 + slope)
    slower = calibration.rescaled(2.0)
    assert slower.bend(2 * x_ms) == pytest.approx(2 * calibration.bend(x_ms))
