"""Help helps: every command shows what to type, and the longest fits a screen."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.main import COMMANDS, main
from tests.cli.conftest import Run

SCREEN = 54
"""Lines of a terminal that fills a laptop's screen."""
ROOT = Path(__file__).parents[2]


def commands(command: click.Command, *words: str) -> Iterator[tuple[str, ...]]:
    yield words
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, *words, name)


ALL = [words for words in commands(main) if words]


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_has_an_example_that_its_own_options_allow(unas_hw: Run, words: tuple[str, ...]) -> None:
    text = unas_hw(*words, "--help").output
    examples = re.search(r"\nExamples?:\n((?:  unas-hw .*\n)+)", text)
    assert examples is not None
    for line in examples[1].strip().splitlines():
        told = line.partition("   ")[0].split()  # an explanation may follow
        assert told[0] == "unas-hw" and told[1] == words[0]
        for option in (word for word in told if word.startswith("--")):
            name = told[1] if told[2:3] == [] or told[2].startswith("-") else " ".join(told[1:3])
            shown = unas_hw(*(name.split() if tuple(name.split()) in ALL else told[1:2]), "--help").output
            assert re.search(rf"{option}\b", shown), (line, option)


def test_the_help_of_a_search_fits_a_screen_with_common_options_first(unas_hw: Run) -> None:
    text = unas_hw("search", "--help").output
    assert len(text.splitlines()) <= SCREEN
    places = [
        text.index(each) for each in ("--latency-budget", "--preset NAME", "Budgets and data ", "--method monas ")
    ]
    assert places == sorted(places)
    assert text.index("--children") > text.index("--method monas ")


def test_everything_is_explained_on_request(unas_hw: Run) -> None:
    text = re.sub(r"\s+", " ", unas_hw("search", "--help-all").output)
    assert re.search(r"--children N Networks that are trained, or priced\. \[default: 64\]", text)
    assert re.search(r"--confidence N With which the network is within the budget", text)


@pytest.mark.parametrize("command", ["search", "profile", "prune", "train", "score", "predict", "evaluate"])
def test_the_help_of_a_data_set_names_what_it_takes(unas_hw: Run, command: str) -> None:
    assert "hf://OWNER/NAME" in re.sub(r"\s+", " ", unas_hw(command, "--help").output)


def test_help_imports_no_pytorch() -> None:
    code = "import sys; from cli.main import main\ntry: main(sys.argv[1:])\nexcept SystemExit: print(*sys.modules)"
    for words in ([], ["search"]):
        found = subprocess.run(
            [sys.executable, "-c", code, *words, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert "Usage:" in found.stdout and "torch" not in found.stdout.splitlines()[-1].split()


def test_all_commands_are_there() -> None:
    assert {words[0] for words in ALL} == set(COMMANDS)
