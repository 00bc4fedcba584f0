"""The verdict of a front: what its networks dominate, against random networks that were trained alike."""

from __future__ import annotations

import numpy as np
import pytest

from profilers.timing import Floats
from unas_hw.finals.fronts import verdict_of_fronts


def _networks(rng: np.random.Generator, count: int, better: float = 0.0) -> Floats:
    """Accuracy grows with the cost, 0 to 1, and is better by so much."""
    cost = rng.random(count)
    return np.stack([0.1 + 0.5 * cost**0.5 + better + 0.05 * rng.standard_normal(count), -cost], 1)


def _verdict(found: Floats, control: Floats) -> dict[str, object]:
    return verdict_of_fronts(found, control, (0.1, -1.0), 0.9)


def test_an_interval_holds_no_advantage_where_there_is_none_and_finds_one_that_is_there() -> None:
    held = better = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        alike = _verdict(_networks(rng, 64), _networks(rng, 16))
        low, high = alike["interval"]["random"]  # type: ignore[index]
        held += low <= 0 <= high
        far = _verdict(_networks(rng, 64, 0.2), _networks(rng, 16))
        better += far["interval"]["random"][0] > 0  # type: ignore[index]
    assert 34 <= held <= 39
    assert better >= 38


def test_what_it_says() -> None:
    rng = np.random.default_rng(0)
    control = _networks(rng, 16)
    far = _verdict(_networks(rng, 64, 0.2), control)
    assert str(far["words"]).startswith("fronts of 8 of its networks have ")
    assert "more than those of 8 random networks" in str(far["words"]) and "cannot" not in str(far["words"])
    assert far["random"] == 16 and far["told"] == {"random": True, "largest": None}
    assert "less than" in str(_verdict(_networks(rng, 64, -0.2), control)["words"])
    assert "cannot be told, it takes about" in str(_verdict(_networks(rng, 64), control)["words"])


@pytest.mark.parametrize(("found", "control"), [(8, 0), (8, 3), (2, 16)])
def test_too_few_tell_nothing(found: int, control: int) -> None:
    rng = np.random.default_rng(0)
    told = _verdict(_networks(rng, found), _networks(rng, control))
    assert told["interval"] == {"random": None, "largest": None} and "cannot be told" in str(told["words"])
