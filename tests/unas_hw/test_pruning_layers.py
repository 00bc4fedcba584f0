"""Layers as tables know them, and what they cost at widths that need not be whole numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unas_hw.ops.drop_path import DropPath
from unas_hw.ops.mbconv import conv_bn
from unas_hw.prunable.layers import Layer
from unas_hw.prunable.prunable import Prunable, prunable
from unas_hw.spaces.building import Chain

from .pruned_networks import SHAPE, DenseNet, GroupedConvolution, Head, MobileNet, Vgg


class Two(nn.Module):
    """Two layers of which a test says what follows the first."""

    def __init__(self, after: Callable[[Tensor], Tensor] | None = None, **options: Any) -> None:
        super().__init__()
        settings: dict[str, Any] = {"kernel_size": 3, "padding": 1} | options
        self.first = nn.Conv2d(3, 4, **settings)
        self.second = nn.Conv2d(4, 6, 1)
        self.head = Head(6)
        self.after = after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.second(self.after(self.first(x))))
        return out


def keys(found: Prunable) -> dict[str, str]:
    return {layer.path: layer.workload(*layer.widths(found.sizes)).key for layer in found.layers}


def layer_of(found: Prunable, path: str) -> Layer:
    return next(layer for layer in found.layers if layer.path == path)


def test_an_ordinary_convolution_is_the_row_that_other_spaces_have() -> None:
    network = nn.Sequential(conv_bn(3, 8, kernel=3), conv_bn(8, 16, kernel=1, stride=2, act=False), Head(16))
    chain = Chain("any", image_size=12, channels=3)
    chain.fixed("first", chain.conv(8, kernel=3))
    chain.fixed("second", chain.conv(16, kernel=1, stride=2, act=False))
    expected = [key for layer in chain.layers for key in [next(iter(layer.candidates.values()))] if key is not None]
    assert list(keys(prunable(network, SHAPE)).values())[:2] == [row.key for row in expected]


@pytest.mark.parametrize(
    ("after", "attrs"),
    [
        (nn.ReLU(inplace=True), "act=relu,"),
        (F.silu, "act=silu,"),
        (torch.tanh, "act=tanh,"),
        (nn.LeakyReLU(), "act=none,"),
        (lambda x: F.relu(x) + x, "act=none,"),
        (lambda x: x.relu(), "act=relu,"),
        (nn.GELU(approximate="tanh"), "act=none,"),
    ],
)
def test_an_activation_is_part_of_the_row_that_it_follows_alone(after: Callable[[Tensor], Tensor], attrs: str) -> None:
    found = prunable(Two(after), SHAPE)
    assert keys(found)["first"] == f"conv[{attrs}bias=1,kernel=3,norm=none,out=4,stride=1]@1x3x12x12:float32"


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({}, "kernel=3,norm=none,out=4,stride=1"),
        ({"padding": "same"}, "kernel=3,norm=none,out=4,stride=1"),
        ({"padding": "valid"}, "kernel=3,norm=none,out=4,padding=0,stride=1"),
        ({"padding": (1, 2), "kernel_size": (3, 5)}, "kernel=3x5,norm=none,out=4,stride=1"),
        ({"padding": "same", "kernel_size": 2, "dilation": 2}, "dilation=2,kernel=2,norm=none,out=4,stride=1"),
        ({"padding_mode": "circular"}, "kernel=3,norm=none,out=4,padding_mode=circular,stride=1"),
        ({"padding": 2, "dilation": 2}, "dilation=2,kernel=3,norm=none,out=4,padding=2,stride=1"),
    ],
)
def test_whatever_makes_a_convolution_slower_is_in_its_key(options: dict[str, Any], key: str) -> None:
    found = prunable(Two(**options), SHAPE)
    assert keys(found)["first"] == f"conv[act=none,bias=1,{key}]@1x3x12x12:float32"
    layer = layer_of(found, "first")
    assert layer.workload(3, 2).build()(torch.zeros(1, *SHAPE)).shape[1] == 2


def test_depthwise_and_grouped_convolutions_and_norms_have_rows_of_their_own() -> None:
    assert keys(prunable(MobileNet(), SHAPE))["blocks.0.layers.1.0"] == (
        "depthwise_conv[act=relu,kernel=3,out=18,stride=1]@1x18x6x6:float32"
    )
    grouped = keys(prunable(GroupedConvolution(), SHAPE))["middle.0"]
    assert grouped == "conv[act=relu,groups=4,kernel=3,out=16,stride=1]@1x8x12x12:float32"
    assert keys(prunable(DenseNet(), SHAPE))["layers.1.norm"] == "batchnorm2d[act=relu]@1x10x12x12:float32"
    linear = keys(prunable(Vgg(), SHAPE))["classifier.0"]
    assert linear == "linear[act=relu,bias=1,norm=batchnorm1d,out=10]@1x72:float32"


def test_costs_of_soft_widths_have_gradients() -> None:
    layer = layer_of(prunable(DenseNet(), SHAPE), "layers.1.conv")
    counts = {name: torch.tensor(2.5, requires_grad=True) for name in ("stem", "layers.0.conv", "layers.1.conv")}
    n_in, n_out = layer.widths(counts)
    assert (float(n_in), float(n_out)) == (5.0, 2.5)
    macs, params = layer.macs(n_in, n_out), layer.params(n_in, n_out)
    assert float(macs) == 144 * 9 * 5 * 2.5 and float(params) == 9 * 5 * 2.5 + 2.5
    assert isinstance(macs, Tensor)
    macs.backward()
    assert [float(count.grad or 0) for count in counts.values()] == [144 * 9 * 2.5] * 2 + [144 * 9 * 5]


class Dropped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.path, self.head = DropPath(), Head(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out: Tensor = self.head(x + self.path(self.branch(x)))
        return out


def test_drop_path_stays_in_the_branch_and_goes_with_it() -> None:
    found = prunable(Dropped(), SHAPE)
    (block,) = found.blocks
    assert isinstance(found.slimmed(found.first({"stem": 2})).get_submodule("path"), DropPath)
    assert not any(isinstance(each, DropPath) for each in found.slimmed(found.first({block.name: 0})).modules())
