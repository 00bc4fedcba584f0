"""``unas-hw train`` and ``unas-hw evaluate``, as they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, read
from tests.cli.test_bad_input import refused

ARCHITECTURE = "mbconv-small:" + "k3e3," * 8 + "k3e3"
SHORT = ("--epochs", "1", "--device", "cpu")


def test_what_is_trained_without_a_search_is_evaluated_next(unas_hw: Run, images: str) -> None:
    words = ("train", "--architecture", ARCHITECTURE, "--dataset", images, "--recipe", "modern", "--lr", "1e-3", *SHORT)
    trained = read(unas_hw(*words, "--batch-size", "20", "--json"))
    assert {"run", "architecture", "test_accuracy", "epochs", "params", "macs", "seconds"} <= trained.keys()
    recipe = trained["recipe"]
    assert (recipe["epochs"], recipe["batch_size"], recipe["lr"], recipe["average"]) == (1, 20, 1e-3, 0.999)
    evaluated = read(unas_hw("evaluate", "--device", "cpu", "--json"))
    assert (evaluated["run"], evaluated["top1"]) == (trained["run"], trained["test_accuracy"])
    shown = unas_hw("evaluate", "--split", "valid", "--device", "cpu").stdout
    assert "valid images of" in shown and "worst classes" in shown
    assert "no budget" in unas_hw("export").stderr


def test_words_that_train_does_not_know_are_refused(unas_hw: Run, folder: Path) -> None:
    refused(unas_hw("train", "--recipe", "ciphar"), 2, "did you mean 'cifar'")
    refused(unas_hw("train", "--augmentation", "flop"), 2, "'flop'")
    refused(unas_hw("train", "--device", "tpu"), 1, "'tpu'", "--device cpu")
    refused(unas_hw("train", "--architecture", "mbconv-small:k3e3"), 2, "9 decisions")
    refused(unas_hw("train"), 1, "there is no run")
    refused(unas_hw("evaluate"), 1, "there is no run")
    assert unas_hw("train", "--run", "one", "--architecture", ARCHITECTURE).exit_code == 2
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("option", [("--lr", "0"), ("--drop-path", "1"), ("--batch-size", "1"), ("--average", "-1")])
def test_numbers_that_a_recipe_cannot_have_are_refused(unas_hw: Run, option: tuple[str, str]) -> None:
    assert unas_hw("train", *option).exit_code == 2
