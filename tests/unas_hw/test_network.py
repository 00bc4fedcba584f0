"""The network that ships is the one that was searched: with the supernet's weights it gives the supernet's outputs, and
what was saved is what is loaded.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unas_hw.data import Dataset
from unas_hw.errors import RunError
from unas_hw.network import inherit, load_network, recalibrate, save_network
from unas_hw.runs import RUNS, Run
from unas_hw.spaces.chain import ChainSpace
from unas_hw.supernet import Supernet

PATHS: list[tuple[int, ...]] = [(0, 0, 0), (5, 6, 5), (2, 0, 3), (1, 4, 0)]


@pytest.fixture
def net(space: ChainSpace, data: Dataset) -> Supernet:
    """Trained a little, so that normalisation has something to do."""
    made = space.supernet()
    optimizer = torch.optim.Adam(made.parameters(), 0.01)
    for step in range(12):
        optimizer.zero_grad()
        nn.functional.cross_entropy(made(data.train.x, PATHS[step % len(PATHS)]), data.train.y).backward()
        optimizer.step()
    return made.eval()


@pytest.mark.parametrize("path", PATHS)
def test_the_extracted_network_gives_the_outputs_of_the_supernets_path(
    space: ChainSpace, net: Supernet, data: Dataset, path: tuple[int, ...]
) -> None:
    network, x = space.network(space.architecture(path)), data.train.x
    inherit(network, net, path)
    recalibrate(network, x)
    # Alike but for n/(n-1), by which the variance of a batch and the running one differ.
    with torch.no_grad():
        expected, seen = net(x, path), network(x)
    assert float((seen - expected).abs().max()) < 0.05 * float(expected.std())
    other = PATHS[(PATHS.index(path) + 1) % len(PATHS)]
    with torch.no_grad():
        assert float((net(x, other) - expected).abs().max()) > 0.5 * float(expected.std())


def test_inherited_weights_are_copies(space: ChainSpace, net: Supernet) -> None:
    network = space.network(space.architecture((1, 1, 1)))
    inherit(network, net, (1, 1, 1))
    before = [weight.clone() for weight in net.parameters()]
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    assert all(torch.equal(one, other) for one, other in zip(net.parameters(), before, strict=True))


def test_recalibration_takes_the_average_over_all_batches(data: Dataset) -> None:
    network = nn.Sequential(nn.BatchNorm2d(1, momentum=0.3))
    network(100 + data.train.x)  # what was there before is forgotten
    x = torch.cat([data.train.x, 5 + data.train.x])
    recalibrate(network, x, batch_size=48)
    norm = network[0]
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    assert float(norm.running_mean) == pytest.approx(float(x.mean()), abs=1e-4)
    assert float(norm.running_var) == pytest.approx(float(data.train.x.var()), rel=1e-3)
    assert norm.momentum == 0.3
    assert not network.training


def test_recalibration_weighs_every_image_alike() -> None:
    x = torch.randn(97, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    x[96:] += 9.7  # the only one of a third batch, if batches were filled one after the other
    network = nn.Sequential(nn.BatchNorm2d(1))
    recalibrate(network, x, batch_size=48)
    norm = network[0]
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    assert float(norm.running_mean) == pytest.approx(float(x.mean()), abs=0.01)


def test_recalibration_moves_no_weight(space: ChainSpace, data: Dataset) -> None:
    network = space.network(space.architecture((1, 1, 1)))
    before = [weight.clone() for weight in network.parameters()]
    recalibrate(network, data.train.x)
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), before, strict=True))


@pytest.fixture
def run(space: ChainSpace) -> Run:
    made = Run.begin(RUNS / "one", {})
    made.write_json("architecture.json", {"space": space.name, "choices": ["k5e3", "id", "k7e6"]})
    return made


def test_a_saved_network_is_the_loaded_one_and_ready_for_use(space: ChainSpace, run: Run, data: Dataset) -> None:
    network = space.network(space.parse(str(run.path / "architecture.json")))
    recalibrate(network, data.train.x)
    save_network(run, "weights.safetensors", network)
    loaded = load_network(run, space)
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(data.test.x), network(data.test.x))


def test_trained_weights_are_preferred_to_searched_ones(space: ChainSpace, run: Run, data: Dataset) -> None:
    searched, trained = (space.network(space.parse("k5e3,id,k7e6")) for _ in range(2))
    save_network(run, "weights.safetensors", searched)
    save_network(run, "train/weights.safetensors", trained)
    loaded = load_network(run, space)
    for one, other in zip(loaded.parameters(), trained.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_run_without_weights_is_refused_with_what_to_do(space: ChainSpace, run: Run) -> None:
    with pytest.raises(RunError, match="runs/one has no weights") as caught:
        load_network(run, space)
    assert "unas-hw search" in caught.value.mend
