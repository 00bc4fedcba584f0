"""The finals of a search: who is trained, what a kill costs, what the verdict says, which network ships."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import unas_hw
from profilers.timing import TimingRule
from tests.unas_hw.conftest import TINY_SPACE
from unas_hw.finals import entrants, plan
from unas_hw.finals.entrants import Entrants
from unas_hw.finals.trainings import JOURNAL, Trainings
from unas_hw.jobs.search import search
from unas_hw.methods.freenas.config import FreenasConfig
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.progress import finish
from unas_hw.runs import Run
from unas_hw.search.selection import Path as Choices
from unas_hw.search.settings import SearchSettings

SMALL = UnasConfig(warmup_epochs=1, epochs=1, compared=12, batch_size=48)
TIME = ("seconds", "training_s")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rung is an epoch of a few images; the band is so wide that a space of 192 networks has some in it."""
    _shorten(monkeypatch)


def _shorten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plan, "TELLING", {True: 1, False: 1})
    patch.setattr(plan, "LEAST", 1)
    patch.setattr(entrants, "BAND", 0.6)


@pytest.fixture(scope="module")
def settings(npz: Path, tiny_table_path: Path) -> SearchSettings:
    return SearchSettings(
        finals="8", budget="60%", space=TINY_SPACE, dataset=str(npz), table=tiny_table_path, run="one", config=SMALL,
        workers=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(settings: SearchSettings, rule: TimingRule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a search and its finals were not disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _shorten(patch)
        finish(search(settings, rule))
    return folder / "runs" / "one"


def _result(run: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((run / "result.json").read_text())
    told["finals"] = {name: value for name, value in told["finals"].items() if name not in TIME}
    return {name: value for name, value in told.items() if name not in (*TIME, "run")}


def _lines(run: Path) -> list[dict[str, Any]]:
    return [{**line, "seconds": 0} for line in Run.open(run).lines(JOURNAL)]


def test_few_networks_are_trained_equally_and_a_control_group_stays_to_the_end(whole: Path) -> None:
    lines, result = _lines(whole), _result(whole)
    first = [line for line in lines if line["rung"] == 0 and line["seed"] == 0]
    assert len(first) == 8 == len({line["architecture"] for line in first})
    roles = Counter(line["role"] for line in first)
    assert roles["control"] == 2 and roles["largest"] == 1 and roles["nominee"] >= 2
    for number in (0, 1, 2):
        of_rung = [line for line in lines if line["rung"] == number]
        assert len({(line["epochs"], line["images"]) for line in of_rung}) == 1, "all are trained equally"
        assert {line["role"] for line in of_rung if not line["seed"]} >= {"control", "largest"}
    assert sum(line["seed"] > 0 for line in lines) == 3 * plan.REPEATS, "what ships, with fresh seeds, in every rung"
    assert result["finals"]["trainings"] == len(lines)
    assert 0 <= result["valid_accuracy"] <= 1
    control = result["control"]
    assert (control["random"], control["largest"]) == (2, 1)
    assert set(control["advantage_points"]) == set(control["interval"]) == {"random", "largest"}
    assert "random networks of this budget" in control["words"]
    assert not (whole / "finals").exists(), "weights of those that lost are gone"


def test_the_advantage_is_that_of_fresh_seeds_over_the_mean_of_the_control_group(whole: Path) -> None:
    lines, result = _lines(whole), _result(whole)
    last = [line for line in lines if line["rung"] == 2]
    fresh = [line["accuracy"] for line in last if line["seed"]]
    control = [line["accuracy"] for line in last if line["role"] == "control" and not line["seed"]]
    expected = 100 * (sum(fresh) / len(fresh) - sum(control) / len(control))
    assert result["control"]["advantage_points"]["random"] == pytest.approx(expected)


@pytest.mark.slow
def test_two_workers_find_the_same(
    settings: SearchSettings, rule: TimingRule, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(unas_hw.__file__).parents[1]))
    finish(search(replace(settings, workers=2), rule))

    def sort(lines: list[dict[str, Any]]) -> list[str]:
        return sorted(json.dumps(line, sort_keys=True) for line in lines)

    assert sort(_lines(Path("runs/one"))) == sort(_lines(whole))
    assert _result(Path("runs/one")) == _result(whole)
    ours, theirs = (load_file(run / "weights.safetensors") for run in (Path("runs/one"), whole))
    assert all(ours[name].equal(theirs[name]) for name in theirs)


@pytest.mark.parametrize("lines", [3, 17])
def test_what_was_trained_before_a_stop_is_not_trained_again(
    settings: SearchSettings, rule: TimingRule, whole: Path, lines: int
) -> None:
    job = search(settings, rule)
    for step in job:
        if step.stage.startswith("finals") and len(Run.open(Path("runs/one")).lines(JOURNAL)) == lines:
            break
    job.close()
    before = Path("runs/one", JOURNAL).read_text() if lines else ""
    finish(search(settings, rule))
    assert Path("runs/one", JOURNAL).read_text().startswith(before)
    assert _lines(Path("runs/one")) == _lines(whole)
    assert _result(Path("runs/one")) == _result(whole)


KILLED = """
import json, sys
from pathlib import Path
import torch
from profilers.timing import TimingRule
from unas_hw.finals import entrants, plan
from unas_hw.jobs.search import search
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.search.settings import SearchSettings

torch.set_num_threads(1)
plan.TELLING, plan.LEAST, entrants.BAND = {True: 1, False: 1}, 1, 0.6
told = json.loads(sys.argv[1])
settings = SearchSettings(**told["settings"], table=Path(told["table"]), config=UnasConfig(**told["unas"]))
for step in search(settings, TimingRule(**told["rule"])):
    print(step.stage, flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_no_finished_training_is_done_again(
    settings: SearchSettings, rule: TimingRule, whole: Path
) -> None:
    names = ("finals", "budget", "space", "dataset", "run", "workers")
    told = {
        "settings": {name: getattr(settings, name) for name in names},
        "table": str(settings.table), "rule": vars(rule),
        "unas": {"warmup_epochs": 1, "epochs": 1, "compared": 12, "batch_size": 48},
    }  # fmt: skip
    words = [sys.executable, "-c", KILLED, json.dumps(told)]
    environment = os.environ | {"PYTHONPATH": str(Path(unas_hw.__file__).parents[1])}
    journal, kept, kills = Path("runs/one", JOURNAL), "", 0
    while True:
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            for line in process.stdout:
                trained = len(journal.read_text().splitlines()) if journal.exists() else 0
                if line.startswith("finals, r") and trained > len(kept.splitlines()) + 3 + kills:
                    process.kill()
                    break
        now = journal.read_text() if journal.exists() else ""
        assert now.startswith(kept), "what was finished stays as it was"
        kept = now
        if process.returncode == 0:
            break
        kills += 1
    assert kills >= 3
    assert _lines(Path("runs/one")) == _lines(whole)
    assert _result(Path("runs/one")) == _result(whole)


@pytest.fixture
def favoured(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Results by role, instead of those that were trained for."""
    worth: dict[str, float] = {}
    do = Trainings.do

    def told(self: Trainings, *args: Any) -> Any:
        lines = yield from do(self, *args)
        return [line | {"loss": -worth.get(line["role"], 0.0)} for line in lines]

    monkeypatch.setattr(Trainings, "do", told)

    def ranked(self: Entrants, results: dict[Choices, float], steps: int) -> list[Choices]:
        return sorted(results, key=lambda path: (-results[path], path))

    monkeypatch.setattr(Entrants, "ranked", ranked)
    return worth


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("control", "a random network of the control group won"),
        ("largest", "the largest network is the one that ships"),
    ],
)
def test_what_wins_ships_whoever_it_is_and_that_is_said(
    settings: SearchSettings, rule: TimingRule, favoured: dict[str, float], role: str, words: str
) -> None:
    favoured[role] = 1.0
    result = finish(search(settings, rule))
    roles = {line["architecture"]: line["role"] for line in _lines(Path("runs/one"))}
    assert roles[result["architecture"]] == role
    assert words in result["control"]["words"]
    assert result["control"]["winner"] == role


def test_freenas_ends_in_finals_that_begin_with_new_weights(settings: SearchSettings, rule: TimingRule) -> None:
    result = finish(search(replace(settings, config=FreenasConfig(), method="freenas"), rule))
    assert result["valid_accuracy"] is not None and result["control"]["random"] == 2
    assert result["feasible"] and result["score"] > 0


def test_an_old_run_that_goes_on_has_no_finals(settings: SearchSettings, rule: TimingRule) -> None:
    job = search(replace(settings, finals="none"), rule)
    for step in job:
        if step.epoch:
            break
    job.close()
    config = json.loads(Path("runs/one/config.json").read_text())
    del config["finals"]
    Path("runs/one/config.json").write_text(json.dumps(config))
    result = finish(search(replace(settings, finals=None), rule))
    assert "control" not in result and not Path("runs/one", JOURNAL).exists()
