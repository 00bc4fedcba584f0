"""Fronts and hypervolumes are those that counting by hand, or point by point, gives."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unas_hw.methods.monas.rewards import Child
from unas_hw.search.front import COLUMNS, csv_of, front, hypervolume, svg_of
from unas_hw.spaces.chain import ChainSpace

GRID = st.lists(st.tuples(*[st.integers(0, 5)] * 2), min_size=1, max_size=12)


@given(st.integers(1, 3).flatmap(lambda m: st.lists(st.tuples(*[st.integers(0, 3)] * m), min_size=1, max_size=10)))
def test_the_front_is_all_that_nothing_dominates_and_one_of_equals(points: list[tuple[int, ...]]) -> None:
    found = front(np.array(points, float))
    kept = {points[number] for number in found}
    dominated = {
        one
        for one in points
        for other in points
        if other != one and all(b >= a for a, b in zip(one, other, strict=True))
    }
    assert kept == set(points) - dominated
    assert found == sorted(points.index(point) for point in kept)


@given(GRID)
def test_the_hypervolume_is_the_number_of_unit_squares_below_the_points(points: list[tuple[int, int]]) -> None:
    squares = {(x, y) for right, top in points for x in range(1, right) for y in range(1, top)}
    assert hypervolume(np.array(points, float), (1.0, 1.0)) == pytest.approx(len(squares))


def test_the_hypervolume_of_nothing_is_nothing() -> None:
    assert hypervolume(np.zeros((0, 2)), (0.0, 0.0)) == 0


def test_the_table_names_the_networks_and_leaves_empty_what_nobody_measured(space: ChainSpace) -> None:
    path = (0,) * len(space.decisions)
    child = Child(path=path, accuracy=0.5, latency_ms=2.0, power_w=0.25, macs=10.0, params=3.0)
    (row,) = csv.DictReader(io.StringIO(csv_of({str(space.architecture(child.path)): vars(child)})))
    assert tuple(row) == ("architecture", *COLUMNS)
    assert space.indices(space.parse(row["architecture"])) == path
    assert (row["accuracy"], row["latency_ms"], row["power_w"]) == ("0.5", "2.0", "0.25")
    assert row["energy_mj"] == row["peak_power_w"] == ""


def test_the_drawing_has_every_network_inside_it_and_says_units() -> None:
    every = [(1.0, 0.2), (2.0, 0.9), (3.0, 0.5)]
    root = ElementTree.fromstring(svg_of(every, every[:2], "energy < all, mJ"))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    dots = [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in root if each.tag.endswith("circle")]
    assert len(dots) == 5 and all(0 < x < width and 0 < y < height for x, y in dots)
    assert dots[0][0] < dots[1][0] < dots[2][0] and dots[1][1] < dots[2][1] < dots[0][1]
    texts = [each.text for each in root if each.tag.endswith("text")]
    assert "energy < all, mJ" in texts and "90.0%" in texts


def test_a_single_network_can_be_drawn() -> None:
    assert ElementTree.fromstring(svg_of([(1.0, 0.5)], [(1.0, 0.5)], "ms")) is not None
