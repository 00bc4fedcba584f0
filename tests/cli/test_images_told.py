"""What is wrong with images reaches people at the terminal and programs in JSON, and never as a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Run, read
from tests.cli.test_bad_input import refused
from tests.cli.test_train_and_evaluate import SHORT

ARCHITECTURE = "mbconv-small:k3e3,id,id,k3e3,id,id,k3e3,id,id"
NOTE = "labels begin at 1: no image has 0 of the labels 0 to 3, which are outputs too"


def _classes(root: Path, count: int = 6) -> Any:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for number in range(3 * count):
        path = root / ("ball", "cube", "disc")[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(np.full((8, 8, 3), number * 9, np.uint8)).save(path)
    return image


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


def test_folders_of_images_are_refused_in_one_line(unas_hw: Run, folder: Path) -> None:
    words = ("search", "--device", "sim:phone", "--latency-budget", "50%", "--dataset")
    for part in ("lernen", "pruefen"):
        image = _classes(folder / "alike" / part)
    refused(unas_hw(*words, "alike"), 1, "lernen/{ball, cube, disc}, pruefen/{ball, cube, disc}", "mv '")
    _classes(folder / "photos")
    for file in (folder / "photos" / "disc").iterdir():
        file.rename(file.with_suffix(".heic"))
    refused(unas_hw(*words, "photos"), 1, "6 files of disc/ were not read: .heic", "magick mogrify")
    _classes(folder / "maps")
    image.new("1", (20_000, 20_000)).save(folder / "maps" / "ball" / "0.png")
    refused(unas_hw(*words, "maps"), 1, "ball/0.png has 20,000 x 20,000 pixels", "-resize")
