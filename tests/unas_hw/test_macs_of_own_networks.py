"""MACs and weights of a network of the user's count everything that computes, in it and in every smaller one."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest
import torch

from profilers.arithmetic import MacCounter
from unas_hw.methods.pruning.masks import Widths
from unas_hw.methods.pruning.shapes import Arithmetic
from unas_hw.spaces import find_space
from unas_hw.spaces.subset import SubsetSpace

NETWORKS = """
import torch
from torch import nn


def convolutions(channels):
    return nn.Sequential(
        nn.Conv2d(channels, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 16, 4, stride=4)
    )


class Recurrent(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.body = convolutions(channels)
        self.gru = nn.GRU(32, 20, num_layers=2, batch_first=True)
        self.fc = nn.Linear(20, classes)

    def forward(self, x):
        return self.fc(self.gru(self.body(x).flatten(2).transpose(1, 2).reshape(-1, 2, 32))[0][:, -1])


class Attends(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.body = convolutions(channels)
        self.norm, self.attention = nn.LayerNorm(16), nn.MultiheadAttention(16, 4, batch_first=True)
        self.fc = nn.Linear(16, classes)

    def forward(self, x):
        x = self.body(x).flatten(2).transpose(1, 2)
        y = self.norm(x)
        return self.fc((x + self.attention(y, y, y, need_weights=False)[0]).mean(1))


class Window(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out, self.bias = nn.Linear(16, 48), nn.Linear(16, 16), nn.Parameter(torch.zeros(2, 4, 4))

    def forward(self, x):
        q, k, v = self.qkv(x).reshape(-1, 4, 3, 2, 8).permute(2, 0, 3, 1, 4)
        shares = (q @ k.transpose(-2, -1) + self.bias).softmax(-1)
        return self.out((shares @ v).transpose(1, 2).reshape(x.shape))


class Swin(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.body, self.window = convolutions(channels), Window()
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.fc = nn.Linear(16, classes)

    def forward(self, x):
        x = self.body(x).flatten(2).transpose(1, 2)
        x = x + self.window(x)
        return self.fc((x + self.mlp(x)).mean(1))


def normed(classes, channels):
    weighted = nn.utils.parametrizations.weight_norm(nn.Conv2d(16, 8, 2))
    return nn.Sequential(convolutions(channels), weighted, nn.ReLU(), nn.Flatten(), nn.Linear(8, classes))


class Spectral(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.body, self.fc = convolutions(channels), nn.Linear(16, classes)

    def forward(self, x):
        return self.fc(torch.fft.rfft(self.body(x).flatten(2)).abs().mean(2))
"""
BODY = 64 * 9 * 24 + 4 * 24 * 16 * 16
BESIDE = {
    "Recurrent": 2 * 3 * 20 * ((32 + 20) + (20 + 20)),
    "Attends": 4 * 4 * 16 * 16 + 2 * 4 * 4 * 16,
    "Swin": 2 * 4 * 4 * 16,
    "normed": 4 * 16 * 8,
    "Spectral": 0,
}
"""Multiply-accumulates of what is no layer, by hand."""
LAYERS = {"Recurrent": 20 * 10, "Attends": 160, "Swin": 4 * 16 * (48 + 16 + 64) + 160, "normed": 80, "Spectral": 160}


@pytest.fixture
def find(tmp_path: Path) -> partial[SubsetSpace]:
    path = tmp_path / "nets.py"
    path.write_text(NETWORKS)

    def found(name: str, batch: int = 1) -> SubsetSpace:
        space = find_space(f"subset:{path}:{name}", image_shape=(1, 8, 8), classes=10, batch=batch, precision="float32")
        assert isinstance(space, SubsetSpace)
        return space

    return partial(found)


@pytest.mark.parametrize("name", BESIDE)
def test_macs_of_the_whole_network_are_those_by_hand(find: partial[SubsetSpace], name: str) -> None:
    for batch in (1, 3):
        space = find(name, batch)
        cost = space.workload(space.architecture_of(space.prunable.sizes)).cost
        assert cost.macs == batch * (BODY + LAYERS[name] + BESIDE[name])


@pytest.mark.parametrize("name", BESIDE)
def test_every_smaller_network_has_the_macs_and_weights_that_it_runs_with(
    find: partial[SubsetSpace], name: str
) -> None:
    space, rng = find(name), random.Random(0)
    blocks = {block.name: 0 for block in space.prunable.blocks}
    without = space.architecture_of(space.prunable.sizes | blocks)
    for architecture in (without, *(space.draw(rng) for _ in range(3))):
        network = space.network(architecture).eval()
        with torch.no_grad(), MacCounter() as counter:
            network(torch.rand(space.input_shape))
        cost = space.workload(architecture).cost
        assert cost.macs == counter.macs
        assert cost.params == sum(weight.numel() for weight in network.parameters())
        widths = Widths.of(space.prunable, space.prunable.first(space.widths(architecture)))
        for what, needed in (("macs", cost.macs), ("params", cost.params)):
            assert float(Arithmetic(space.prunable, what)(widths)) == needed, "what a budget is kept by"


def test_attention_in_a_residual_branch_goes_with_it(find: partial[SubsetSpace]) -> None:
    space = find("Swin")
    (block,) = (block for block in space.prunable.blocks if "window.qkv" in block.members)
    whole, less = (
        space.workload(space.architecture_of(space.prunable.sizes | {block.name: kept})).cost.macs for kept in (1, 0)
    )
    assert whole - less == BESIDE["Swin"] + 4 * 16 * (48 + 16)


def test_what_nobody_can_count_is_named(find: partial[SubsetSpace]) -> None:
    space = find("Spectral")
    assert space.workload(space.architecture_of(space.prunable.sizes)).cost.not_counted == ("_fft_r2c",)
