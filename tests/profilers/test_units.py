"""Quantities from users carry a unit; without one they are refused with the right spelling."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profilers.errors import UnitError
from profilers.units import (
    format_bytes,
    format_count,
    format_energy_mj,
    format_ms,
    parse_bytes,
    parse_count,
    parse_energy_mj,
    parse_ms,
)

Parse = Callable[[str], float]
Format = Callable[[float], str]


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
        ("500 µsec", 0.5),
        ("500 Microseconds", 0.5),
        ("80 msec", 80.0),
        ("80 milliseconds", 80.0),
        ("30 sec", 30_000.0),
        ("30seconds", 30_000.0),
        ("2 minutes", 120_000.0),
        ("2hrs", 7_200_000.0),
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


@pytest.mark.parametrize("text", ["80parsec", "80mss", "80lightyears"])
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
        (2.4e-5, "24.00 ns"),
    ],
)
def test_a_time_is_written_in_the_unit_that_reads_best(ms: float, text: str) -> None:
    assert format_ms(ms) == text


@given(st.floats(1e-5, 1e6))
def test_what_is_written_is_read_again_within_its_digits(ms: float) -> None:
    assert parse_ms(format_ms(ms)) == pytest.approx(ms, rel=0.06)


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (parse_energy_mj, "40mJ", 40.0),
        (parse_energy_mj, "0.04J", 40.0),
        (parse_energy_mj, "40uJ", 0.04),
        (parse_energy_mj, "40 µJ", 0.04),
        (parse_energy_mj, "40μJ", 0.04),  # the Greek letter
        (parse_energy_mj, "3nJ", 3e-6),
        (parse_count, "4M", 4e6),
        (parse_count, "600M", 6e8),
        (parse_count, "1.2G", 1.2e9),
        (parse_count, "1.2B", 1.2e9),
        (parse_count, "430k", 430e3),
        (parse_count, "430000", 430e3),
        (parse_count, "4e6", 4e6),
        (parse_bytes, "64MB", 64e6),
        (parse_bytes, "1.5GiB", 1.5 * 2**30),
        (parse_bytes, "512kB", 512e3),
        (parse_bytes, "512KiB", 2**19),
        (parse_bytes, "64mib", 2**26),
        (parse_bytes, "100B", 100.0),
    ],
)
def test_energies_are_millijoules_numbers_are_counts_and_sizes_are_bytes(
    parse: Parse, text: str, expected: float
) -> None:
    assert parse(text) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("parse", "text", "what", "mend"),
    [
        (parse_energy_mj, "40", "'40' has no unit", "write 40mJ, 40uJ or 40J"),
        (parse_energy_mj, "40ms", "'40ms' has the unknown unit 'ms'", "use one of nJ, uJ, µJ, mJ, J, kJ"),
        (parse_energy_mj, "0mJ", "'0mJ' is not a positive energy", "write a positive number, such as 40mJ"),
        (parse_energy_mj, "much", "'much' is not an energy", "write a number and a unit, such as 40mJ, 0.04J or 40uJ"),
        (parse_count, "4MB", "'4MB' has the unknown unit 'mb'", "use one of k, M, G, B, T"),
        (parse_count, "-3", "'-3' is not a positive number", "write a positive number, such as 600M"),
        (parse_count, "many", "'many' is not a number", "write a number and a unit, such as 600M, 1.2G or 430k"),
        (parse_bytes, "64", "'64' has no unit", "write 64MB, 64MiB or 64kB"),
        (parse_energy_mj, "40MJ", "'40MJ' is in megajoules", "write 40mJ, if that is meant"),
        (parse_bytes, "64Mb", "'64Mb' is in megabits", "write 64MB, if that is meant"),
        (parse_bytes, "2 Gb", "'2 Gb' is in gigabits", "write 2GB, if that is meant"),
        (parse_count, "600MFLOPs", "'600MFLOPs' has the unknown unit 'mflops'", "use one of k, M, G, B, T"),
        (parse_bytes, "64M", "'64M' has the unknown unit 'm'", "use one of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB"),
        (parse_bytes, "1e400GB", "'1e400GB' is not a positive size", "write a positive number, such as 64MB"),
    ],
)
def test_other_quantities_are_refused_like_times(parse: Parse, text: str, what: str, mend: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse(text)
    assert (caught.value.what, caught.value.mend) == (what, mend)


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (format_energy_mj, 0.0004123, "412 nJ"),
        (format_energy_mj, 0.4123, "412 uJ"),
        (format_energy_mj, 40.0, "40 mJ"),
        (format_energy_mj, 1234.0, "1.23 J"),
        (format_count, 96, "96"),
        (format_count, 4_270_000, "4.27M"),
        (format_count, 999_900, "1M"),
        (format_count, 0, "0"),
        (format_bytes, 512_000, "512 kB"),
        (format_bytes, 64e6, "64 MB"),
    ],
)
def test_other_quantities_are_written_in_the_unit_that_reads_best(write: Format, value: float, text: str) -> None:
    assert write(value) == text


@pytest.mark.parametrize(
    ("parse", "write"),
    [(parse_energy_mj, format_energy_mj), (parse_count, format_count), (parse_bytes, format_bytes)],
)
@given(value=st.floats(1e-3, 1e13))
def test_what_else_is_written_is_read_again_within_its_digits(parse: Parse, write: Format, value: float) -> None:
    assert parse(write(value)) == pytest.approx(value, rel=0.006)
