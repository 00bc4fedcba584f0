"""Training from scratch learns, follows from its seed, and goes on after a restart bit for bit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unas_hw.data import Dataset, Split
from unas_hw.runs import RUNS, Run
from unas_hw.spaces.chain import ChainSpace
from unas_hw.training import Recipe, accuracy, train

RECIPE = Recipe(epochs=10, batch_size=16, lr=0.01)


@pytest.fixture
def run() -> Run:
    return Run.begin(RUNS / "one", {})


def _network(space: ChainSpace, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return space.network(space.architecture((0, 1, 1)))


def _train(space: ChainSpace, data: Dataset, run: Run, epochs: int, seed: int = 0) -> dict[str, Tensor]:
    """Trains as if the process had just begun and is killed after some epochs; the state then."""
    network = _network(space, seed)
    for metrics in train(network, data.train, RECIPE, run, "train"):
        if metrics["epoch"] == epochs:
            break
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _timeless(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def test_ten_epochs_equal_five_and_five_after_a_restart(space: ChainSpace, data: Dataset, run: Run) -> None:
    halves = Run.begin(RUNS / "two", {})
    whole = _train(space, data, run, 10)
    _train(space, data, halves, 5)
    resumed = _train(space, data, halves, 10, seed=1)  # its first weights do not matter
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert _timeless(run.lines("train/metrics.jsonl")) == _timeless(halves.lines("train/metrics.jsonl"))


def test_an_epoch_that_was_not_saved_is_made_again(space: ChainSpace, data: Dataset, run: Run) -> None:
    _train(space, data, run, 2)
    expected = (run.path / "train" / "metrics.jsonl").read_bytes()
    run.append("train/metrics.jsonl", {"epoch": 3, "loss": -1.0})  # killed before the checkpoint
    _train(space, data, run, 3)
    lines = run.lines("train/metrics.jsonl")
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[2]["loss"] > 0
    assert (run.path / "train" / "metrics.jsonl").read_bytes().startswith(expected)


def test_what_is_finished_is_not_trained_again(space: ChainSpace, data: Dataset, run: Run) -> None:
    whole, network = _train(space, data, run, 99), _network(space, 1)
    assert list(train(network, data.train, RECIPE, run, "train")) == []
    assert not network.training
    assert all(torch.equal(tensor, whole[name]) for name, tensor in network.state_dict().items())


def test_training_learns(space: ChainSpace, data: Dataset, run: Run) -> None:
    network = _network(space)
    before = accuracy(network, data.test)
    losses = [metrics["loss"] for metrics in train(network, data.train, RECIPE, run, "train")]
    assert losses[-1] < losses[0] - 0.3
    assert accuracy(network, data.test) > max(before, 0.8)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"lr": 0.02},
        {"warmup": 0.5},
        {"smoothing": 0.0},
        {"augmentation": "none"},
        {"decay": 0.5},
        {"optimizer": "sgd"},
        {"clip": 0.1},
        {"mixup": 0.2},
        {"drop_path": 0.5},
    ],
)
def test_every_word_of_the_recipe_counts(space: ChainSpace, data: Dataset, run: Run, change: dict[str, Any]) -> None:
    other = Run.begin(RUNS / "two", {})
    recipe = replace(RECIPE, epochs=3)
    plain = train(_network(space), data.train, recipe, run, "train")
    changed = train(_network(space), data.train, replace(recipe, **change), other, "train")
    assert [line["loss"] for line in plain] != [line["loss"] for line in changed]


def test_the_learning_rate_rises_to_its_height_and_ends_at_zero(
    space: ChainSpace, data: Dataset, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW, *args: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    list(train(_network(space), data.train, replace(RECIPE, epochs=7), run, "train"))
    assert len(rates) == 21
    assert rates[0] == 0
    assert max(rates) == pytest.approx(RECIPE.lr)
    top = rates.index(max(rates))
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_accuracy_is_the_share_of_images_whose_highest_logit_is_right() -> None:
    x = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    assert accuracy(nn.Identity(), Split(x, torch.tensor([0, 1, 1, 1]))) == 0.75


def test_accuracy_counts_every_batch() -> None:
    x = torch.cat([torch.tensor([[1.0, 0.0]]).repeat(300, 1), torch.tensor([[0.0, 1.0]]).repeat(300, 1)])
    assert accuracy(nn.Identity(), Split(x, torch.zeros(600, dtype=torch.long))) == 0.5
