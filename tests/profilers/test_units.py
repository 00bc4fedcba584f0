"""Times from users carry a unit; without one they are refused with the right spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profilers.errors import UnitError
from profilers.units import format_ms, parse_ms


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("80ms", 80.0),
        ("1.2s", 1200.0),
        ("500us", 0.5),
        ("500µs", 0.5),
        ("500μs", 0.5),  # the Greek letter
        ("80MS", 80.0),
        ("250ns", 0.00025),
        ("2m", 120_000.0),
        ("2min", 120_000.0),
        ("1h", 3_600_000.0),
        (" 80 ms ", 80.0),
        ("+80ms", 80.0),
        (".5ms", 0.5),
        ("5.ms", 5.0),
        ("1e3us", 1.0),
        ("1e-3s", 1.0),
    ],
)
def test_a_number_and_a_unit_are_milliseconds(text: str, expected_ms: float) -> None:
    assert parse_ms(text) == pytest.approx(expected_ms, rel=1e-12)


@given(st.floats(1e-6, 1e9))
def test_every_positive_number_of_milliseconds_is_read_as_it_is(ms: float) -> None:
    assert parse_ms(f"{ms!r}ms") == ms


def test_a_budget_without_a_unit_is_refused_with_the_right_spelling() -> None:
    with pytest.raises(UnitError) as caught:
        parse_ms("80")
    assert "'80' has no unit" in caught.value.what
    assert "80ms" in caught.value.mend


@pytest.mark.parametrize("text", ["80parsec", "80mss", "80sec"])
def test_an_unknown_unit_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(UnitError, match="unknown unit") as caught:
        parse_ms(text)
    assert {"ms", "us", "s"} <= set(caught.value.mend.replace(",", "").split())


@pytest.mark.parametrize("text", ["0ms", "-80ms", "-0.0s", "1e-400ms", "1e400ms", "-5", "0"])
def test_only_a_positive_finite_time_passes(text: str) -> None:
    with pytest.raises(UnitError, match="not a positive time"):
        parse_ms(text)


@pytest.mark.parametrize("text", ["nan", "nanms", "infms", "", "ms", "eighty ms", "80ms@p90", "8 0ms", "80,5ms"])
def test_what_is_not_a_number_with_a_unit_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UnitError, match="is not a time") as caught:
        parse_ms(text)
    assert parse_ms(caught.value.mend.partition("such as ")[2].partition(",")[0]) == 80


@given(st.text(max_size=12))
def test_any_text_is_a_positive_time_or_a_unit_error(text: str) -> None:
    try:
        ms = parse_ms(text)
    except UnitError:
        return
    assert 0 < ms < float("inf")


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (1200.0, "1.20 s"),
        (80.0, "80.0 ms"),
        (4.123, "4.12 ms"),
        (0.4123, "0.412 ms"),
        (0.01, "0.010 ms"),
        (0.004, "4.00 us"),
    ],
)
def test_a_time_is_written_in_the_unit_that_reads_best(ms: float, text: str) -> None:
    assert format_ms(ms) == text


@given(st.floats(1e-5, 1e6))
def test_what_is_written_is_read_again_within_its_digits(ms: float) -> None:
    assert parse_ms(format_ms(ms)) == pytest.approx(ms, rel=0.06)
