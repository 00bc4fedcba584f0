"""How much of a budget predictions leave: for their own error and for the drift of the device, at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from unas_hw.budget import Budget
from unas_hw.meter import NetworkMeter
from unas_hw.search.prepared import Prepared


def headroom(drift: float, error: float) -> float:
    prepared = SimpleNamespace(aim_ms=10 * (1 - error), budget=Budget(10.0, None, 50, 0.95))
    return Prepared.headroom(cast(Prepared, prepared), cast(NetworkMeter, SimpleNamespace(headroom=drift)))


@pytest.mark.parametrize(
    ("drift", "error", "expected"),
    [
        (0.05, 0.03, 0.05),  # a device that nobody knows
        (0.05, 0.08, 0.08),
        (0.01, 0.02, 0.0224),  # a steady one: half of the headroom may be used
        (0.03, 0.02, 0.0361),
        (0.0, 0.02, 0.02),  # a table that is the verdict
        (0.01, -0.5, 0.01),
    ],
)
def test_the_headroom_is_for_the_error_and_the_drift(drift: float, error: float, expected: float) -> None:
    assert headroom(drift, error) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("error", [0.01, 0.02, 0.03])
@pytest.mark.parametrize("drift", [0.01, 0.02, 0.03])
def test_what_is_predicted_within_it_is_within_the_budget_later(drift: float, error: float) -> None:
    rng = np.random.default_rng(0)
    errors, scales = rng.normal(0, error / 1.645, 20_000), 1 - rng.normal(0, drift / 1.96, 20_000)
    later = (1 - headroom(drift, error)) * (1 + errors) / scales
    assert (later <= 1).mean() >= 0.95
