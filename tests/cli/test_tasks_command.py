"""``unas-hw search --task``: from a game to a policy, and what does not go with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, read
from tests.cli.test_bad_input import refused

pytest.importorskip("minatar")
TASK = ("--task", "minatar:breakout")
SHORT = [f"{{}}.{name}" for name in ("environments=8", "horizon=16", "passes=1", "minibatch=64")]


def short(section: str) -> list[str]:
    return [word for each in SHORT for word in ("--set", each.format(section))]


@pytest.mark.slow
def test_a_policy_is_found_trained_and_judged(unas_hw: Run) -> None:
    told = (*TASK, "--device", "sim:phone", "--rounds", "4", "--steps", "0.2k", *short("rl_darts"))
    found = unas_hw("search", *told, "--latency-budget", "60%")
    assert found.exit_code == 0, found.output
    assert "not trained yet" in found.stdout and "entropy of alpha" in found.stdout
    assert "entropy of actions" in found.stderr and "s learning" in found.stderr
    assert [each.name for each in Path("runs").iterdir() if each.is_dir()] == [
        "impala@1x4x10x10-minatar-breakout-sim-phone-60pct-rl_darts-s0"
    ]
    trained = unas_hw("train", "--steps", "256", *short("ppo"))
    assert trained.exit_code == 0, trained.output
    assert "random actions" in trained.stdout and "steps/s" in trained.stdout
    judged = read(unas_hw("evaluate", "--json"))
    assert judged["test_episodes"] == 100 and judged["normalised_return"] is None
    again = read(unas_hw("search", *told, "--latency-budget", "60%", "--json"))
    assert again["steps"] == 256 and again["architecture"] == judged["architecture"]
    wrong = unas_hw("train", "--epochs", "3")
    assert wrong.exit_code == 2 and "--epochs is for networks for images" in wrong.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("search", "--task", "minatar:breakuot"), "did you mean minatar:breakout"),
        (("search", *TASK, "--method", "gdas"), "learns from images"),
        (("search", *TASK, "--epochs", "3"), "--epochs does nothing"),
        (("search", *TASK, "--steps", "many"), "many"),
        (("search", *TASK, "--set", "rl_darts.gamma=3"), "rl_darts.gamma"),
        (("search", "--method", "rl_darts"), "--task minatar:breakout"),
    ],
)
def test_what_does_not_go_together_is_one_line_with_a_mend(unas_hw: Run, words: tuple[str, ...], said: str) -> None:
    refused(unas_hw(*words), 2, said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("search", *TASK, "--dataset", "digits"), "both say what is learnt"),
        (("search", "--latency-budget", "50%", "--steps", "5k"), "which is for a search with --task"),
        (("train", "--steps", "5k", "--architecture", "id", "--dataset", "digits"), "--steps is for the policy"),
    ],
)
def test_options_of_something_else_are_misuse(unas_hw: Run, words: tuple[str, ...], said: str) -> None:
    result = unas_hw(*words)
    assert result.exit_code == 2 and said in result.stderr
