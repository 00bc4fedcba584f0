"""An optimiser taken apart into tensors and put together goes on exactly where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn

from unas_hw.optimizer_state import from_tensors, to_tensors
from unas_hw.runs import RUNS, Run

Make = Callable[[Iterable[Tensor]], torch.optim.Optimizer]
MAKERS: dict[str, Make] = {
    "adam": lambda weights: torch.optim.Adam(weights, 0.01, weight_decay=1e-4),
    "adamw": lambda weights: torch.optim.AdamW(weights, 0.01),
    "sgd": lambda weights: torch.optim.SGD(weights, 0.01, momentum=0.9),
}


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(number))
    optimizer.zero_grad()
    network(x).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("name", MAKERS)
def test_an_optimiser_restored_from_a_file_makes_the_same_steps(name: str) -> None:
    network = _network()
    optimizer, run = MAKERS[name](network.parameters()), Run.begin(RUNS / "one", {})
    for number in range(3):
        _step(network, optimizer, number)
    run.save_tensors("state", network.state_dict() | to_tensors(optimizer, "w"), {})

    restored = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    saved = run.load_tensors("state")
    assert saved is not None
    restored.load_state_dict({key: value for key, value in saved[0].items() if not key.startswith("w.")})
    fresh = MAKERS[name](restored.parameters())
    from_tensors(fresh, "w", saved[0])
    for number in range(3, 6):
        _step(network, optimizer, number)
        _step(restored, fresh, number)
    for one, other in zip(network.parameters(), restored.parameters(), strict=True):
        assert torch.equal(one, other)


def test_two_optimisers_in_one_file_keep_apart() -> None:
    networks = [_network(), _network()]
    optimizers = [MAKERS["adam"](network.parameters()) for network in networks]
    _step(networks[0], optimizers[0], 1)
    for number in (2, 3):
        _step(networks[1], optimizers[1], number)
    tensors = to_tensors(optimizers[0], "w") | to_tensors(optimizers[1], "w2")
    fresh = MAKERS["adam"](_network().parameters())
    from_tensors(fresh, "w", tensors)
    assert all(torch.equal(value, tensors[name]) for name, value in to_tensors(fresh, "w").items())
    assert float(to_tensors(fresh, "w")["w.0.step"]) == 1


def test_settings_that_are_no_tensors_stay_those_of_the_new_optimiser() -> None:
    network = _network()
    optimizer = MAKERS["adam"](network.parameters())
    _step(network, optimizer, 0)
    other = torch.optim.Adam(network.parameters(), 0.5)
    from_tensors(other, "w", to_tensors(optimizer, "w"))
    assert other.param_groups[0]["lr"] == 0.5
