"""Evaluation counts right, says how sure it is, and takes other images as the network's own are seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from unas_hw.data import Split
from unas_hw.errors import DataError, RunError
from unas_hw.jobs import train
from unas_hw.jobs.evaluate import evaluate_run
from unas_hw.jobs.train import Elsewhere, retrain
from unas_hw.progress import finish
from unas_hw.runs import RUNS, Run
from unas_hw.space import SearchSpace
from unas_hw.training import Recipe, evaluate
from unas_hw.training.evaluation import wilson
from unas_hw.verify import artifact

CHOICES = "k3e3," * 8 + "k3e3"
RECIPE = Recipe(epochs=1, batch_size=16)


@pytest.fixture(autouse=True)
def _remembered(monkeypatch: pytest.MonkeyPatch, remembered_spaces: Callable[..., SearchSpace]) -> None:
    for module in (artifact, train):
        monkeypatch.setattr(module, "find_space", remembered_spaces)


@pytest.fixture
def run(npz: Path) -> Run:
    """Of a network that was trained for one epoch, without a search."""
    told = Elsewhere(architecture=f"mbconv-small:{CHOICES}", dataset=str(npz), name="one")
    finish(retrain(None, RECIPE, elsewhere=told))
    return Run.find("one")


def test_everything_is_counted_over_every_batch() -> None:
    logits = torch.randn(600, 12)
    y = torch.arange(600) % 11  # no image of the last class
    found = evaluate(nn.Identity(), Split(logits, y))
    hit = logits.argmax(1) == y
    assert found.images == 600
    assert found.top1 == pytest.approx(float(hit.float().mean()))
    assert found.right == tuple(int(hit[y == label].sum()) for label in range(12))
    assert found.of_class == tuple(int((y == label).sum()) for label in range(12))
    rank = (logits > logits.gather(1, y[:, None])).sum(1)
    assert found.top5 == pytest.approx(float((rank < 5).float().mean()))
    assert found.loss == pytest.approx(float(cross_entropy(logits, y)), rel=1e-5)
    shares = [found.right[label] / found.of_class[label] for label in range(11)]
    assert [shares[label] for label in found.worst(3)] == sorted(shares)[:3]
    assert 11 not in found.worst(12)


def test_of_few_classes_five_guesses_mean_nothing() -> None:
    assert evaluate(nn.Identity(), Split(torch.randn(8, 9), torch.arange(8))).top5 is None
    assert evaluate(nn.Identity(), Split(torch.randn(8, 3), torch.arange(8) % 3)).top5 is None


def test_the_interval_is_wilsons() -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    for right, count, interval in ((81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611))):
        assert wilson(right, count) == pytest.approx(interval, abs=5e-5)
    assert wilson(20, 20)[1] == 1.0


def test_a_runs_network_is_evaluated_on_the_part_that_is_asked_for(run: Run) -> None:
    told = run.read_json("train/result.json")
    tested = finish(evaluate_run(None))
    assert (tested["run"], tested["split"], tested["images"]) == ("runs/one", "test", 16)
    assert (tested["top1"], tested["loss"]) == (told["test_accuracy"], pytest.approx(told["test_loss"]))
    assert (tested["params"], tested["macs"]) == (told["params"], told["macs"])
    low, high = tested["interval_95"]
    assert 0 <= low <= tested["top1"] <= high <= 1 and tested["top1"] <= tested["top5"] <= 1
    assert len(tested["worst_classes"]) == 3
    assert tested["images_per_s"] > 0
    assert [finish(evaluate_run("one", part=part))["images"] for part in ("valid", "train")] == [16, 48]


def test_the_weights_are_those_that_are_asked_for(run: Run, tmp_path: Path) -> None:
    context = artifact.open_run("one")
    torch.manual_seed(1)
    other = context.space.network(context.architecture)
    run.save_tensors("weights.safetensors", other.state_dict(), {})
    trained, searched = (finish(evaluate_run("one", weights=which)) for which in ("train", "search"))
    assert trained["loss"] == finish(evaluate_run("one"))["loss"] != searched["loss"]
    path = tmp_path / "mine.safetensors"
    path.write_bytes((run.path / "weights.safetensors").read_bytes())
    assert finish(evaluate_run("one", weights=str(path)))["loss"] == searched["loss"]


def test_weights_that_are_not_there_or_another_networks_are_refused(run: Run) -> None:
    with pytest.raises(RunError, match="no weights") as caught:
        finish(evaluate_run("one", weights="search"))
    assert caught.value.mend == "unas-hw evaluate --run one"
    with pytest.raises(RunError, match="no weights in mine"):
        finish(evaluate_run("one", weights="mine.safetensors"))
    run.save_tensors("other.safetensors", {"weight": torch.zeros(1)}, {})
    with pytest.raises(RunError, match="does not hold weights of mbconv-small"):
        finish(evaluate_run("one", weights=str(run.path / "other.safetensors")))


def test_other_images_are_seen_as_the_networks_own(run: Run, npz: Path, tmp_path: Path) -> None:
    own = finish(evaluate_run("one"))
    with np.load(npz) as arrays:
        parts = dict(arrays)
    path = tmp_path / "more.npz"
    data = artifact.open_run("one").data
    rows = data.test.rows
    assert rows is not None
    test_images, test_labels = parts["images"][rows.numpy()], parts["labels"][rows.numpy()]
    black, labels = np.zeros((30, 8, 8), np.uint8), np.arange(30) % 10  # of another mean and deviation
    np.savez(path, images=black, labels=labels, test_images=test_images, test_labels=test_labels)
    assert finish(evaluate_run("one", dataset=str(path)))["loss"] == pytest.approx(own["loss"], rel=1e-5)


@pytest.mark.parametrize(("shape", "classes"), [((30, 8, 8), 3), ((30, 8, 8, 3), 10)])
def test_images_that_do_not_fit_are_refused(run: Run, tmp_path: Path, shape: tuple[int, ...], classes: int) -> None:
    path = tmp_path / "wrong.npz"
    np.savez(path, images=np.zeros(shape, np.uint8), labels=np.arange(30) % classes)
    with pytest.raises(DataError, match="the network of runs/one is for 10") as caught:
        finish(evaluate_run("one", dataset=str(path)))
    assert caught.value.mend.endswith(f"unas-hw train --run one --dataset {path}")
    assert (RUNS / "one").is_dir()
