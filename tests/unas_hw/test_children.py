"""A child's accuracy follows from what it is: not from who trains it, nor from how often its worker is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from unas_hw.data import load_dataset
from unas_hw.errors import ChildError
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space
from unas_hw.training import Recipe
from unas_hw.training.child import told_child, train_child
from unas_hw.training.workers import TRIES, LocalWorkers, Workers

MORTAL = """
import os, signal
from pathlib import Path
from unas_hw.spaces.building import Chain

lives = Path("{lives}")
lost = int(lives.read_text())
if lost > 0:
    lives.write_text(str(lost - 1))
    os.kill(os.getpid(), signal.SIGKILL)

def space(name, *, image_size, channels, classes, batch, precision):
    chain = Chain(name, image_size=image_size, channels=channels, batch=batch, precision=precision)
    chain.choose("first", {{"k3": chain.conv(4, kernel=3), "k5": chain.conv(4, kernel=5)}})
    chain.fixed("classifier", chain.classifier(classes))
    return chain.space(classes)
"""
"""A space whose file kills the process that opens it, so many times."""
RECIPE = Recipe(epochs=1, batch_size=16)


@pytest.fixture
def children(npz: Path, tmp_path: Path) -> Callable[[int], list[dict[str, Any]]]:
    """Both networks of a space that kills so many of the processes that open it."""
    data = load_dataset(str(npz))
    folders = (tmp_path / str(number) for number in count())

    def told(lost: int) -> list[dict[str, Any]]:
        folder = next(folders)  # a worker reads a file once
        folder.mkdir()
        file, lives = folder / "mortal.py", folder / "lives"
        file.write_text(MORTAL.format(lives=lives))
        lives.write_text("0")
        space = find_space(str(file), image_shape=data.image_shape, classes=data.classes)
        lives.write_text(str(lost))
        return [told_child(space, data, None, 0, (choice,), RECIPE) for choice in ("k3", "k5")]

    return told


def test_a_child_is_the_same_whoever_trains_it(children: Callable[[int], list[dict[str, Any]]], tmp_path: Path) -> None:
    told = children(0)
    assert told == json.loads(json.dumps(told)), "all of it is plain data"
    weights = tmp_path / "weights.safetensors"
    here = [train_child(child)["accuracy"] for child in told]
    with LocalWorkers(2) as workers:
        there = dict(workers.train([told[0], {**told[1], "weights": str(weights)}]))
        processes = list(workers._processes)
        again = dict(workers.train(told))
        assert workers._processes == processes, "workers are kept for further children"
    assert [there[number]["accuracy"] for number in (0, 1)] == here == [again[n]["accuracy"] for n in (0, 1)]
    assert any(tensor.any() for tensor in safetensors.torch.load_file(weights).values())


def test_children_of_another_search_are_other_children(space: SearchSpace, npz: Path) -> None:
    data = load_dataset(str(npz))
    choices = space.architecture([0] * len(space.decisions)).choices
    seeds = {told_child(space, data, None, seed, choices, RECIPE)["seed"] for seed in range(5)}
    assert len(seeds) == 5


def _loses_none(workers: Workers, children: Callable[[int], list[dict[str, Any]]]) -> None:
    expected = [train_child(child)["accuracy"] for child in children(0)]
    found = dict(workers.train(children(TRIES - 1)))
    assert [found[number]["accuracy"] for number in (0, 1)] == expected, "lost workers are replaced"
    with pytest.raises(ChildError, match=rf"mortal.py:k. cannot be trained: its worker was lost {TRIES} times"):
        list(workers.train(children(1000)[:1]))
    with pytest.raises(ChildError, match="where its worker is: there is no data set") as caught:
        list(workers.train([{**children(0)[0], "dataset": "gone.npz"}]))
    assert "--dataset" in caught.value.mend


@pytest.mark.slow
def test_a_child_whose_worker_is_lost_is_trained_by_another(
    children: Callable[[int], list[dict[str, Any]]],
) -> None:
    with LocalWorkers(1) as workers:
        _loses_none(workers, children)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_ray_cluster_does_as_well(children: Callable[[int], list[dict[str, Any]]]) -> None:
    pytest.importorskip("ray", reason="needs ray: pip install 'unas-hw[ray]'")
    from unas_hw.training.ray_workers import RayWorkers

    with RayWorkers("local", 2) as cluster:
        _loses_none(cluster, children)
    with pytest.raises(ChildError, match=r"no Ray cluster at 127\.0\.0\.1:1") as caught:
        RayWorkers("127.0.0.1:1", 1)
    assert "ray start --head" in caught.value.mend
