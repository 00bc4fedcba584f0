"""Between measured widths the latency is bilinear and differentiable, and whole networks tell how far that can be
trusted.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latency_tables.interpolation import Part, Surface, calibrate_parts, grid
from latency_tables.rows import NETWORK
from latency_tables.table import LatencyTable
from profilers.opspec import OpSpec
from tests.latency_tables.conftest import BLOCKS

MS = np.array([[1.0, 2.0, 4.0], [3.0, 5.0, 9.0]])


def surface() -> Surface:
    return Surface((8, 16), (8, 16, 32), MS)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("most", "multiple", "widths"),
    [
        (64, 8, (8, 16, 32, 48, 64)),
        (32, 8, (8, 16, 24, 32)),
        (16, 4, (4, 8, 12, 16)),
        (10, 1, (1, 2, 5, 8, 10)),
        (3, 1, (1, 2, 3)),
        (1, 1, (1,)),
        (30, 8, (8, 16, 24, 30)),
    ],
)
def test_rows_are_measured_at_shares_of_the_width_that_are_multiples(
    most: int, multiple: int, widths: tuple[int, ...]
) -> None:
    assert grid(most, multiple) == widths


def test_a_measured_width_has_its_row() -> None:
    found = [[float(surface()(i, o)) for o in (8, 16, 32)] for i in (8, 16)]
    np.testing.assert_allclose(found, MS)


def test_between_four_rows_the_latency_is_their_weighted_mean() -> None:
    assert float(surface()(12, 12)) == pytest.approx(np.mean([1, 2, 3, 5]))
    assert float(surface()(8, 20)) == pytest.approx(2.5)
    assert float(surface()(10, 24)) == pytest.approx(0.75 * 3 + 0.25 * 7)


def test_the_latency_is_differentiable_in_both_widths() -> None:
    n_in, n_out = number(10.5), number(20.25)
    assert torch.autograd.gradcheck(surface(), (n_in, n_out))
    surface()(n_in, n_out).backward()
    assert n_in.grad is not None and n_in.grad > 0
    assert n_out.grad is not None and n_out.grad > 0


def test_beyond_the_rows_it_goes_on_as_it_did_but_not_to_nothing() -> None:
    assert float(surface()(8, 40)) == pytest.approx(5)
    assert float(surface()(8, 4)) == pytest.approx(0.5)  # half of the fastest row, and also what the line gives
    assert float(surface()(2, 1)) == pytest.approx(0.5)


def test_an_axis_of_one_width_says_that_it_does_not_matter() -> None:
    line = Surface((3,), (8, 16), np.array([[1.0, 2.0]]))
    assert float(line(3, 12)) == float(line(77, 12)) == pytest.approx(1.5)
    assert float(Surface((3,), (10,), np.array([[7.0]]))(1, 2)) == pytest.approx(7)


def test_whole_networks_say_what_interpolated_rows_are_worth(table: LatencyTable) -> None:
    rows = {block.key: table.latency_ms(block.key) for block in BLOCKS}

    def parts(key: str, factor: float) -> list[Part]:
        keys = table.rows[key].parts
        return [Part(factor * rows[part], OpSpec.from_key(part).numel / 1e6, 0.0) for part in keys]

    keys = table.keys(NETWORK)
    exact = calibrate_parts(table, [(key, parts(key, 1.0)) for key in keys])
    doubled = calibrate_parts(table, [(key, parts(key, 2.0)) for key in keys])
    assert exact.errors is not None and exact.errors.networks == len(keys)
    assert exact.errors.mape < 3
    assert not exact.factors
    assert doubled.scale == pytest.approx(exact.scale / 2, rel=0.02)
