"""Runs of the version of November 2026, before every method had a room of its own: what it left behind is read,
exported and gone on with, and every command answers what it answered then. ``data/runs_2026_11/README.md`` says how
they were made.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from latency_tables.table import LatencyTable
from unas_hw.memory import CLEAR
from unas_hw.repair.job import searched
from unas_hw.verify.artifact import open_run

OLD = Path(__file__).parent / "data" / "runs_2026_11"
ANSWERS: dict[str, dict[str, Any]] = {each["name"]: each for each in json.loads((OLD / "answers.json").read_text())}
FOLDER = "FOLDER"
"""Stands in the old files for the folder that the old commands were given in."""
OTHER_DAY = {"seconds", "steps_per_s", "images_per_s", "environment_share", "acting_share", "learning_share"} | {
    *("peak_bytes", "step_bytes", "pruning_peak_bytes", "created", "versions", "files", "bytes", "hash", "table_hash"),
}
"""What another day, machine or library changes."""
LEARNT = {"valid_accuracy", "test_accuracy", "test_loss", "top1", "top5", "loss", "accuracy", "child_accuracy"} | {
    *("hypervolume", "interval_95", "test_interval", "worst_classes", "alpha_entropy", "supernet_return", "seen"),
    *("test_return", "multipliers", "binary_gap", "max_abs_error", "words"),
}
"""What rounding changes on other processors."""


def _needs(name: str, installed: bool, why: str) -> Any:
    return pytest.param(name, marks=pytest.mark.skipif(not installed, reason=why))


RADARS = _needs("radars", CLEAR.exists(), "only Linux tells the peak memory of a process")
RL_DARTS = _needs("rl_darts", find_spec("minatar") is not None, "minatar is not installed")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts the finished or the unfinished runs where a user has them, and goes there."""

    def put(which: str) -> Path:
        shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
        (tmp_path / which).rename(tmp_path / "runs")
        for path in tmp_path.rglob("*.json*"):
            path.write_text(path.read_text().replace(FOLDER, str(tmp_path)))
        for config in tmp_path.glob("runs/*/config.json"):
            told = json.loads(config.read_text())
            if str(tmp_path) in told["space"]:  # keys of its networks name the file, and the hash follows from them
                told["table_hash"] = LatencyTable.load(Path(told["table"])).hash
                config.write_text(json.dumps(told))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("UNAS_HW_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # of the workers of monas
        return tmp_path

    return put


def _given(command: str) -> Result:
    result = CliRunner().invoke(main, shlex.split(command))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def _printed(name: str, folder: Path) -> Any:
    return json.loads(json.dumps(ANSWERS[name]["printed"]).replace(FOLDER, str(folder)))


def _differing(old: Any, new: Any, where: str = "", learnt: bool = False) -> Iterator[str]:
    """What of the old answer is not in the new one; keys may have been added."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            if key not in new:
                yield f"{where}.{key} is gone"
            elif key not in OTHER_DAY:
                yield from _differing(value, new[key], f"{where}.{key}", learnt or key in LEARNT)
            elif (value is None) != (new[key] is None):
                yield f"{where}.{key}: {value!r} is {new[key]!r} now"
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _differing(left, right, f"{where}[{number}]", learnt)
    elif isinstance(old, float) and isinstance(new, float | int):
        if new != pytest.approx(old, rel=1e-6, abs=0.05 if learnt else 1e-12):
            yield f"{where}: {old!r} is {new!r} now"
    elif _timeless(old) != _timeless(new) and not learnt:
        yield f"{where}: {old!r} is {new!r} now"


def _timeless(value: Any) -> Any:
    """A sentence without the times that were measured for it, and without rounding errors such as 4e-07."""
    return re.sub(r"[\d.]+( us| ms|e-\d+)\b|\b0$", "#", value) if isinstance(value, str) else value


def _as_before(name: str, folder: Path) -> Result:
    """Gives the old command, and compares the answer."""
    result = _given(ANSWERS[name]["command"])
    assert result.exit_code == ANSWERS[name]["exit_code"], result.stderr
    if (old := _printed(name, folder)) is not None:
        assert not list(_differing(old, json.loads(result.stdout)))
    return result


RUNS = {
    "unas": "nas_bench_201-width-2-cells-1@1x1x8x8-digits-sim-phone-60pct-s0",
    "freenas": "nas_bench_201-width-2-cells-1@1x1x8x8-digits-sim-phone-60pct-freenas-s0",
}
"""Folders of runs that were given no name."""
JOURNALS = {"freenas": "rounds.jsonl", "monas": "children.jsonl", "rl_darts": None}
"""What a search has done; most write metrics, and that of the task was killed before it had any."""
SEARCHES = ["unas", "gdas", "freenas", "monas", RADARS, "prune", RL_DARTS]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_finished_search_is_found_by_its_command_and_by_its_configuration(
    name: str, place: Callable[[str], Path]
) -> None:
    folder = place("finished")
    before = sorted(folder.glob("runs/*"))
    command = ANSWERS[name]["command"]
    configured = command.partition(" --")[0] + f" --config {folder}/runs/{RUNS.get(name, name)}/config.yaml --json"
    for each in (command, configured) if name != "rl_darts" else (command,):  # whose own was refused then, too
        result = _given(each)
        assert "is finished" in result.stderr
        assert json.loads(result.stdout) == _printed(name, folder)
    assert sorted(folder.glob("runs/*")) == before


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=pytest.mark.slow) if each == "monas" else each for each in SEARCHES]
)
def test_a_killed_search_goes_on_and_finds_what_it_would_have_found(name: str, place: Callable[[str], Path]) -> None:
    folder = place("unfinished")
    before = sorted(folder.glob("runs/*"))
    journal = JOURNALS.get(name, "metrics.jsonl")
    path = folder / "runs" / RUNS.get(name, name) / (journal or "config.json")
    first, _, rest = path.read_text().partition("\n")
    if journal:
        first = json.dumps({**json.loads(first), "mark": 1})  # is gone if the line is written anew
        path.write_text(f"{first}\n{rest}")
    _as_before(name, folder)
    assert path.read_text().startswith(first)
    assert sorted(folder.glob("runs/*")) == before


def test_what_a_run_learnt_with_weights_for_each_candidate_is_read_again(place: Callable[[str], Path]) -> None:
    unas = searched(open_run(str(place("finished") / "runs" / RUNS["unas"])), budget_ms=1.0)
    assert not unas.entangled and unas.config.multiplier == "ascent"
    assert bool((unas.distribution.alpha != 0).any())


SLOW = [name for name in ANSWERS if name.startswith("export") or name in ("train pruned", "spaces check")]
QUICK = [name for name in list(ANSWERS)[len(SEARCHES) :] if name not in SLOW]


@pytest.mark.parametrize("name", QUICK)
def test_other_commands_answer_what_they_answered(name: str, place: Callable[[str], Path]) -> None:
    _as_before(name, place("finished"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_commands_that_take_longer_answer_what_they_answered(name: str, place: Callable[[str], Path]) -> None:
    if name == "export policy":
        pytest.importorskip("minatar")
    _as_before(name, place("finished"))
