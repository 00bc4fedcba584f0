"""A user's function is told what its parameters mean, one word for one meaning, and it is said what it was told."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from unas_hw.errors import PruningError, SpaceError
from unas_hw.spaces import find_space
from unas_hw.spaces.arguments import CHANNELS, CLASSES, SIZE, arguments
from unas_hw.spaces.factories import load_factory
from unas_hw.spaces.subset import SubsetSpace

GIVEN = {CLASSES: 7, CHANNELS: 2, SIZE: 24}


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Made(nn.Module):
    def __init__(self, n_classes: int, in_chans: int = 3, width: int = 8) -> None:
        super().__init__()


def annotated(num_classes: "int", names: "list[str] | None" = None) -> None: ...  # noqa: UP037


def by_place(classes: int, depth: int = 2, in_channels: int = 3, /, *, width: int = 4) -> tuple[int, int, int, int]:
    return classes, depth, in_channels, width


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda num_classes, in_channels=1, channels=32: None, {"num_classes": 7, "in_channels": 2}),
        (lambda classes, channels: None, {"classes": 7, "channels": 2}),
        (lambda classes=10, channels=1: None, {"classes": 7, "channels": 2}),
        (lambda classes, channels=32: None, {"classes": 7}),
        (lambda classes, n_channels=3: None, {"classes": 7, "n_channels": 2}),
        (lambda classes, num_channels=64, in_ch=3: None, {"classes": 7, "in_ch": 2}),
        (lambda classes, in_channels=64, channels=3: None, {"classes": 7, "channels": 2}),
        (lambda nclass=10, in_chans=3, img_size=224: None, {"nclass": 7, "in_chans": 2, "img_size": 24}),
        (lambda n_classes, input_channels=3, image_size=(32, 32): None, {
            "n_classes": 7, "input_channels": 2, "image_size": (24, 24)
        }),
        (lambda num_labels=2, input_size=784: None, {"num_labels": 7}),
        (lambda numClasses=10, inChannels=3: None, {"numClasses": 7, "inChannels": 2}),
        (lambda n_outputs, n_channels: None, {"n_outputs": 7, "n_channels": 2}),
        (lambda num_classes, out_features=128: None, {"num_classes": 7}),
        (lambda out_dim=128: None, {}),
        (lambda num_classes, num_labels=3: None, {"num_classes": 7}),
        (lambda classes=("cat", "dog"), num_classes=10: None, {"num_classes": 7}),
        (lambda num_classes=None, pretrained=True, weights="DEFAULT": None, {"num_classes": 7}),
        (lambda *args, **kwargs: None, {}),
        (lambda num_classes, *sizes, **more: None, {"num_classes": 7}),
        (Made, {"n_classes": 7, "in_chans": 2}),
        (partial(Made, in_chans=1, width=16), {"n_classes": 7, "in_chans": 2}),
        (partial(Made, 5), {"in_chans": 2}),
        (decorated(lambda num_classes, width=8: None), {"num_classes": 7}),
        (annotated, {"num_classes": 7}),
        (by_place, {"classes": 7, "depth": 2, "in_channels": 2}),
    ],
)  # fmt: skip
def test_a_word_has_one_meaning_and_is_taken_where_it_has_no_other(
    function: Callable[..., Any], told: dict[str, Any]
) -> None:
    found = arguments(function, "build", GIVEN)
    assert found.values == told
    assert found.words("build") == f"build({', '.join(f'{name}={value}' for name, value in told.items())})"


def test_what_is_told_by_place_is_told_by_place() -> None:
    assert arguments(by_place, "by_place", GIVEN).call(by_place) == (7, 2, 2, 4)


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda num_classes, depth: None, "nothing says what 'depth' of build is"),
        (lambda num_classes, in_channels, channels: None, "nothing says what 'channels' of build is"),
        (lambda num_classes, pretrained: None, "nothing says what 'pretrained' of build is"),
        (lambda num_classes, *, width: None, "nothing says what 'width' of build is"),
        (lambda in_channels, out_channels: None, "nothing says what 'out_channels' of build is"),
        (lambda input_size, num_classes: None, "nothing says what 'input_size' of build is"),
        (lambda nc: None, "nothing says what 'nc' of build is"),
        (lambda num_classes, n_classes: None, "num_classes and n_classes of build could both be the classes"),
        (lambda c=1, in_channels=3, in_chans=3: None, "in_channels and in_chans of build could both be the channels"),
    ],
)
def test_what_can_be_read_in_several_ways_or_in_none_is_refused(function: Callable[..., Any], what: str) -> None:
    with pytest.raises(SpaceError, match=what) as error:
        arguments(function, "build", GIVEN)
    assert "def build(" in error.value.mend


NETWORK = """
from functools import partial

import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self, classes, inputs, width):
        super().__init__(
            nn.Conv2d(inputs, width, 3), nn.ReLU(), nn.Conv2d(width, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(6, classes),
        )
"""


def opened(text: str, function: str = "build") -> SubsetSpace:
    Path("net.py").write_text(NETWORK + text)
    space = find_space(f"subset:net.py:{function}", image_shape=(3, 10, 10), classes=10)
    assert isinstance(space, SubsetSpace)
    return space


def test_the_width_is_not_the_channels_of_the_images() -> None:
    space = opened(
        "def width(num_classes, in_channels=1, channels=32): return Net(num_classes, in_channels, channels)", "width"
    )
    assert space.told == "width(num_classes=10, in_channels=3)"
    assert space.prunable.sizes == {"0": 32, "2": 6}


def test_a_width_that_has_to_be_told_is_not_told_the_channels() -> None:
    with pytest.raises(SpaceError, match=r"build\(num_classes=10, channels=3\) takes images of 3 channels whatever"):
        opened("def build(num_classes, channels): return Net(num_classes, 3, channels)")
    assert opened("def build(num_classes, channels): return Net(num_classes, channels, 8)").prunable.sizes["0"] == 8


def test_channels_that_are_not_used_do_no_harm() -> None:
    text = """
def build(classes, channels):
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(classes))
"""
    space = opened(text)
    assert space.prunable.sizes == {"0": 8}
    assert [type(each).__name__ for each in space.prunable.network.children()][::4] == ["Conv2d", "Linear"]
    network = space.network(space.parse("3"))
    assert network.get_parameter("0.weight").shape == (3, 3, 3, 3)


@pytest.mark.filterwarnings("ignore")  # of torch.compile, which is deprecated by itself
@pytest.mark.parametrize(
    "text",
    [
        "build = lambda num_classes, in_channels: Net(num_classes, in_channels, 8)",
        "build = partial(Net, width=8, inputs=3)",
        "def build(classes, channels): return nn.DataParallel(Net(classes, channels, 8))",
        pytest.param(
            "def build(classes, channels): return torch.compile(Net(classes, channels, 8))", marks=pytest.mark.slow
        ),
        "build = type('Net2', (Net,), {'__init__': lambda self, classes: Net.__init__(self, classes, 3, 8)})",
    ],
)
def test_whatever_makes_a_network_is_called(text: str) -> None:
    space = opened(text)
    assert space.prunable.sizes == {"0": 8, "2": 6}
    assert set(space.network(space.parse("8,6")).state_dict()) == {
        f"{place}.{name}" for place in (0, 2, 5) for name in ("weight", "bias")
    }


@pytest.mark.parametrize(
    ("text", "error", "what"),
    [
        ("build = Net(10, 3, 8)", SpaceError, "build of net.py is a network, not a function that makes one"),
        ("def build(classes): return Net", SpaceError, "gives type, no network"),
        ("def build(classes): return Net(classes, 3, 8), None", SpaceError, "gives tuple, no network"),
        ("build = 3", SpaceError, "has no function 'build'"),
        ("def build(classes, depth): ...", SpaceError, "net.py: nothing says what 'depth' of build is"),
        ("def build(): return Net(4, 3, 8)", SpaceError, r"gives 4 outputs, there are 10 classes; .* as build\(\)"),
        ("def build(**more): return Net(more.get('num_classes', 2), 3, 8)", SpaceError, "gives 2 outputs"),
        ("def build(classes, channels=8): return Net(classes, channels, 4)", PruningError, "expected input.* 8 chan"),
        ("raise SystemExit('no arguments')", SpaceError, "net.py, line 13: SystemExit: no arguments"),
        ("def build(classes): raise SystemExit", SpaceError, "net.py, line 13: SystemExit"),
        ("IMAGE_SHAPE = (32, 32)\nbuild = Net", SpaceError, r"IMAGE_SHAPE is \(32, 32\), not channels, height"),
        ("IMAGE_SHAPE = (32, 32, 3)\nbuild = Net", SpaceError, r"IMAGE_SHAPE is \(32, 32, 3\), not channels"),
        ("CLASSES = 2.5\nbuild = Net", SpaceError, "CLASSES is 2.5, no number"),
        ("build = print", SpaceError, "gives NoneType, no network"),
    ],
)
def test_what_makes_no_network_for_these_images_is_refused_in_a_line(
    text: str, error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what) as caught:
        opened(text)
    assert "\n" not in str(caught.value).partition("\n  mend:")[0]


def test_the_names_of_the_classes_are_their_number() -> None:
    Path("net.py").write_text(NETWORK + "CLASSES, IMAGE_SHAPE = ['cat', 'dog'], [3, 9, 9]\nbuild = Net")
    factory = load_factory("net.py")
    assert (factory.classes, factory.image_shape) == (2, (3, 9, 9))
