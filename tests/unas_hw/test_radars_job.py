"""A search by RADARS keeps its memory bound by giving up candidates, and its run is a run like any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from profilers.timing import TimingRule
from tests.unas_hw.conftest import TINY_SPACE
from unas_hw.errors import MemoryBudgetError, MethodError
from unas_hw.finals import entrants as finals_entrants
from unas_hw.finals import plan as finals_plan
from unas_hw.jobs import search as jobs_search
from unas_hw.jobs.search import search
from unas_hw.memory import CLEAR, Mode, StepCost
from unas_hw.methods.radars import job as jobs_radars
from unas_hw.methods.radars.config import RadarsConfig
from unas_hw.methods.radars.job import STEPS
from unas_hw.methods.radars.pruners import DRAWS
from unas_hw.methods.radars.search import CHECKPOINT, JOURNAL
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.network import load_network
from unas_hw.optimizer_state import under
from unas_hw.progress import Step, finish
from unas_hw.repair.job import searched
from unas_hw.runs import Run
from unas_hw.search.run_folder import CHECKPOINT as UNAS_CHECKPOINT
from unas_hw.search.run_folder import SUBSPACE
from unas_hw.search.settings import SearchSettings
from unas_hw.space import SearchSpace
from unas_hw.spaces.subspace import Subspace, SubspaceSupernet
from unas_hw.supernet import Supernet
from unas_hw.verify.artifact import open_run

pytestmark = pytest.mark.skipif(not CLEAR.exists(), reason="only Linux tells the peak memory of a process")
TINY = UnasConfig(warmup_epochs=1, epochs=1, finetune_epochs=0, batch_size=24, measure_every=2)
PRUNING = RadarsConfig(
    warmup_episodes=1,
    episodes=6,
    prune_every=2,
    episode_children=2,
    steps=1,
    batch_size=16,
    valid_images=16,
    save_every=2,
)
WEIGHT, PROCESS = 1_740, 500_000_000
BOUND = "560MB"


@pytest.fixture(autouse=True)
def _remembered(monkeypatch: pytest.MonkeyPatch, remembered_spaces: Callable[..., SearchSpace]) -> None:
    monkeypatch.setattr(jobs_search, "find_space", remembered_spaces)


@pytest.fixture(scope="module")
def settings(npz: Path, tiny_table_path: Path) -> SearchSettings:
    return SearchSettings(
        finals="none",
        budget="60%",
        dataset=str(npz),
        space=TINY_SPACE,
        table=tiny_table_path,
        run="one",
        ending=TINY,
        config=PRUNING,
        memory_budget="8GB",
    )


def stand_in(
    step: Callable[[], object], supernet: Supernet, mode: Mode, *, limit_bytes: float, steps: int = 1
) -> StepCost:
    """A machine on which a step takes so many bytes for each weight, and whose process never grows."""
    step()
    taken = WEIGHT * sum(weight.numel() for weight in supernet.parameters()) * isinstance(supernet, SubspaceSupernet)
    return StepCost(mode, PROCESS + taken, None if PROCESS + taken > limit_bytes else 0.1)


@pytest.fixture
def _small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_radars, "measure", stand_in)


@pytest.fixture(scope="module")
def searched_once(
    settings: SearchSettings, rule: TimingRule, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """A folder in which a search kept the bound undisturbed, and what it said."""
    folder = tmp_path_factory.mktemp("pruned")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(jobs_radars, "measure", stand_in)
        return folder, [step.note for step in search(replace(settings, memory_budget=BOUND), rule)]


@pytest.fixture
def whole(searched_once: tuple[Path, list[str]]) -> list[str]:
    """The test is in a copy of that folder; what the search said."""
    shutil.copytree(searched_once[0] / "runs", "runs")
    return searched_once[1]


@pytest.mark.slow
def test_a_search_in_a_machine_that_has_enough_prunes_nothing(settings: SearchSettings, rule: TimingRule) -> None:
    result = finish(search(settings, rule))
    told = Run.find("one").read_json(SUBSPACE)
    assert result["kept_candidates"] == result["all_candidates"] == 15
    assert result["feasible"] and result["memory_budget_bytes"] == 8_000_000_000
    assert told["step_bytes"] <= result["peak_bytes"] <= 8_000_000_000
    assert told["predicted_bytes"] == pytest.approx(told["step_bytes"], rel=0.1)
    assert not Run.find("one").lines(JOURNAL)


@pytest.mark.usefixtures("_small_machine")
def test_finals_have_a_control_group_of_the_whole_space(
    settings: SearchSettings, rule: TimingRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("TELLING", {True: 1, False: 1}), ("LEAST", 1)):
        monkeypatch.setattr(finals_plan, name, value)
    monkeypatch.setattr(finals_entrants, "BAND", 0.6)
    result = finish(search(replace(settings, finals="16", workers=1, memory_budget=BOUND), rule))
    run = Run.find("one")
    names, lines = run.read_json(SUBSPACE)["names"], run.lines("finals.jsonl")

    def inside(architecture: str) -> bool:
        choices = architecture.partition(":")[2].split(",")
        return all(choice in kept for choice, kept in zip(choices, names, strict=True))

    control = {line["architecture"] for line in lines if line["role"] == "control"}
    assert len(control) == 6 and not all(map(inside, control))
    assert any(inside(line["architecture"]) for line in lines if line["role"] == "nominee")
    assert result["control"]["random"] == 6 and result["kept_candidates"] < 15


def _keeps_the_bound(notes: list[str]) -> None:
    run = Run.find("one")
    subspace, result = run.read_json(SUBSPACE), run.read_json("result.json")
    steps = [line for line in run.lines(STEPS) if line.get("kept") == subspace["kept"]]
    assert steps[0]["peak_bytes"] == subspace["step_bytes"] <= 560_000_000 < subspace["predicted_whole_bytes"]
    assert 4 <= result["kept_candidates"] < 15 and result["feasible"]
    assert any("candidates are left" in note for note in notes)
    chosen = result["architecture"].partition(":")[2].split(",")
    assert all(name in names for name, names in zip(chosen, subspace["names"], strict=True))
    assert run.read_json("memory.json")["recompute"] is False
    assert len(run.lines(JOURNAL)) == PRUNING.episodes


def test_candidates_are_pruned_until_a_measured_step_keeps_the_bound(whole: list[str]) -> None:
    _keeps_the_bound(whole)
    # It is exported, trained and looked at like any other run.
    context = open_run("one")
    assert context.space.workload(context.architecture).parts
    with torch.no_grad():
        assert load_network(context.run, context.space)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.usefixtures("_small_machine")
@pytest.mark.slow
def test_the_other_reading_keeps_the_bound_too(settings: SearchSettings, rule: TimingRule) -> None:
    told = replace(settings, memory_budget=BOUND, config=replace(PRUNING, reading="subspaces"))
    _keeps_the_bound([step.note for step in search(told, rule)])


@pytest.mark.usefixtures("_small_machine", "whole")
@pytest.mark.slow
def test_a_killed_search_goes_on_to_the_same_end(settings: SearchSettings, rule: TimingRule) -> None:
    again = replace(settings, memory_budget=BOUND, run="two")
    for kill in (lambda step: step.stage == "prune" and step.done == 3, lambda step: step.stage == "warm-up"):
        _kill(again, rule, kill)
    stages = {step.stage for step in search(again, rule)}
    assert not stages & {"prune", "memory"}
    results = [Run.find(name).read_json("result.json") for name in ("one", "two")]
    assert results[0]["architecture"] == results[1]["architecture"]
    kept = [Run.find(name).read_json(SUBSPACE) for name in ("one", "two")]
    assert kept[0]["kept"] == kept[1]["kept"]
    assert Run.find("one").lines(JOURNAL) == Run.find("two").lines(JOURNAL)


def _kill(settings: SearchSettings, rule: TimingRule, wanted: Callable[[Step], bool]) -> None:
    job = search(settings, rule)
    for step in job:
        if wanted(step):
            job.close()
            return
    raise AssertionError("it ended before")


@pytest.mark.usefixtures("_small_machine")
@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.slow
def test_unas_begins_with_what_the_pruning_learnt_where_it_is_told_to(
    settings: SearchSettings, rule: TimingRule, warm: bool
) -> None:
    told = replace(settings, memory_budget=BOUND, config=replace(PRUNING, warm_start=warm))
    _kill(told, rule, lambda step: step.stage == "warm-up")
    run = Run.find("one")
    saved = run.load_tensors(UNAS_CHECKPOINT)
    assert (saved is not None) == warm
    if saved is not None:
        learnt = run.load_tensors(CHECKPOINT)
        assert learnt is not None and saved[1]["epoch"] == 0
        weights = under(learnt[0], "supernet")
        ours = under(saved[0], "supernet.base")
        assert ours and all(torch.equal(tensor, weights[name]) for name, tensor in ours.items())
        kept = run.read_json(SUBSPACE)["kept"]
        chances = saved[0]["distribution.alpha"].exp()
        for row, each in zip(chances * DRAWS, kept, strict=True):  # how many draws had each candidate, and one more
            counts = row[: len(each)]
            torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-3)
            assert counts.min() >= 0.999 and counts.sum() <= DRAWS + len(each) + 0.001
        assert any(
            len(each) > 1 and float(row[: len(each)].std()) > 0.05 for row, each in zip(chances, kept, strict=True)
        )


@pytest.mark.usefixtures("whole")
def test_a_repair_looks_for_neighbours_in_what_was_left() -> None:
    result = Run.find("one").read_json("result.json")
    unas = searched(open_run("one"), result["budget_ms"])
    assert isinstance(unas.space, Subspace) and unas.epoch == 2
    told = json.loads((Path("runs") / "one" / SUBSPACE).read_text())
    assert [list(each) for each in unas.space.kept] == told["kept"]
    path = unas.space.indices(unas.space.parse(result["architecture"]))
    assert unas.model.latency_ms(path) == pytest.approx(result["predicted_ms"])


def test_without_a_bound_it_says_what_to_add(settings: SearchSettings, rule: TimingRule) -> None:
    with pytest.raises(MethodError, match="there is none") as caught:
        finish(search(replace(settings, memory_budget=None), rule))
    assert "--memory-budget" in caught.value.mend


def test_a_bound_that_a_single_network_exceeds_is_refused_with_what_was_seen(
    settings: SearchSettings, rule: TimingRule
) -> None:
    with pytest.raises(MemoryBudgetError, match=r"one candidate of each decision takes .*: the bound is 9 MB"):
        finish(search(replace(settings, memory_budget="9MB"), rule))


@pytest.mark.usefixtures("_small_machine")
@pytest.mark.slow
def test_a_bound_that_nothing_keeps_is_refused_once_nothing_can_be_pruned(
    settings: SearchSettings, rule: TimingRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(*words: Any, **told: Any) -> StepCost:
        cost = stand_in(*words, **told)
        calls.append(cost)
        # Three subspaces and a child promise what no later one keeps.
        return cost if len(calls) < 5 else StepCost(cost.mode, 600_000_000, None)

    calls: list[StepCost] = []
    monkeypatch.setattr(jobs_radars, "measure", forgetful)
    with pytest.raises(MemoryBudgetError, match="no other can be pruned"):
        finish(search(replace(settings, memory_budget=BOUND), rule))
