"""Which channels go together, which stay, and why: architecture by architecture."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unas_hw.errors import PruningError
from unas_hw.prunable.layers import Segment
from unas_hw.prunable.prunable import CHANGES, Prunable, prunable

from . import pruned_networks as networks
from .pruned_networks import SHAPE, Head


def groups(found: Prunable) -> dict[str, tuple[int, int]]:
    return {group.name: (group.size, group.unit) for group in found.groups}


def reasons(found: Prunable) -> dict[str, str]:
    return {each.layer: each.reason for each in found.kept}


def members(found: Prunable, name: str) -> tuple[str, ...]:
    return next(group.members for group in found.groups if group.name == name)


def test_what_shortcuts_add_goes_together_and_the_middle_of_a_block_is_its_own() -> None:
    found = prunable(networks.ResNet(), SHAPE)
    assert groups(found) == {
        **{"stem.0": (8, 1), "blocks.0.conv1": (8, 1), "blocks.1.conv1": (8, 1)},
        **{"blocks.2.conv1": (12, 1), "blocks.2.conv2": (12, 1), "blocks.3.conv1": (12, 1)},
    }
    both = ("stem.0", "stem.1", "blocks.0.conv2", "blocks.0.bn2", "blocks.1.conv2", "blocks.1.bn2")
    assert members(found, "stem.0") == both
    assert {"blocks.2.shortcut.0", "blocks.2.shortcut.1", "blocks.3.bn2"} < set(members(found, "blocks.2.conv2"))
    shortcut = "its shortcut is not what the branch begins with"
    assert reasons(found) == {"head.fc": "they are the network's outputs", "blocks.2": shortcut}


def test_a_block_is_droppable_where_its_shortcut_is_the_identity() -> None:
    found = prunable(networks.ResNet(), SHAPE)
    assert [(block.name, block.members) for block in found.blocks] == [
        (f"blocks.{place}", (f"blocks.{place}.conv1", f"blocks.{place}.conv2")) for place in (0, 1, 3)
    ]
    inside = {layer.path: layer.blocks for layer in found.layers}
    assert inside["blocks.3.conv2"] == ("blocks.3",) and inside["blocks.2.conv2"] == inside["stem.0"] == ()


def test_depthwise_convolutions_have_the_channels_of_their_input() -> None:
    found = prunable(networks.MobileNet(), SHAPE)
    assert members(found, "blocks.0.layers.0.0") == tuple(f"blocks.0.layers.{k}.{j}" for k in (0, 1) for j in (0, 1))
    assert "twice" in members(found, "blocks.1.layers.2.0")
    twice = next(layer for layer in found.layers if layer.path == "twice")
    assert twice.own and twice.widths({"blocks.1.layers.2.0": 3}) == (3, 6)
    assert [block.name for block in found.blocks] == ["blocks.0", "blocks.2"]


def test_a_concatenation_is_read_in_segments() -> None:
    found = prunable(networks.DenseNet(), SHAPE)
    parts = [("stem", 6), ("layers.0.conv", 4), ("layers.1.conv", 4), ("layers.2.conv", 4)]
    last = next(layer for layer in found.layers if layer.path == "transition.2")
    assert last.inputs == tuple(Segment(name, size, size) for name, size in parts)
    norm = next(layer for layer in found.layers if layer.path == "transition.0")
    assert norm.widths({"stem": 1, "layers.1.conv": 2}) == (11, 11) and norm.params(11, 11) == 22


def test_squeeze_and_excitation_goes_with_what_it_multiplies() -> None:
    found = prunable(networks.SqueezeExcitation(), SHAPE)
    assert groups(found) == {"conv.0": (8, 1), "squeeze": (4, 1)}
    assert members(found, "conv.0") == ("conv.0", "conv.1", "excite")
    assert reasons(found)["where"] == "mul: it meets every channel of another tensor"


def test_a_layer_at_two_places_has_the_channels_of_both() -> None:
    found = prunable(networks.SharedLayer(), SHAPE)
    assert members(found, "stem") == ("stem", "shared", "first", "second")
    assert [(layer.path, layer.again) for layer in found.layers if layer.path == "shared"] == [
        ("shared", False), ("shared", True)
    ]  # fmt: skip


def test_attention_keeps_what_it_reads_and_writes() -> None:
    found = prunable(networks.Transformer(), SHAPE)
    assert groups(found) == {"encoder.up": (16, 1)} and [block.name for block in found.blocks] == ["encoder"]
    assert set(reasons(found)) == {"patches", "encoder.down", "encoder.attention", "fc", "encoder#2"}
    assert reasons(found)["encoder.attention"] == "what MultiheadAttention does to channels is not known"
    assert reasons(found)["encoder#2"] == "nothing in it is a layer that is understood, only encoder.attention"
    by_hand = prunable(networks.HandwrittenAttention(), SHAPE)
    assert groups(by_hand) == {"out": (8, 1), "hidden": (10, 1)}
    assert reasons(by_hand)["stem.0"] == "reshape: it is written for this number of channels"


def test_groups_of_a_convolution_keep_as_many_channels_each() -> None:
    found = prunable(networks.GroupedConvolution(), SHAPE)
    assert groups(found) == {"stem.0": (2, 4), "middle.0": (4, 4), "last.0": (6, 1)}
    middle = next(layer for layer in found.layers if layer.path == "middle.0")
    assert middle.widths({"stem.0": 1, "middle.0": 3}) == (4, 12)
    slim = found.slimmed(found.first({"stem.0": 1, "middle.0": 3}))
    weight = found.network.get_parameter("middle.0.weight")
    assert torch.equal(slim.get_parameter("middle.0.weight"), weight.view(4, 4, 2, 3, 3)[:, :3, :1].flatten(0, 1))


def test_channels_that_are_shuffled_among_groups_stay() -> None:
    found = prunable(networks.ShuffleNet(), SHAPE)
    assert groups(found) == {"stem.0": (4, 3), "right.0": (6, 1), "last.0": (8, 1)}
    assert reasons(found)["first.0"] == "all of its channels go together"
    assert reasons(found)["second.0"] == "chunk: it is written for this number of channels"


def test_halves_that_are_multiplied_lose_the_same_channels() -> None:
    found = prunable(networks.GatedUnit(), SHAPE)
    assert groups(found) == {"both": (6, 2), "up": (8, 1)}
    assert members(found, "up") == ("up", "own", "norm", "slope")
    assert found.slimmed(found.first({"both": 2})).get_submodule("both").out_channels == 4


def test_a_flattened_image_has_several_places_for_a_channel() -> None:
    found = prunable(networks.Vgg(), SHAPE)
    assert found.layers[2].inputs == (Segment("features.2.0", 8, 8, repeat=9),)
    assert groups(found) == {"features.0.0": (6, 1), "features.2.0": (8, 1), "classifier.0": (10, 1)}


@pytest.mark.parametrize(
    ("network", "free", "layer", "reason"),
    [
        (networks.NormedInGroups, {"second"}, "first", "norm: GroupNorm takes its statistics over several channels"),
        (networks.HardCoded, {"free"}, "viewed", "view: it is written for this number of channels"),
        (networks.HardCoded, {"free"}, "sliced", "getitem: it is written for this number of channels"),
        (networks.CountsChannels, {"free"}, "scaled", "truediv: it calculates with the number of channels"),
        (networks.CountsChannels, {"free"}, "decides", "eq: the network decides by the number of channels"),
        (networks.TiedWeights, {"free"}, "one", "one: it shares its weights with other"),
        (networks.TiedWeights, {"free"}, "first", "one: it shares its weights with other"),
        (networks.PreActivation, {"stem"}, "add_1", "what it does in place changes what it is added to"),
    ],
)
def test_what_would_break_stays_and_says_why(
    network: Callable[[], nn.Module], free: set[str], layer: str, reason: str
) -> None:
    found = prunable(network(), SHAPE)
    assert set(groups(found)) == free and reasons(found)[layer] == reason


class _Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 6, 3, padding=1)
        self.head = Head(6)

    def between(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.between(F.relu(self.first(x)))
        out: Tensor = self.head(F.relu(self.third(F.relu(self.second(x)))))
        return out


class _ReadsWeights(_Plain):
    def between(self, x: Tensor) -> Tensor:
        return x + self.first.weight.sum()


class _HasParameter(_Plain):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(8, 1, 1))

    def between(self, x: Tensor) -> Tensor:
        return x * self.scale


class _Softmax(_Plain):
    def between(self, x: Tensor) -> Tensor:
        return x.softmax(1)


class _MeanOfChannels(_Plain):
    def between(self, x: Tensor) -> Tensor:
        return x * x.mean(1, keepdim=True)


class _Hooked(_Plain):
    def __init__(self) -> None:
        super().__init__()
        self.first.register_forward_hook(lambda module, inputs, output: output.roll(1, 1))


class _Parametrized(_Plain):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.utils.parametrizations.weight_norm(self.first)


class _OwnConvolution(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight.abs(), self.bias, padding=1)


class _Rewritten(_Plain):
    def __init__(self) -> None:
        super().__init__()
        self.first = _OwnConvolution(3, 8, 3, padding=1)


class _PadsChannels(_Plain):
    def between(self, x: Tensor) -> Tensor:
        return x + F.pad(x[:, 4:], (0, 0, 0, 0, 2, 2))


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (_ReadsWeights, "first: sum reads its weights itself"),
        (_HasParameter, "mul: it meets a tensor whose channels stay"),
        (_Softmax, "softmax: what softmax does to channels is not known"),
        (_MeanOfChannels, "mean: mean mixes channels"),
        (_Hooked, "first: Conv2d has hooks or parametrizations"),
        (_PadsChannels, "add: it meets a tensor whose channels stay"),
    ],
)
def test_what_touches_channels_in_another_way_keeps_them(network: Callable[[], nn.Module], reason: str) -> None:
    found = prunable(network(), SHAPE)
    assert set(groups(found)) == {"second", "third"} and reasons(found)["first"] == reason


@pytest.mark.parametrize("network", [_Parametrized, _Rewritten])
def test_a_layer_that_is_not_pytorchs_own_stays(network: Callable[[], nn.Module]) -> None:
    assert set(groups(prunable(network(), SHAPE))) == {"second", "third"}


class _InPlaceLater(nn.Module):
    """Without its branch the sum is its input itself, which is then changed before it is read again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        out: Tensor = self.head(torch.relu_(x + self.branch(x)) + self.again(x))
        return out

    def again(self, x: Tensor) -> Tensor:
        return x


def test_a_sum_that_is_changed_in_place_is_not_replaced_by_what_is_read_again() -> None:
    found = prunable(_InPlaceLater(), SHAPE)
    assert set(groups(found)) == {"first"} and [block.name for block in found.blocks] == ["add_1"]
    assert reasons(found)["add"] == "what is done to the sum in place would change what is read again"


class _Alias(_InPlaceLater):
    """The same, but what is read again goes by another name."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        same = x[:]
        out: Tensor = self.head(torch.relu_(same + self.branch(same)) - x)
        return out


def test_what_only_shows_in_numbers_is_found_by_numbers() -> None:
    found = prunable(_Alias(), SHAPE)
    assert set(groups(found)) == {"first"} and not found.blocks
    assert reasons(found)["add"] == CHANGES


class _DependsOnValues(networks.Chain):
    def forward(self, x: Tensor, logits: bool = True) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


class _DependsOnBatch(networks.Vgg):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x).view(2, -1))
        return out


class _NoiseInTraining(networks.Vgg):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x + torch.randn_like(x)
        return super().forward(x)


class _GivesMaps(networks.Chain):
    def forward(self, x: Tensor, logits: bool = True) -> Tensor:
        out: Tensor = self.second(self.first(x))
        return out


class _OnlyLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(432, networks.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x.flatten(1))
        return out


@pytest.mark.parametrize(
    ("network", "what"),
    [
        (_DependsOnValues, "what it does depends on the values of a tensor"),
        (_DependsOnBatch, "classifier.0 of _DependsOnBatch cannot be traced with 3x3x12x12: mat1 and mat2"),
        (_NoiseInTraining, "features.0.0 of _NoiseInTraining: training changes what it does"),
        (_GivesMaps, "_GivesMaps gives 2x10x5x8 for 2 images"),
        (_OnlyLinear, "nothing of _OnlyLinear can be left out: fc: they are the network's outputs"),
    ],
)
def test_a_network_that_cannot_be_pruned_is_refused_with_the_reason(
    network: Callable[[], nn.Module], what: str
) -> None:
    with pytest.raises(PruningError, match=re.escape(what)):
        prunable(network(), SHAPE)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(PruningError, match=r"stem\.0 of ResNet cannot be traced with 2x1x8x8"):
        prunable(networks.ResNet(), (1, 8, 8))


class _Transient(_Plain):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] > 2:
            x = x * 2
        return super().forward(x)


def test_a_decision_by_the_number_of_images_is_refused() -> None:
    with pytest.raises(PruningError, match="the number of images is part of what it does"):
        prunable(_Transient(), SHAPE)


class _UsedTwice(_InPlaceLater):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        branch = self.branch(x)
        out: Tensor = self.head((x + branch) * branch)
        return out


def test_a_branch_that_is_for_something_else_too_is_no_block() -> None:
    found = prunable(_UsedTwice(), SHAPE)
    assert not found.blocks and set(reasons(found)) == {"head.fc", "add"}
    assert reasons(found)["add"] == "branch in it is read by mul too"
