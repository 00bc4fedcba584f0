"""The meter of `--power-command`, with real commands and files."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from profilers.errors import FileError, PowerError, UnitError
from profilers.power import CommandMeter, parse_reading


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "power-meter"]


@pytest.mark.timing
def test_five_watts_for_half_a_second_are_two_and_a_half_joules() -> None:
    with CommandMeter("echo a warning >&2; echo 5.0", interval_s=0.02) as meter:
        meter.start()
        time.sleep(0.5)
        energy = meter.stop()
    assert energy.energy_mj == pytest.approx(5000 * energy.seconds)
    assert 2400 < energy.energy_mj < 5000  # the upper bound is for a busy machine
    assert energy.readings > 2


def test_power_that_rises_is_integrated_by_trapezoids(tmp_path: Path) -> None:
    source = tmp_path / "power"
    source.write_text("1W")
    meter = CommandMeter(str(source), interval_s=60)  # so that only the first and the last reading are taken
    meter.start()
    source.write_text("3000mW\n")
    energy = meter.stop()
    assert energy.readings == 2
    assert energy.energy_mj == pytest.approx(2000 * energy.seconds)


@contextmanager
def _counting(path: Path) -> Iterator[list[int]]:
    """A counter in a file that a thread advances by 10 mJ every few milliseconds; yields how far it came."""
    came_to, halt = [500], threading.Event()

    def advance() -> None:
        while not halt.wait(0.003):
            came_to[0] += 10
            (path.parent / "next").write_text(f"{came_to[0] / 1000}J\n")
            os.replace(path.parent / "next", path)

    path.write_text("0.5J\n")
    thread = threading.Thread(target=advance)
    thread.start()
    try:
        yield came_to
    finally:
        halt.set()
        thread.join()


def test_a_counter_in_a_file_is_subtracted(tmp_path: Path) -> None:
    path = tmp_path / "counter"
    with _counting(path) as came_to, CommandMeter(str(path), interval_s=0.01) as meter:
        before_mj = came_to[0]
        meter.start()
        started_mj = came_to[0]
        time.sleep(0.1)
        stopping_mj = came_to[0]
        energy = meter.stop()
        after_mj = came_to[0]
    # The file is one step behind the thread's own number at most.
    assert stopping_mj - started_mj - 20 <= energy.energy_mj <= after_mj - before_mj + 20
    assert energy.energy_mj >= 50


def test_a_counter_that_goes_back_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "counter"
    path.write_text("12.5J")
    with CommandMeter(str(path), interval_s=60) as meter:
        meter.start()
        path.write_text("100mJ")
        with pytest.raises(PowerError, match="went back from 12500 mJ to 100 mJ"):
            meter.stop()


def test_watts_that_turn_into_joules_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "counter"
    path.write_text("12.5")
    with CommandMeter(str(path), interval_s=60) as meter:
        meter.start()
        path.write_text("12.5J")
        with pytest.raises(PowerError, match="watts first and then joules"):
            meter.stop()


@pytest.mark.parametrize(
    ("text", "value", "counts"),
    [
        ("3.2", 3.2, False),
        ("3.2W\n", 3.2, False),
        ("3200 mW", 3.2, False),
        ("-1e-3", -0.001, False),
        ("12.5J", 12500, True),
        ("12500mJ", 12500, True),
    ],
)
def test_units(text: str, value: float, counts: bool) -> None:
    read, is_counter = parse_reading(text, source="x")
    assert read == pytest.approx(value)
    assert is_counter is counts


@pytest.mark.parametrize("text", ["", "watts", "3.2 kW", "3.2MW", "1 2", "nan", "1e999", "1,5W"])
def test_what_is_no_reading_is_quoted(text: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse_reading(text, source="./meter")
    assert (repr(text) if text else "nothing") in caught.value.what
    assert "./meter" in caught.value.what


def test_a_long_output_is_cut() -> None:
    with pytest.raises(UnitError, match="…") as caught:
        CommandMeter("yes | head -5000")
    assert len(caught.value.what) < 1000


def test_a_failing_command_is_quoted_with_its_output() -> None:
    with pytest.raises(PowerError, match="exit code 3; it printed 'no sensor'"):
        CommandMeter("echo no sensor >&2; exit 3")


def test_a_slow_command_ends_with_all_that_it_started(tmp_path: Path) -> None:
    began_s = time.perf_counter()
    with pytest.raises(PowerError, match=r"longer than 0\.3 s; it printed 'warming up'"):
        CommandMeter(f"echo warming up; (sleep 2; touch {tmp_path}/left) & sleep 30; echo 5", timeout_s=0.3)
    assert time.perf_counter() - began_s < 10
    time.sleep(2.2)
    assert not (tmp_path / "left").exists()


def test_a_command_that_fails_in_the_window_is_told_at_its_end(tmp_path: Path) -> None:
    source = tmp_path / "power"
    source.write_text("5")
    with CommandMeter(f"cat {source}", interval_s=0.01) as meter:
        meter.start()
        source.unlink()
        time.sleep(0.1)
        with pytest.raises(PowerError, match="No such file"):
            meter.stop()


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "power"
    source.write_text("5")
    with CommandMeter(str(source), interval_s=60) as meter:
        meter.start()
        source.unlink()
        with pytest.raises(FileError, match="cannot be read"):
            meter.stop()
