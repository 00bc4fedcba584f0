"""RL-DARTS: alpha learns by the agent's loss, keeps a budget, and a search can be stopped anywhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from latency_tables.table import LatencyTable
from profilers.registry import open_profiler
from profilers.timing import TimingRule
from tests.unas_hw.bright import QUARTERS, SIDE, TASK, Bright
from tests.unas_hw.conftest import PHONE
from unas_hw.errors import MethodError
from unas_hw.jobs.profile import profile
from unas_hw.latency_model import LatencyModel
from unas_hw.methods.rl_darts.config import PpoConfig, RlDartsConfig, ppo_for
from unas_hw.methods.rl_darts.search import RlDarts
from unas_hw.progress import finish
from unas_hw.spaces import find_space
from unas_hw.spaces.impala import ImpalaSpace
from unas_hw.tasks import find_task

SHORT = RlDartsConfig(
    steps=1024, environments=16, horizon=16, passes=2, minibatch=64, lr=3e-3, gamma=0.9, alpha_lr=0.05
)


@pytest.fixture(scope="module")
def space() -> ImpalaSpace:
    found = find_space("impala?depths=small", image_shape=(1, SIDE, SIDE), classes=QUARTERS)
    assert isinstance(found, ImpalaSpace)
    return found


@pytest.fixture(scope="module")
def model(space: ImpalaSpace, rule: TimingRule, tmp_path_factory: pytest.TempPathFactory) -> LatencyModel:
    path = tmp_path_factory.mktemp("tables") / "impala.jsonl"
    finish(profile(space, open_profiler(PHONE), path=path, rule=rule, networks=6))
    return LatencyModel(space, LatencyTable.load(path))


def begun(space: ImpalaSpace, model: LatencyModel, config: RlDartsConfig = SHORT, **more: Any) -> RlDarts:
    return RlDarts(space, Bright(config.environments, 0), config, 0, model, **more)


def without_time(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in ("environment_s", "acting_s", "learning_s")}


@pytest.mark.slow
def test_the_supernet_learns_while_it_acts_and_alpha_with_it(space: ImpalaSpace, model: LatencyModel) -> None:
    lines = list(begun(space, model, replace(SHORT, steps=2_048, alpha_lr=0.1)).updates())
    assert lines[-1]["return"] > lines[0]["return"] + 0.5
    assert lines[-1]["alpha_entropy"] < lines[0]["alpha_entropy"] - 0.02 < 0.98
    assert {line["multiplier"] for line in lines} == {0.0}  # there is no budget


@pytest.mark.slow
def test_a_latency_budget_makes_the_expected_cell_faster(space: ImpalaSpace, model: LatencyModel) -> None:
    free = list(begun(space, model).updates())[-1]
    aim_ms = model.latency_ms(model.smallest) + 0.2 * (free["expected_ms"] - model.latency_ms(model.smallest))
    config = replace(SHORT, multiplier_rate=1.0)
    bound = list(begun(space, model, config, aim_ms=aim_ms).updates())
    assert bound[-1]["expected_ms"] < 0.9 * free["expected_ms"]
    assert bound[-1]["multiplier"] > 0


def test_the_expected_latency_is_that_of_networks_drawn_as_they_are_probable(
    space: ImpalaSpace, model: LatencyModel
) -> None:
    search = begun(space, model)
    search.alpha.data.normal_()
    with torch.no_grad():
        log_probs = search.log_probs()
    draws = [torch.multinomial(each.exp(), 4000, replacement=True) for each in log_probs]
    drawn = torch.stack(draws, 1).numpy()
    expected = model.distribution([each.exp().double() for each in log_probs]).expectation()
    assert float(expected) == pytest.approx(model.values(drawn).mean(), rel=0.01)


@pytest.mark.slow
def test_a_search_that_was_stopped_goes_on_bit_for_bit(space: ImpalaSpace, model: LatencyModel) -> None:
    aim_ms = model.latency_ms(model.smallest) * 1.2
    config = replace(SHORT, steps=768)
    whole = begun(space, model, config, aim_ms=aim_ms)
    told = [without_time(line) for line in whole.updates()]
    first = begun(space, model, config, aim_ms=aim_ms)
    updates = first.updates()
    begin = [without_time(next(updates)) for _ in range(2)]
    tensors, scalars = first.state()
    tensors = {name: each.clone() for name, each in tensors.items()}
    second = begun(space, model, config, aim_ms=aim_ms)
    second.restore(tensors, scalars)
    assert begin + [without_time(line) for line in second.updates()] == told
    assert torch.equal(second.alpha, whole.alpha)


def test_what_suits_small_frames_is_quicker_and_large_ones_are_played_as_published() -> None:
    assert ppo_for(replace(TASK, image_shape=(3, 64, 64)), PpoConfig()) == PpoConfig()
    small = ppo_for(TASK, RlDartsConfig(alpha_lr=0.5))
    assert isinstance(small, RlDartsConfig) and small.alpha_lr == 0.5 and small.horizon < PpoConfig().horizon


def test_values_that_cannot_be_are_refused_by_name() -> None:
    with pytest.raises(MethodError, match="rl_darts cannot have alpha_lr"):
        replace(SHORT, alpha_lr=0.0).check()
    with pytest.raises(MethodError, match="rl_darts cannot have clip"):
        replace(SHORT, clip=0.0).check()


def test_minatar_is_played_by_the_space_of_small_policies() -> None:
    pytest.importorskip("minatar")
    task = find_task("minatar:asterix")
    space = find_space("impala", image_shape=task.image_shape, classes=task.actions)
    assert isinstance(space, ImpalaSpace) and space.depths == (16, 16)
