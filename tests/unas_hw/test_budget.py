"""A budget is read as people write it and refused with the right spelling; its multiplier grows exactly while the
promise is broken.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from unas_hw.budget import Budget, Multiplier
from unas_hw.errors import BudgetError


@pytest.mark.parametrize(
    ("text", "ms", "percentile"),
    [
        ("80ms", 80.0, 50),
        ("1.2s", 1200.0, 50),
        ("500us", 0.5, 50),
        (" 80 ms ", 80.0, 50),
        ("80ms@p90", 80.0, 90),
        ("1.2s @ p99", 1200.0, 99),
    ],
)
def test_a_time_with_a_unit_is_a_budget(text: str, ms: float, percentile: int) -> None:
    budget = Budget.parse(text)
    assert budget.in_ms == pytest.approx(ms)
    assert (budget.share, budget.percentile) == (None, percentile)


@pytest.mark.parametrize(
    ("text", "share", "percentile"), [("50%", 0.5, 50), ("12.5 %", 0.125, 50), ("100%@p90", 1, 90)]
)
def test_a_percentage_is_a_share_of_the_way_from_the_smallest_to_the_largest(
    text: str, share: float, percentile: int
) -> None:
    budget = Budget.parse(text)
    assert (budget.ms, budget.share, budget.percentile) == (None, share, percentile)
    resolved = budget.resolve(2.0, 10.0)
    assert resolved.in_ms == pytest.approx(2.0 + share * 8.0)
    assert resolved.percentile == percentile


def test_a_budget_in_milliseconds_does_not_depend_on_the_space() -> None:
    assert Budget.parse("3ms").resolve(2.0, 10.0).in_ms == 3.0


@pytest.mark.parametrize(
    ("text", "what", "mend"),
    [
        ("80", "'80' has no unit", "80ms"),
        ("80 parsecs", "unknown unit 'parsecs'", "ms"),
        ("-3ms", "not a positive time", "80ms"),
        ("0ms", "not a positive time", "80ms"),
        ("fast", "'fast' is not a time", "80ms"),
        ("nanms", "not a time", "80ms"),
        ("infms", "not a time", "80ms"),
        ("", "'' is not a budget", "--latency-budget 80ms"),
        ("@p90", "'@p90' is not a budget", "--latency-budget 80ms"),
        ("80ms@90", "'80ms@90' is not a budget", "80ms@p90"),
        ("80ms@p0", "no percentile 0", "@p90"),
        ("80ms@p100", "no percentile 100", "@p99"),
        ("0%", "not between 0% and 100%", "50%"),
        ("101%", "not between 0% and 100%", "50%"),
        ("-5%", "'-5%' is not a time", "80ms"),
    ],
)
def test_a_budget_that_cannot_be_read_is_refused_with_the_right_spelling(text: str, what: str, mend: str) -> None:
    with pytest.raises(BudgetError) as caught:
        Budget.parse(text)
    assert what in caught.value.what
    assert mend in caught.value.mend


@pytest.mark.parametrize(
    ("text", "words"),
    [("80ms", "80.0 ms"), ("80ms@p90", "80.0 ms at p90"), ("50%", "50%"), ("50%@p99", "50% at p99"), ("2s", "2.00 s")],
)
def test_a_budget_reads_back_as_words(text: str, words: str) -> None:
    assert str(Budget.parse(text)) == words


def test_the_multiplier_rises_while_the_budget_is_exceeded_and_the_more_the_worse() -> None:
    multiplier, values = Multiplier(0.2), [0.0]
    for latency_ms in (11.0, 12.0, 15.0):
        multiplier.step(latency_ms, 10.0)
        values.append(multiplier.value)
    rises = [after - before for before, after in pairwise(values)]
    assert rises == pytest.approx([0.02, 0.04, 0.1])


def test_the_multiplier_falls_while_the_budget_is_kept_but_never_below_zero() -> None:
    multiplier = Multiplier(0.2, value=0.05)
    multiplier.step(9.0, 10.0)
    assert multiplier.value == pytest.approx(0.03)
    multiplier.step(10.0, 10.0)
    assert multiplier.value == pytest.approx(0.03)
    for _ in range(3):
        multiplier.step(1.0, 10.0)
        assert multiplier.value == 0.0
    multiplier.step(20.0, 10.0)
    assert multiplier.value == pytest.approx(0.2)  # nothing was saved up while it rested at zero


def test_a_budget_says_how_sure_it_wants_to_be() -> None:
    assert Budget.parse("80ms").confidence == 0.95
    assert Budget.parse("50%@p90", confidence=0.8).resolve(1, 2).confidence == 0.8
    for wrong in (0.2, 1.0, float("nan")):
        with pytest.raises(BudgetError, match="confidence"):
            Budget.parse("80ms", confidence=wrong)
