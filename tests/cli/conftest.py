"""A folder of one's own, a small data set, and ``unas-hw`` as a function."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cli.main import main
from latency_tables import calibration

Run = Callable[..., Result]


@pytest.fixture(scope="module", autouse=True)  # tests of calibration may run in the same process
def _no_knees() -> Iterator[None]:
    """A calibration tries all of them, which takes seconds for each table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "KNEES", ())
        yield


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work and tables in a fresh folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNAS_HW_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def unas_hw() -> Run:
    """``unas_hw("profile", "--device", "sim:phone")`` as the terminal would; a traceback fails the test."""

    def run(*words: str) -> Result:
        result = CliRunner().invoke(main, list(words))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def _rows(folder: Path) -> str:
    rng = np.random.default_rng(0)
    labels = np.arange(160) % 3
    pixels = rng.integers(0, 60, (160, 8, 8), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[2 * label + 1] += 150
    np.savez(folder / "rows.npz", images=pixels, labels=labels)
    return "rows.npz"


@pytest.fixture
def images(folder: Path) -> str:
    """A data set of 160 images, three classes: a bright row somewhere."""
    return _rows(folder)


@pytest.fixture(scope="session")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a user whose phone was profiled for ``images``."""
    folder = tmp_path_factory.mktemp("phone")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("UNAS_HW_HOME", str(folder / "home"))
        words = ["profile", "--device", "sim:phone", "--dataset", _rows(folder)]
        assert CliRunner().invoke(main, words).exit_code == 0
    return folder / "home"


@pytest.fixture
def phone(_home: Path, folder: Path) -> None:
    """``sim:phone`` was profiled."""
    shutil.copytree(_home, folder / "home")


QUICK = (
    *("--warmup-epochs", "1", "--epochs", "1", "--batch-size", "40", "--measure-every", "2", "--rounds", "12"),
    *("--finals", "none"),
)

TINY = ("--space", str(Path(__file__).parents[2] / "examples" / "tiny.yaml"))
"""Half the layers of what is searched by default."""


def read(result: Result) -> Any:
    """The JSON on standard output."""
    return json.loads(result.stdout)
