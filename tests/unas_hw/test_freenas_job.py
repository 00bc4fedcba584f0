"""FreeNAS end to end: rounds that never leave the budget, other budgets, a run folder as any search's, and resuming."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from latency_tables.table import LatencyTable
from profilers.timing import TimingRule
from unas_hw.jobs.search import search
from unas_hw.latency_model import LatencyModel
from unas_hw.methods.freenas import job as freenas_job
from unas_hw.methods.freenas.config import FreenasConfig
from unas_hw.methods.freenas.knapsack import Path as Choices
from unas_hw.methods.freenas.search import best_networks, count_rounds, rounds
from unas_hw.progress import finish
from unas_hw.resources import Macs, Params
from unas_hw.runs import Run
from unas_hw.search.constraints import Constraint
from unas_hw.search.settings import SearchSettings
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space
from unas_hw.spaces.chain import ChainSpace
from unas_hw.supernet import Supernet
from unas_hw.zero_cost.flow import Flow, free_flow, fresh_supernet

ITERATIVE = FreenasConfig(iterative=True)


@pytest.fixture(scope="module")
def model(space: ChainSpace, table: LatencyTable) -> LatencyModel:
    return LatencyModel(space, table)


@pytest.fixture(scope="module")
def flow(space: ChainSpace) -> Flow:
    return free_flow(space, fresh_supernet(space, 0))


def every(space: SearchSpace) -> list[Choices]:
    return list(itertools.product(*(range(len(decision.choices)) for decision in space.decisions)))


def test_the_networks_are_those_of_the_highest_score_within_the_budget(
    space: ChainSpace, model: LatencyModel, flow: Flow
) -> None:
    paths = every(space)
    for share in (0.1, 0.4, 0.9):
        most = model.range[0] + share * (model.range[1] - model.range[0])
        fitting = [path for path in paths if model.value(path) <= most]
        scores = flow.scores(space, np.array(fitting))
        found = best_networks(flow, model, most)
        assert found.exact and found.paths == [fitting[place] for place in np.argsort(-scores)[:6]]


def test_other_budgets_are_kept_too(space: ChainSpace, model: LatencyModel, flow: Flow) -> None:
    most = model.range[1]
    params, macs = Params(space), Macs(space)
    limits = [Constraint(each, each.range[0] + 0.05 * np.ptp(each.range)) for each in (params, macs)]
    found = best_networks(flow, model, most, limits).paths
    assert found and all(each.fits(path) for path in found for each in limits)
    fitting = [path for path in every(space) if all(each.fits(path) for each in limits)]
    assert found[0] == fitting[int(flow.scores(space, np.array(fitting)).argmax())]
    assert best_networks(flow, model, model.range[0] / 2, limits).paths == []


def test_another_budget_that_the_first_networks_exceed_has_a_ranking_of_its_own(
    space: ChainSpace, model: LatencyModel, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "unas_hw.methods.freenas.knapsack.LOOKED_AT", 8
    )  # the first eight by latency alone are too large
    params = Params(space)
    limit = Constraint(params, params.range[0] * 1.01)
    found = best_networks(flow, model, model.range[1], [limit]).paths
    assert found and all(map(limit.fits, found))


def test_rounds_drop_the_worst_candidate_of_each_decision_until_two_are_left(
    space: ChainSpace, model: LatencyModel
) -> None:
    flows = list(rounds(space, model, model.range[1], ITERATIVE, 0))
    assert len(flows) == count_rounds(space, ITERATIVE) == 6  # the second decision has seven choices
    for before, after in itertools.pairwise(flows):
        for old, new in zip(before.edges, after.edges, strict=True):
            dropped = set(old.left) - set(new.left)
            assert dropped == ({min(old.left, key=old.shares.__getitem__)} if len(old.left) > 2 else set())
    assert [len(edge.left) for edge in flows[-1].edges] == [2, 2, 2]
    (only,) = list(rounds(space, model, model.range[1], FreenasConfig(), 0))
    assert only == flows[0] and count_rounds(space, FreenasConfig()) == 1


def test_rounds_never_leave_a_budget_that_some_network_keeps(space: ChainSpace, model: LatencyModel) -> None:
    most = model.range[0] * 1.02
    last = list(rounds(space, model, most, ITERATIVE, 0))[-1]
    (best, *_), exact = best_networks(last, model, most)
    assert model.value(best) <= most and exact
    assert all(choice in edge.left for choice, edge in zip(best, last.edges, strict=True))
    assert sum(map(len, (edge.left for edge in last.edges))) < sum(len(edge.shares) for edge in last.edges)


def test_a_budget_below_that_of_the_rounds_takes_back_what_was_dropped(space: ChainSpace, model: LatencyModel) -> None:
    last = list(rounds(space, model, model.range[1], ITERATIVE, 0))[-1]
    found = best_networks(last, model, model.range[0])
    assert found.paths == [model.smallest]


def test_none_is_chosen_where_no_network_keeps_the_budget_without_it() -> None:
    space = find_space("nas_bench_201?width=3&cells=1", image_shape=(1, 8, 8))
    params = Params(space)
    flow = free_flow(space, fresh_supernet(space, 0))
    found = best_networks(flow, params, params.range[0])
    assert found.paths and min(found.paths[0]) > 0  # skips have no parameters either
    dear = Macs(space)
    dear.costs.tables[0,][1:] += 1e9  # any operation on the first edge but none
    (best, *_), _ = best_networks(flow, dear, dear.value((0, 3, 3, 3, 3, 3)))
    assert best[0] == 0 and dear.space.is_usable(best)


def test_rounds_go_on_where_they_were_stopped(space: ChainSpace, model: LatencyModel) -> None:
    most = model.median_ms
    whole = list(rounds(space, model, most, ITERATIVE, 0))
    for done in range(len(whole) + 1):
        kept = [Flow.of(flow.as_json()) for flow in whole[:done]]
        assert [*kept, *rounds(space, model, most, ITERATIVE, 0, kept)] == whole
    assert list(rounds(space, model, most, FreenasConfig(), 0, whole[:1])) == []


@pytest.fixture(scope="module")
def settings(npz: Path, small_table_path: Path) -> SearchSettings:
    return SearchSettings(
        finals="none",
        budget="40%", dataset=str(npz), table=small_table_path, run="one", seed=3,
        config=ITERATIVE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(settings: SearchSettings, rule: TimingRule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a search ran undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        finish(search(settings, rule))
    return folder


def test_a_search_trains_nothing_and_leaves_a_run_as_others_do(whole: Path, settings: SearchSettings) -> None:
    run = Run.open(whole / "runs" / "one")
    result = run.read_json("result.json")
    assert result["feasible"] is True and 0 < result["measured_ms"] <= result["budget_ms"]
    assert result["valid_accuracy"] is None and result["rounds"] == 6
    space = find_space("mbconv-small")
    architecture = space.parse(str(run.path / "architecture.json"))
    assert str(architecture) == result["architecture"]
    flow = Flow.of(run.read_json("scores.json"))
    assert result["score"] == pytest.approx(float(flow.scores(space, np.array([space.indices(architecture)]))[0]))
    assert result["score_exact"] is True
    weights = safetensors.torch.load_file(run.path / "weights.safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        fresh = space.network(architecture).state_dict()
    assert all(torch.equal(weights[name], fresh[name]) for name in fresh)
    assert not (run.path / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("kept", [0, 2, 6])
def test_a_search_that_was_killed_scores_only_what_was_not_scored(
    whole: Path, settings: SearchSettings, rule: TimingRule, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole / "runs", "runs")
    run = Run.open(Path("runs/one"))
    before = run.read_json("result.json")
    for name in ("result.json", "scores.json"):
        (run.path / name).unlink()
    run.keep_lines(freenas_job.ROUNDS, kept)
    scored: list[Flow] = []

    def counted(space: SearchSpace, supernet: Supernet, flow: Flow | None = None) -> Flow:
        scored.append(free_flow(space, supernet, flow))
        return scored[-1]

    monkeypatch.setattr("unas_hw.methods.freenas.search.free_flow", counted)
    again = finish(search(settings, rule))
    assert len(scored) == before["rounds"] - kept
    assert {**again, "seconds": 0} == {**before, "seconds": 0}


def test_scores_that_are_there_are_read_and_not_made_again(
    whole: Path, settings: SearchSettings, rule: TimingRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole / "runs", "runs")
    (Path("runs/one") / "result.json").unlink()

    def never(*_: object) -> Iterator[Flow]:
        raise AssertionError("scored again")

    monkeypatch.setattr(freenas_job, "rounds", never)
    assert finish(search(settings, rule))["feasible"] is True


@pytest.mark.slow
def test_other_budgets_of_a_search_are_kept(settings: SearchSettings, rule: TimingRule) -> None:
    limited = replace(settings, config=FreenasConfig(), params_budget="90k", run="limited")
    result = finish(search(limited, rule))
    assert result["feasible"] and result["limits"]["params"]["value"] <= 90_000 and result["rounds"] == 1
    free = finish(search(replace(limited, params_budget=None, run="free"), rule))
    assert result["score"] < free["score"] and free["limits"] == {}
