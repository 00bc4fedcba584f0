"""MONAS from a budget to files: children that are finished stay finished, whatever is killed; the front is drawn."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import unas_hw
from latency_tables.table import LatencyTable
from profilers.errors import MissingDependencyError
from profilers.registry import open_profiler
from profilers.timing import TimingRule
from unas_hw.errors import DataError, MethodError
from unas_hw.jobs import search as jobs_search
from unas_hw.jobs.profile import profile
from unas_hw.jobs.search import search
from unas_hw.methods.monas.config import MonasConfig
from unas_hw.progress import finish
from unas_hw.resources import Energy
from unas_hw.runs import Run
from unas_hw.search.settings import SearchSettings
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space

TINY = MonasConfig(children=6, batch=2, child_epochs=1, child_batch_size=16)


@pytest.fixture(autouse=True)
def _remembered(monkeypatch: pytest.MonkeyPatch, remembered_spaces: Callable[..., SearchSpace]) -> None:
    monkeypatch.setattr(jobs_search, "find_space", remembered_spaces)


@pytest.fixture(scope="module")
def small() -> SearchSpace:
    return find_space("mbconv-small")


@pytest.fixture(scope="module")
def energies(small: SearchSpace, rule: TimingRule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of the simulated phone that has the energies too."""
    path = tmp_path_factory.mktemp("tables") / "energies.jsonl"
    finish(profile(small, open_profiler("sim:phone"), path=path, rule=rule, networks=4, energy=True))
    return path


@pytest.fixture
def settings(npz: Path, energies: Path) -> SearchSettings:
    return SearchSettings(budget=None, dataset=str(npz), table=energies, run="one", config=TINY)


SCRIPT = """
import json, sys
from pathlib import Path
import torch
from profilers.timing import TimingRule
from unas_hw.jobs.search import search
from unas_hw.search.settings import SearchSettings
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.methods.monas.config import MonasConfig

torch.set_num_threads(1)
told = json.loads(sys.argv[1])
settings = SearchSettings(
    budget=None, dataset=told["dataset"], table=Path(told["table"]), run="one", workers=2,
    config=MonasConfig(**told["monas"]),
)
for step in search(settings, TimingRule(**told["rule"])):
    if step.stage == "children":
        print(step, flush=True)
"""


@pytest.mark.slow
def test_a_search_that_is_killed_loses_no_finished_child_and_finds_the_same(
    settings: SearchSettings, small: SearchSpace, rule: TimingRule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {
        "dataset": settings.dataset, "table": str(settings.table), "rule": vars(rule),
        "monas": asdict(TINY),
    }  # fmt: skip
    environment = {"PYTHONPATH": str(Path(unas_hw.__file__).parents[1]), "PATH": ""}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps(told)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "done=3" in line:
                process.kill()
                break
    assert process.returncode == -9
    finished = Run.find(None).lines("children.jsonl")
    assert len(finished) >= 3 and not Path("runs/one/result.json").exists()
    result = finish(search(settings, rule))
    lines = Run.find(None).lines("children.jsonl")
    assert lines[: len(finished)] == finished and len(lines) == 6, "nothing was trained twice"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    undisturbed = finish(search(settings, rule))
    for name in ("architecture", "child_accuracy", "hypervolume", "front", "valid_accuracy"):
        assert result[name] == undisturbed[name], name
    fronts = [(folder / "runs/one/pareto.csv").read_bytes() for folder in (tmp_path, Path())]
    assert fronts[0] == fronts[1]
    _children_are_trained_and_the_front_is_written(undisturbed, settings, small)
    assert finish(search(settings, rule)) == undisturbed


def _children_are_trained_and_the_front_is_written(
    result: dict[str, Any], settings: SearchSettings, small: SearchSpace
) -> None:
    run = Run.find(None)
    lines = run.lines("children.jsonl")
    assert len({line["architecture"] for line in lines}) == len(lines) == result["children"] == 6
    rows = list(csv.DictReader((run.path / "pareto.csv").read_text().splitlines()))
    assert len(rows) == result["front"] >= 1
    best = max(lines, key=lambda line: line["accuracy"])
    assert float(rows[-1]["accuracy"]) == best["accuracy"], "the costliest of the front is the most accurate"
    ElementTree.parse(run.path / "pareto.svg")
    table = LatencyTable.load(Path(str(settings.table)))
    for line in lines:
        path = tuple(line["path"])
        assert line["energy_mj"] == pytest.approx(Energy(small, table).value(path))
        powers = [
            table.energy_mj[part.key] / table.latency_ms(part.key)
            for part in small.parts(small.architecture(path))
        ]  # fmt: skip
        assert line["peak_power_w"] == pytest.approx(max(powers)) and line["power_w"] < max(powers)
    assert result["cost"] == "energy" and 0 < result["hypervolume"] < 1
    assert result["control"]["random"] == 4, "random networks are trained beside them"
    assert all(
        line["architecture"] not in {each["architecture"] for each in lines} for line in run.lines("control.jsonl")
    )
    assert result["feasible"] and result["architecture"] in {line["architecture"] for line in lines}
    assert result["valid_accuracy"] == result["child_accuracy"] == best["accuracy"], "it is the child once more"
    assert run.load_tensors("weights.safetensors") is not None


SPACE = """
name: tiny
input: [1, 8, 8]
layers:
  - choice:
      repeat: 3
      out: 8
      among:
        a: {mbconv: {kernel: 3, expand: 3}}
        b: {mbconv: {kernel: 5, expand: 3}}
        c: {mbconv: {kernel: 7, expand: 6}}
  - classifier
"""


def test_children_can_be_priced_from_a_table_and_keep_a_budget(settings: SearchSettings, rule: TimingRule) -> None:
    Path("tiny.yaml").write_text(SPACE)
    networks = ["".join(each) for each in product("abc", repeat=3)]
    worth = {name: 50 + 10 * name.count("c") + name.count("b") for name in networks}
    lines = [f'"tiny:{",".join(name)}",{worth[name] + off},0' for off in (-2, 2) for name in networks]
    Path("known.csv").write_text("\n".join(["architecture,valid,other", *lines]))
    config = replace(TINY, children=27, batch=4, accuracies="known.csv:valid", reward="constraint")
    asked = replace(settings, space="tiny.yaml", table=None, device="sim:phone", budget="60%", config=config)
    notes = [step.note for step in search(asked, rule) if step.note]
    assert any("27 of 27 networks have several of the 54 rows: their means count" in note for note in notes)
    run = Run.find(None)
    result = run.read_json("result.json")
    children = {line["architecture"]: line for line in run.lines("children.jsonl")}
    assert {each["accuracy"] for each in children.values()} == {value / 100 for value in worth.values()}
    assert len(children) == 27 and result["cost"] == "latency" and result["valid_accuracy"] is None
    within = [line for line in children.values() if line["latency_ms"] <= 0.95 * result["budget_ms"]]
    assert 0 < len(within) < 27
    assert result["child_accuracy"] == max(line["accuracy"] for line in within), "accuracies are shares again"
    best = max(line["accuracy"] for line in children.values() if line["latency_ms"] <= result["budget_ms"])
    assert best < max(line["accuracy"] for line in children.values())
    assert notes[-1].endswith(f"best {best:.2%}"), "the reward knows the budget, not the selection alone"
    assert result["measured_ms"] <= result["budget_ms"]
    for name, what in (("known.csv:tst", "no column of numbers 'tst'"), ("known.csv", "which are the accuracies")):
        with pytest.raises(DataError, match=what):
            finish(search(replace(asked, run="two", config=replace(config, accuracies=name)), rule))
    assert not Path("runs/two").exists(), "what is misspelt is refused before a run is begun"
    Path("known.csv").write_text("\n".join(["architecture,valid", *lines[:5]]).replace(",0", ""))
    with pytest.raises(DataError, match=r"known\.csv has no accuracy of tiny:"):
        finish(search(replace(asked, run="three", config=replace(config, accuracies="known.csv")), rule))


def test_without_ray_there_is_the_line_that_installs_it_before_a_run_is_begun(
    settings: SearchSettings, rule: TimingRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match="ray is not installed") as caught:
        finish(search(replace(settings, ray="local"), rule))
    assert caught.value.mend == "pip install 'unas-hw[ray]'"
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_constraint_needs_something_to_keep(settings: SearchSettings, rule: TimingRule) -> None:
    with pytest.raises(MethodError, match="nothing to keep"):
        finish(search(replace(settings, config=replace(TINY, reward="constraint")), rule))
    bounded: dict[str, Any] = finish(
        search(
            replace(settings, run="two", config=replace(TINY, children=2, reward="constraint", max_power_w=10.0)), rule
        )
    )
    assert bounded["feasible"]
