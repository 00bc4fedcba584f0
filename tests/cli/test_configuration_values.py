"""A value of a file counts as it stands there, as on the command line; nothing is cut, read otherwise or lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unas_hw
from tests.cli.conftest import Run
from tests.cli.test_bad_input import refused
from unas_hw.configuration import read_assignments, read_settings
from unas_hw.errors import ArchitectureError, ConfigurationError, SpaceError
from unas_hw.methods.pruning.config import prune_settings_of
from unas_hw.methods.settings import settings_of
from unas_hw.search.settings import SearchSettings
from unas_hw.space import Architecture
from unas_hw.spaces import find_space
from unas_hw.spaces.reading import read_yaml

BUDGET = ("--latency-budget", "50%")
FILES = [
    ("epochs: 1\nseed: 3\nepochs: 2\n", "my.yaml, line 3: epochs is given twice"),
    ("unas: {tau: 1}\nseed: 3\nunas: {w_lr: 0.1}\n", "my.yaml, line 3: unas is given twice"),
    ("unas:\n  w_lr: 0.1\n  w_lr: 0.2\n", "my.yaml, line 3: w_lr is given twice"),
    ('{"epochs": 1, "epochs": 2}', "my.yaml, line 1: epochs is given twice"),
    ("latency-budget: 60%\nlatency_budget: 50%\n", "my.yaml says latency_budget twice"),
    ("unas.w_lr: 0.3\nunas: {w_lr: 0.4}\n", "my.yaml says unas.w_lr twice"),
    ("epochs: 3\nunas: {epochs: 5}\n", "my.yaml says 3 as epochs and 5 as unas.epochs"),
    ("epochs: 2.7\n", "my.yaml: epochs: '2.7' is not a valid integer"),
    ("seed: yes\n", "my.yaml: seed: 'yes' is not a valid integer"),
    ("batch-size: 32.5\n", "my.yaml: batch-size: '32.5' is not a valid integer"),
    ("threads: on\n", "my.yaml: threads: 'on' is not a valid integer"),
    ("seed: 1e1\n", "my.yaml: seed: '1e1' is not a valid integer"),
    ("bf16: maybe\n", "my.yaml: bf16: 'maybe' is not a valid boolean"),
    ("seed: [1, 2]\n", "my.yaml: seed is a list"),
    ("epochs: 010\n", "my.yaml, line 1: 010 is 8 to YAML"),
    ("seed: 1:30\n", "my.yaml, line 1: 1:30 is 90 to YAML"),
    ("unas: {w_lr: 1:30.5}\n", "my.yaml, line 1: 1:30.5 is 90.5 to YAML"),
    ("unas: {batch_size: 32.5}\n", "unas.batch_size is 32.5, not of type int"),
    ("unas: {batch_size: yes}\n", "unas.batch_size is True, not of type int"),
    ("unas: {w_lr: yes}\n", "unas.w_lr is True, not of type float"),
    ("unas: {w_lr: .nan}\n", "unas.w_lr is nan, not a number"),
    ("finals: no\n", "--finals is 'no'"),
    ("a: &x 1\nb: &x 2\n", "my.yaml, line 2 is not YAML"),
    ("? [a]\n: 1\n", "my.yaml, line 1: a key is no word"),
    ("seed: 1\n---\nseed: 2\n", "my.yaml, line 2 is not YAML"),
    ("a: &a [*a]\n", "no setting is called a"),
]
SETS = [
    (("seed=yes",), "--set: seed: 'yes' is not a valid integer"),
    (("epochs=2.7",), "--set: epochs: '2.7' is not a valid integer"),
    (("unas.batch_size=2.7",), "unas.batch_size is 2.7, not of type int"),
    (("seed=1", "seed=2"), "--set says seed twice"),
    (("unas.w_lr=0.1", "unas.w_lr=0.2"), "--set says unas.w_lr twice"),
    (("unas.w_lr=010",), "--set unas.w_lr=010, line 1: 010 is 8 to YAML"),
    (("epochs=3", "unas.epochs=5"), "--set says 3 as epochs and 5 as unas.epochs"),
    (("seed=",), "--set seed= has no value"),
]


@pytest.mark.parametrize(("text", "what"), FILES)
def test_a_file_that_says_something_twice_or_no_number_is_refused_in_one_line(
    unas_hw: Run, text: str, what: str
) -> None:
    Path("my.yaml").write_text(text)
    budget = () if "budget" in text else BUDGET
    refused(unas_hw("search", "--config", "my.yaml", *budget), 2, what)


@pytest.mark.parametrize(("texts", "what"), SETS)
def test_so_is_an_assignment(unas_hw: Run, texts: tuple[str, ...], what: str) -> None:
    refused(unas_hw("search", *BUDGET, *(word for text in texts for word in ("--set", text))), 2, what)


def test_training_and_pruning_have_the_same_rules(unas_hw: Run) -> None:
    refused(unas_hw("train", "--set", "training.epochs=2.7"), 2, "training.epochs is 2.7, not of type int")
    refused(unas_hw("train", "--set", "epochs=2.7"), 2, "--set: epochs: '2.7' is not a valid integer")
    refused(
        unas_hw("train", "--set", "epochs=2", "--set", "training.epochs=3"), 2, "says 2 as epochs and 3 as training"
    )
    refused(unas_hw("prune", "net.py", "--set", "batch-size=32.5"), 2, "batch-size: '32.5' is not a valid integer")


def test_values_are_those_of_the_command_line() -> None:
    text = "latency-budget: 60%\nseed: 1_000\ncompile: on\nrun: 2024-01-01\nimage-size: '8'\ntable: null\n"
    assert read_settings(text + "unas: {w_lr: 1e-3}", "my.yaml") == {
        **{"latency_budget": "60%", "seed": "1_000", "compile": "on", "run": "2024-01-01", "image_size": "8"},
        **{"table": None, "unas.w_lr": "1e-3"},
    }
    assert read_settings("device: [cpu, 'sim:phone']", "my.yaml") == {"device": ["cpu", "sim:phone"]}
    assert read_settings("unas: {<<: {tau: 1, w_lr: 2}, tau: 3}", "my.yaml") == {"unas.tau": 3, "unas.w_lr": 2}
    assert read_assignments(["seed=null", "unas.tau=0.5"]) == {"seed": None, "unas.tau": 0.5}


def test_one_device_in_a_file_is_one_device(unas_hw: Run, images: str) -> None:
    Path("profile.yaml").write_text(f"device: sim:phone\ndataset: {images}\nrounds: 6\n")
    found = unas_hw("profile", "--config", "profile.yaml", "--dry-run", "--json")
    assert found.exit_code == 0, found.output
    assert "sim" in json.loads(found.stdout)["table"]


def test_set_counts_more_than_the_file_under_either_of_its_names(unas_hw: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[SearchSettings] = []

    def stop(**told: Any) -> None:
        found.append(settings_of(**told))
        raise SystemExit(0)

    monkeypatch.setattr("unas_hw.methods.settings.settings_of", stop)
    for text, each in (("epochs: 3", "unas.epochs=5"), ("unas: {epochs: 3}", "epochs=5")):
        Path("my.yaml").write_text(text)
        unas_hw("search", *BUDGET, "--config", "my.yaml", "--set", each)
    assert [getattr(each.config, "epochs", None) for each in found] == [5, 5]


@pytest.mark.parametrize(
    ("told", "what"),
    [
        ({"epochs": 2.7}, "epochs is 2.7, not of type int"),
        ({"seed": True}, "seed is True, not of type int"),
        ({"seed": np.True_}, "not of type int"),
        ({"batch": 2.0}, "batch is 2.0, not of type int"),
        ({"unas": {"batch_size": 32.5}}, "unas.batch_size is 32.5, not of type int"),
        ({"unas": {"w_lr": np.True_}}, "not of type float"),
        ({"unas": {"w_lr": float("inf")}}, "unas.w_lr is inf, not a number"),
        ({"finals": True}, "finals is True"),
        ({"finals": 16.5}, "finals is 16.5"),
    ],
)
def test_python_has_the_same_rules(told: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigurationError, match=what):
        settings_of(budget="50%", **told)


def test_numbers_of_numpy_are_numbers() -> None:
    found = settings_of(
        budget="50%", seed=np.int64(3), epochs=np.int32(4), finals=np.int64(16), unas={"w_lr": np.float32(0.5)}
    )
    assert (found.seed, found.finals, found.told["unas"]["epochs"], found.told["unas"]["w_lr"]) == (3, "16", 4, 0.5)
    assert type(found.seed) is int and type(found.told["unas"]["epochs"]) is int


def test_other_calls_of_python_have_them_too() -> None:
    with pytest.raises(ConfigurationError, match=r"epochs is 2\.7"):
        prune_settings_of("net.py", macs_budget="50%", epochs=2.7)
    for name, value in {"epochs": 2.7, "lr": True, "steps": 2.7, "bf16": 1, "image_size": 2.5}.items():
        with pytest.raises(ConfigurationError, match=f"{name} is "):
            unas_hw.train("nothing", **{name: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"rounds is 4\.5, not a whole number"):
        unas_hw.search(budget="50%", rounds=4.5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="threads is True, not a whole number"):
        unas_hw.profile(threads=True)


def test_a_space_has_no_octal_numbers_either(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\nimage_size: 010\n")
    with pytest.raises(SpaceError, match=r"mine.yaml, line 2: 010 is 8 to YAML"):
        read_yaml(tmp_path / "mine.yaml")


def test_an_architecture_that_has_its_choices_twice_is_refused() -> None:
    space = find_space("mbconv-small")
    choices = json.dumps(list(space.architecture([0] * len(space.decisions)).choices))
    text = f'{{"space": "mbconv-small", "choices": {choices}, "choices": {choices}}}'
    with pytest.raises(ArchitectureError, match="'choices' is given twice"):
        space.parse(text)
    assert isinstance(space.parse(f'{{"space": "mbconv-small", "choices": {choices}}}'), Architecture)
