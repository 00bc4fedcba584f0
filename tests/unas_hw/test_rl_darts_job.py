"""A search by playing is a run like any other: priced, measured, trained, judged and exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from profilers.registry import open_profiler
from profilers.timing import TimingRule
from tests.unas_hw.conftest import PHONE
from unas_hw.errors import DataError, MethodError
from unas_hw.jobs.evaluate import evaluate_run
from unas_hw.jobs.export import ExportSettings, export
from unas_hw.jobs.profile import profile
from unas_hw.jobs.search import search
from unas_hw.jobs.train import Elsewhere, plays, retrain
from unas_hw.methods.rl_darts.config import PpoConfig, RlDartsConfig
from unas_hw.methods.rl_darts.job import CHECKPOINT, METRICS
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.progress import finish
from unas_hw.runs import Run
from unas_hw.search.settings import SearchSettings
from unas_hw.spaces import find_space
from unas_hw.training import Recipe

pytest.importorskip("minatar")
TASK = "minatar:breakout"
PLAYED: dict[str, Any] = {"environments": 4, "horizon": 16, "passes": 1, "minibatch": 64}


@pytest.fixture(scope="module")
def table_of_policies(rule: TimingRule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "impala.jsonl"
    space = find_space("impala", image_shape=(4, 10, 10), classes=6)
    finish(profile(space, open_profiler(PHONE), path=path, rule=rule, networks=6))
    return path


@pytest.fixture
def settings(table_of_policies: Path) -> SearchSettings:
    return SearchSettings(
        budget="30%",
        dataset=TASK,
        table=table_of_policies,
        device=PHONE,
        run="played",
        config=RlDartsConfig(steps=192, **PLAYED),
    )


@pytest.mark.slow
def test_a_task_is_searched_trained_judged_and_exported_within_its_budget(
    settings: SearchSettings, rule: TimingRule
) -> None:
    result = finish(search(settings, rule))
    assert result["feasible"] and result["measured_ms"] <= result["budget_ms"]
    assert result["steps"] == 192 and result["valid_accuracy"] is None and result["space"] == "impala"
    assert len(Run.find("played").lines(METRICS)) == 3

    trained = finish(retrain("played", Recipe(), ppo=PpoConfig(steps=128, **PLAYED)))
    assert trained["test_episodes"] == 100 and trained["steps"] == 128
    shares = [trained[f"{what}_share"] for what in ("environment", "acting", "learning")]
    assert sum(shares) == pytest.approx(1) and all(0 < share < 1 for share in shares)

    judged = finish(evaluate_run("played"))
    assert judged["test_return"] == trained["test_return"] and judged["random_return"] > 0
    with pytest.raises(DataError, match="its own task"):
        finish(evaluate_run("played", dataset="digits"))

    report = finish(export(ExportSettings(run="played", format="onnx"), rule))
    assert report["passed"], report["checks"]
    assert report["test_accuracy"] is None and report["test_return"] == trained["test_return"]
    assert report["max_abs_error"] < 1e-4 and report["top1_agreement"] == 1
    written = (Run.find("played").path / "export" / "report.md").read_text(encoding="utf-8")
    assert f"{trained['test_return']:.2f} when it was trained" in written


def test_a_search_that_is_killed_goes_on_to_the_same_cell(settings: SearchSettings, rule: TimingRule) -> None:
    whole = finish(search(settings, rule))
    job = search(replace(settings, run="killed"), rule)
    while not (next(job).stage == "play" and Path("runs/killed", METRICS).exists()):
        pass
    job.close()
    before = Run.find("killed").lines(METRICS)
    again = finish(search(replace(settings, run="killed"), rule))
    assert again["architecture"] == whole["architecture"] and len(before) < 3
    lines = [Run.find(name).lines(METRICS) for name in ("played", "killed")]
    for one, other in zip(*lines, strict=True):
        assert {k: v for k, v in one.items() if not k.endswith("_s")} == {
            k: v for k, v in other.items() if not k.endswith("_s")
        }
    first, second = (Run.find(name).load_tensors(CHECKPOINT) for name in ("played", "killed"))
    assert first and second and all(torch.equal(each, second[0][name]) for name, each in first[0].items())


def test_a_policy_can_be_trained_without_a_search(rule: TimingRule) -> None:
    elsewhere = Elsewhere(architecture="impala:relu.0,skip.0+relu.1,tanh.0+skip.1,relu.1+skip.3", dataset=TASK)
    assert plays(None, elsewhere) == TASK and plays(None, Elsewhere(architecture="k3e3", dataset="digits")) is None
    result = finish(retrain(None, Recipe(), elsewhere=elsewhere, ppo=PpoConfig(steps=128, **PLAYED)))
    assert result["dataset"] == TASK and (Path(result["run"]) / "train" / "weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("change", "what", "mend"),
    [
        ({"config": UnasConfig(), "method": ""}, "learns from labelled images", "--task minatar:breakout"),
        ({"dataset": "digits"}, "learns by playing", "--task"),
        ({"space": "mbconv-small", "table": None}, "no space of policies", "--space impala"),
        ({"config": RlDartsConfig(gamma=2.0)}, "gamma=2.0", "rl_darts.gamma"),
    ],
)
def test_what_does_not_go_together_is_refused(
    settings: SearchSettings, rule: TimingRule, change: dict[str, Any], what: str, mend: str
) -> None:
    with pytest.raises(MethodError, match=what) as error:
        finish(search(replace(settings, **change), rule))
    assert mend in error.value.mend
