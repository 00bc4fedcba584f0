"""A search keeps a memory budget by how it runs its steps, says what it took, and goes on in the way it began."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from profilers.timing import TimingRule
from tests.unas_hw.conftest import TINY_SPACE
from unas_hw.errors import MemoryBudgetError
from unas_hw.jobs.search import search
from unas_hw.memory import CLEAR
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.progress import finish
from unas_hw.runs import Run
from unas_hw.search.settings import SearchSettings

TINY = UnasConfig(warmup_epochs=1, epochs=1, finetune_epochs=0, batch_size=24, measure_every=2, diagnose_every=1)


@pytest.fixture
def settings(npz: Path, tiny_table_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SearchSettings:
    monkeypatch.chdir(tmp_path)
    return SearchSettings(
        finals="none", budget="40%", space=TINY_SPACE, dataset=str(npz), table=tiny_table_path, run="one", config=TINY
    )


@pytest.mark.skipif(not CLEAR.exists(), reason="only Linux tells the peak memory of a process")
def test_a_memory_budget_is_kept_by_a_way_that_was_measured(settings: SearchSettings, rule: TimingRule) -> None:
    plain = finish(search(replace(settings, run="plain"), rule))
    assert plain["peak_bytes"] is None
    result = finish(search(replace(settings, memory_budget="8GB"), rule))
    run = Run.find("one")
    kept = run.read_json("memory.json")
    assert 0 < result["peak_bytes"] <= kept["budget_bytes"] == 8_000_000_000
    assert [each["mode"] for each in kept["tried"]] == ["recomputed", "stored"]
    fastest = min(kept["tried"], key=lambda each: each["seconds"])
    assert kept["recompute"] == (fastest["mode"] == "recomputed") and kept["most"] is None
    # What was rehearsed is forgotten: the search is the one without a budget.
    metrics = [Run.find(name).lines("metrics.jsonl") for name in ("plain", "one")]
    assert [line["mode"] for line in metrics[0]] == [line["mode"] for line in metrics[1]]
    assert metrics[1][1]["cost"] == pytest.approx(metrics[0][1]["cost"], rel=1e-4)
    steps = [line["step"] for line in run.lines("gradients.jsonl")]
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.skipif(not CLEAR.exists(), reason="only Linux tells the peak memory of a process")
@pytest.mark.slow
def test_a_search_that_goes_on_runs_its_steps_as_it_began(settings: SearchSettings, rule: TimingRule) -> None:
    told = replace(settings, memory_budget="8GB")
    job = search(told, rule)
    for step in job:
        if step.stage == "warm-up":
            job.close()
            break
    run = Run.find("one")
    run.write_json("memory.json", run.read_json("memory.json") | {"recompute": True, "most": 2})
    seen = [step.stage for step in search(told, rule)]
    assert "search" in seen and "memory" not in seen
    # With two candidates a decision the loss is another one.
    finish(search(replace(settings, run="plain"), rule))
    costs = [Run.find(name).lines("metrics.jsonl")[1]["cost"] for name in ("one", "plain")]
    assert costs[0] != pytest.approx(costs[1], rel=1e-3)


@pytest.mark.skipif(not CLEAR.exists(), reason="only Linux tells the peak memory of a process")
def test_a_memory_budget_that_nothing_keeps_is_refused(settings: SearchSettings, rule: TimingRule) -> None:
    with pytest.raises(MemoryBudgetError, match="no way to run a step keeps 9 MB") as caught:
        finish(search(replace(settings, memory_budget="9MB"), rule))
    assert "--sampled-paths" in caught.value.mend
    with pytest.raises(MemoryBudgetError, match="9 MB"):
        finish(search(replace(settings, run="two", memory_budget="9MB", sampled_paths=True), rule))


def test_a_search_trains_in_bfloat16_where_it_is_told_to(settings: SearchSettings, rule: TimingRule) -> None:
    result = finish(search(replace(settings, bf16=True), rule))
    assert result["feasible"] and Run.find("one").config["bf16"] is True
    plain = finish(search(replace(settings, run="two"), rule))
    costs = [Run.find(name).lines("metrics.jsonl")[1]["cost"] for name in ("one", "two")]
    assert costs[0] != costs[1] and costs[0] == pytest.approx(costs[1], rel=0.1)
    assert plain["feasible"]
