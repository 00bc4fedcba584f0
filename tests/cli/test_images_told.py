"""What is wrong with images reaches people at the terminal and programs in JSON, and never as a traceback."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cli.conftest import Run, read
from tests.cli.test_train_and_evaluate import SHORT

ARCHITECTURE = "mbconv-small:k3e3,id,id,k3e3,id,id,k3e3,id,id"
NOTE = "labels begin at 1: no image has 0 of the labels 0 to 3, which are outputs too"


def _from_one(images: str) -> str:
    arrays = dict(np.load(images))
    np.savez("from_one.npz", images=arrays["images"], labels=arrays["labels"] + 1)
    return "from_one.npz"


def test_a_note_is_told_once_where_images_are_named_and_stands_in_the_result(unas_hw: Run, images: str) -> None:
    path = _from_one(images)
    trained = unas_hw("train", "--architecture", ARCHITECTURE, "--dataset", path, *SHORT, "--json")
    assert trained.stderr.count(NOTE) == 1
    assert read(trained)["data_notes"] == [NOTE]
    evaluated = unas_hw("evaluate", "--dataset", path, "--device", "cpu", "--json")
    assert evaluated.stderr.count(NOTE) == 1
    assert read(evaluated)["data_notes"] == [NOTE]
    again = unas_hw("evaluate", "--device", "cpu", "--json")
    assert (NOTE in again.stderr, read(again)["data_notes"]) == (False, [NOTE])


@pytest.mark.usefixtures("phone")
def test_a_search_tells_it_before_it_begins(unas_hw: Run, images: str) -> None:
    words = ("search", "--device", "sim:phone", "--latency-budget", "1ns", "--json", "--dataset")
    unmet = unas_hw(*words, _from_one(images))
    assert (unmet.exit_code, unmet.stderr.count(NOTE)) == (3, 1)
    assert read(unmet)["data_notes"] == [NOTE]
    assert read(unas_hw(*words, images))["data_notes"] == []


def test_images_that_scores_are_for_are_told(unas_hw: Run, images: str) -> None:
    assert unas_hw("score", ARCHITECTURE, "--dataset", _from_one(images), "--json").stderr.count(NOTE) == 1
