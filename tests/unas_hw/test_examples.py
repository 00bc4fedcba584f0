"""The scripts and the notebook of ``examples`` do what they show, each in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture(autouse=True)
def _this_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested is this tree, not what may be installed; IPython's files go to the test's folder."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(Path.cwd()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("profile_and_predict", ["the slowest operations", "90% of such networks between", "parameters"]),
        ("search_and_export", ["warm-up, epoch 1", "measured tiny:", "on_front", "of the test images", ": passed"]),
        ("own_space", ["body.1: thin, wide, plain", "of 192 networks", "(3, 10)"]),
    ],
)
def test_a_script_runs_as_it_is_and_says_what_it_found(name: str, says: list[str]) -> None:
    words = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), "sim:phone"]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert [each for each in says if each not in done.stdout] == []
    assert done.stderr == ""


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom() -> None:
    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    nbformat.validate(notebook)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(Path.cwd())}}).execute()
    kinds = {kind for cell in notebook.cells for out in cell.get("outputs", ()) for kind in out.get("data", ())}
    assert {"text/html", "image/png"} <= kinds
    printed = [out["text"] for cell in notebook.cells for out in cell.get("outputs", ()) if "text" in out]
    assert any("upper bound of measured_ms within the budget" in text for text in printed)
