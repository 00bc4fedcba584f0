"""Settings come from a file, ``--set`` and the command line, in this order; a search leaves them in its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from cli.commands.search import _shared
from tests.cli.conftest import Run
from tests.cli.test_bad_input import refused

SETTINGS = """
latency-budget: 60%
device: sim:phone
finals: none
epochs: 1
unas:
  warmup_epochs: 1
  finetune_epochs: 1
  w_lr: 5e-3
  tau_end: null
  weights_from: choice
"""


@pytest.mark.usefixtures("phone")
def test_the_file_counts_less_than_set_and_that_less_than_the_command_line(unas_hw: Run, images: str) -> None:
    Path("my.yaml").write_text(SETTINGS)
    words = ("--dataset", images, "--run", "one", "--set", "unas.w_lr=0.004", "--set", "seed=5", "--seed", "6")
    found = unas_hw("search", "--config", "my.yaml", *words, "--set", "latency-budget=55%")
    assert found.exit_code in (0, 3), found.output
    config = json.loads(Path("runs/one/config.json").read_text())
    assert (config["budget"], config["warmup_epochs"], config["weights_from"]) == ("55%", 1, "choice")
    assert (config["w_lr"], config["seed"]) == (0.004, 6)


@pytest.mark.usefixtures("phone")
def test_a_form_that_is_not_the_published_one_is_told_of(unas_hw: Run, images: str) -> None:
    words = (
        "--dataset",
        images,
        "--device",
        "sim:phone",
        "--latency-budget",
        "60%",
        "--epochs",
        "0",
        "--finals",
        "none",
    )
    found = unas_hw("search", *words, "--warmup-epochs", "0", "--set", "unas.finetune_epochs=0", "--method", "fbnet")
    assert found.exit_code in (0, 3), found.output
    assert found.stderr.count("logarithms of microseconds, not of milliseconds as published") == 1


PRESET = """
preset: unas-imagenet-mbconv
latency-budget: 60%
device: sim:phone
space: mbconv-small
batch-size: 48
epochs: 1
unas: {warmup_epochs: 1, finetune_epochs: 0}
"""


@pytest.mark.usefixtures("phone")
def test_a_preset_is_named_by_a_file_and_its_run_is_found_again(unas_hw: Run, images: str) -> None:
    Path("my.yaml").write_text(PRESET)
    found = unas_hw("search", "--config", "my.yaml", "--dataset", images, "--run", "one", "--json")
    assert found.exit_code in (0, 3), found.output
    config = json.loads(Path("runs/one/config.json").read_text())
    assert (config["space"], config["batch_size"], config["epochs"]) == ("mbconv-small", 48, 1)
    assert (config["w_lr"], config["softening"], config["warmup_from"]) == (3e-4, 0.08, "relaxed")
    again = unas_hw("search", "--config", "runs/one/config.yaml", "--json")
    assert "is finished" in again.stderr and json.loads(again.stdout) == json.loads(found.stdout)


def test_a_preset_is_of_one_method(unas_hw: Run) -> None:
    words = ("search", "--latency-budget", "50%", "--preset", "unas-cifar")
    refused(unas_hw(*words, "--method", "darts"), 2, "--preset unas-cifar is of --method unas", "leave out --preset")


def test_processes_share_the_networks_of_a_preset() -> None:
    cases = ((4, None), (4, "unas-cifar"), (3, "unas-cifar"), (8, "unas-imagenet"))
    assert [_shared(*case) for case in cases] == [4, 128, 126, 8]


@pytest.mark.usefixtures("phone")
@pytest.mark.slow
def test_what_a_search_was_told_reproduces_it(unas_hw: Run, images: str) -> None:
    Path("my.yaml").write_text(SETTINGS)
    unas_hw("search", "--config", "my.yaml", "--dataset", images, "--run", "one")
    told = yaml.safe_load(Path("runs/one/config.yaml").read_text())
    assert told["latency-budget"] == "60%" and told["unas"]["w_lr"] == 0.005 and told["unas"]["estimator"] == "rebar"
    again = unas_hw("search", "--config", "runs/one/config.yaml", "--run", "two")
    assert again.exit_code in (0, 3), again.output
    one, two = (Path(f"runs/{name}/metrics.jsonl").read_text() for name in ("one", "two"))
    assert one == two != ""


def test_training_and_profiling_are_configured_too(unas_hw: Run, images: str) -> None:
    Path("profile.yaml").write_text(f"device: [sim:phone]\ndataset: {images}\nrounds: 6\n")
    found = unas_hw("profile", "--config", "profile.yaml", "--json")
    assert found.exit_code == 0 and "sim:phone" in found.stdout, found.output
    words = ("--architecture", "k3e3,k3e3,k3e3,k3e3,id,id,k3e3,id,id", "--space", "mbconv-small", "--dataset", images)
    trained = unas_hw("train", *words, "--set", "training.epochs=1", "--set", "training.smoothing=0", "--json")
    recipe = json.loads(trained.stdout)["recipe"]
    assert (recipe["epochs"], recipe["smoothing"]) == (1, 0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--set", "latency-budgt=3ms"), ("latency-budgt", "did you mean 'latency-budget'?")),
        (("--set", "unas.btch_size=3"), ("unas.btch_size", "did you mean 'unas.batch_size'?")),
        (("--set", "seed"), ("has no value", "--set seed=VALUE")),
        (("--config", "nothing.yaml"), ("nothing.yaml", "there is no such file")),
        (("--config", "list.yaml"), ("holds no settings",)),
        (("--config", "torn.yaml"), ("is not YAML",)),
        (("--set", "unas.w_lr=fast", "--latency-budget", "50%"), ("unas.w_lr", "not a number")),
        (("--set", "unas.batch_size=1.5", "--latency-budget", "50%"), ("unas.batch_size", "not of type int")),
        (("--set", "unas.gap=middle", "--latency-budget", "50%"), ("unas.gap", "means, elementwise")),
    ],
)
def test_settings_that_do_not_exist_or_cannot_be_are_refused(
    unas_hw: Run, words: tuple[str, ...], told: tuple[str, ...]
) -> None:
    Path("list.yaml").write_text("- 3\n")
    Path("torn.yaml").write_text("a: [1\n")
    result = unas_hw("search", *words)
    assert result.exit_code in (1, 2), result.output
    for word in told:
        assert word in result.stderr
    assert "Traceback" not in result.stderr


def test_a_setting_that_is_refused_has_the_form_of_all_errors(unas_hw: Run) -> None:
    refused(unas_hw("search", "--set", "unas.btch_size=3"), 2, "unas.btch_size", "did you mean")
