"""Finals from the command line: what is said, and what is refused."""

from __future__ import annotations

import pytest

from tests.cli.conftest import QUICK, TINY, Run, read
from tests.cli.test_bad_input import refused


@pytest.mark.usefixtures("phone")
@pytest.mark.slow
def test_a_search_says_what_it_was_worth(unas_hw: Run, images: str) -> None:
    quick = [word for word in QUICK if word not in ("--finals", "none")]
    words = ("search", "--latency-budget", "60%", "--dataset", images, *TINY, *quick, "--finals", "8", "--workers", "1")
    said = unas_hw(*words, "--device", "sim:phone")
    assert said.exit_code == 0, said.output
    assert "random networks of this budget" in " ".join(said.stdout.split())
    assert "finals.jsonl" in said.stdout
    found = read(unas_hw(*words, "--device", "sim:phone", "--json"))
    assert found["control"]["words"] in " ".join(said.stdout.split())
    assert found["finals"]["trainings"] > 8


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--finals", "3"), "--finals is '3'"),
        (("--finals", "soon"), "16, 30m, none"),
        (("--finals", "16", "--task", "minatar:breakout"), "--finals does nothing with --method rl_darts"),
        (("--finals", "30m", "--method", "monas"), "--finals is no time there"),
        (("--workers", "0"), "0"),
    ],
)
def test_finals_that_cannot_be_are_refused_before_anything_is_done(
    unas_hw: Run, words: tuple[str, ...], what: str
) -> None:
    refused(unas_hw("search", "--latency-budget", "50%", *words), 2, what)
