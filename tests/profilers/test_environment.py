"""The record says what the machine was, and warns of what disturbs timing."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import pytest

from profilers import environment
from profilers.agent import machine
from profilers.agent.machine import fingerprint
from profilers.environment import BRIEF_SPIN, changed, cpu_environment, spin_briefly, timing_warnings


def test_the_fingerprint_names_the_processor_and_holds_nothing_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint()
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 99.0, 99.0))
    assert fingerprint() == before
    assert before["kind"] == "cpu" and before["name"]


def test_the_environment_can_be_written_as_json_and_names_versions() -> None:
    found = cpu_environment(("numpy", "no-such-package"))
    assert json.loads(json.dumps(found)) == found
    assert found["versions"] == {"numpy": np.__version__, "no-such-package": None}


def test_a_machine_that_tells_nothing_is_still_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "lines", lambda _: [])
    monkeypatch.setattr(machine, "SYS", "/nowhere")
    monkeypatch.setattr(environment, "__file__", "/nowhere/environment.py")
    found = cpu_environment(())
    assert found["governor"] is None and found["clock_mhz"] == [] and found["revision"] is None
    assert fingerprint()["name"]


def test_a_quiet_machine_gives_no_warning() -> None:
    assert timing_warnings({"governor": "performance", "load": [0.2, 3.0, 3.0]}) == ()
    assert timing_warnings({"governor": None, "load": [1.0, 0.0, 0.0]}) == ()


def test_a_moving_clock_and_other_programs_are_told() -> None:
    governor, load = timing_warnings({"governor": "powersave", "load": [3.25, 0.0, 0.0]})
    assert "'powersave'" in governor
    assert "3.2" in load and "other programs" in load


def test_our_threads_spin_briefly_unless_the_user_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    name, value = BRIEF_SPIN
    monkeypatch.delenv(name, raising=False)
    spin_briefly()
    assert os.environ[name] == value
    monkeypatch.setenv(name, "7")
    spin_briefly()
    assert os.environ[name] == "7"


THEN = {"governor": "performance", "clock_mhz": [2600.0, 2600.0], "load": [0.2, 0.2, 0.2]}


@pytest.mark.parametrize(
    ("now", "what"),
    [
        ({}, ""),
        ({"clock_mhz": [2550.0, 2600.0], "load": [0.8, 0.2, 0.2]}, ""),
        ({"clock_mhz": [2100.0, 2100.0]}, "clock 2600 -> 2100 MHz"),
        ({"load": [2.2, 0.2, 0.2]}, "load per core 0.1 -> 1.1"),
        ({"governor": "powersave"}, "governor performance -> powersave"),
    ],
)
def test_a_machine_that_is_not_what_it_was_is_said_to_be(now: dict[str, Any], what: str) -> None:
    assert changed(THEN, THEN | now) == what


def test_what_is_not_known_of_a_machine_did_not_change() -> None:
    assert changed({}, THEN | {"governor": None}) == ""
    assert changed({"model": 1}, {"model": 2}) == ""
