"""The same network written in several ways has the same groups and blocks."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unas_hw.prunable.prunable import Prunable, prunable

from .pruned_networks import CLASSES, SHAPE

Spelling = Callable[["Net", Any], Any]
"""What is written in several ways; of tensors, which types of PyTorch do not know as well as it does itself."""


class Net(nn.Module):
    """A stem, what is written in several ways, and a head for 8 channels."""

    def __init__(self, spelling: Spelling) -> None:
        super().__init__()
        self.spelling = spelling
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one, self.other = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.wide, self.narrow = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 8, 1)
        self.squeeze, self.excite = nn.Linear(8, 4), nn.Linear(4, 8)
        self.layers = nn.ModuleList([nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)])
        self.chain = nn.Sequential(*self.layers)
        self.relu, self.quick = nn.ReLU(), nn.ReLU(inplace=True)
        self.drop, self.nothing, self.empty = nn.Dropout(0.3), nn.Identity(), nn.Sequential()
        self.glu, self.pool, self.shuffle = nn.GLU(1), nn.AdaptiveAvgPool2d(1), nn.ChannelShuffle(2)
        self.instance, self.path, self.swish = nn.InstanceNorm2d(8), DropPath(0.5), nn.SiLU()
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.spelling(self, F.relu(self.stem(x)))
        out: Tensor = self.fc(x if x.ndim == 2 else x.mean((2, 3)))
        return out


def drop_path(x: Tensor, share: float = 0.0, training: bool = False) -> Tensor:
    """As every second repository has it."""
    if share == 0.0 or not training:
        return x
    kept = 1 - share
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    return x.div(kept) * (kept + torch.rand(shape, dtype=x.dtype, device=x.device)).floor_()


class DropPath(nn.Module):
    """The same within a module."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * (torch.rand(x.shape[0], 1, 1, 1) > self.share) / (1 - self.share)


def residual(after: Callable[[Net, Any, Any], Any]) -> Spelling:
    """A block whose sum is written so."""
    return lambda net, x: after(net, x, net.other(net.relu(net.one(x))))


def excited(sizes: Callable[[Tensor], Any], view: Callable[[Any, Tensor], Tensor] | None = None) -> Spelling:
    """A residual block with squeeze and excitation, whose sizes are asked for so."""

    def written(net: Net, x: Any) -> Any:
        y = net.one(x)
        b, c, *_ = sizes(y)
        s = net.excite(F.relu(net.squeeze(y.mean((2, 3)).view(b, c)))).sigmoid()
        return x + y * (s.view(b, c, 1, 1) if view is None else view(y, s))

    return written


def excited_by_size(net: Net, x: Any) -> Any:
    y = net.one(x)
    b, c, _, _ = y.size()
    s = net.pool(y).view(b, c)
    s = torch.sigmoid(net.excite(net.relu(net.squeeze(s)))).view(b, c, 1, 1)
    return x + y * s.expand_as(y)


def excited_by_shape(net: Net, x: Any) -> Any:
    y = net.one(x)
    b, c = y.shape[:2]
    s = net.pool(y).view(b, c)
    s = torch.sigmoid(net.excite(net.relu(net.squeeze(s)))).view(b, c, 1, 1)
    return x + y * s


def outer_sizes(net: Net, x: Any) -> Any:
    b, c, h, w = x.size()
    y = net.one(x).view(b, -1, h, w)
    return (x + y).view(b, c, h, w)


def in_place(net: Net, x: Any) -> Any:
    y = net.one(x)
    y.relu_()
    y = net.other(y)
    y.add_(x)
    return y


def in_place_module(net: Net, x: Any) -> Any:
    y = net.one(x)
    net.quick(y)
    y = net.other(y)
    y += x
    return y


def looped(net: Net, x: Any) -> Any:
    for layer in net.layers:
        x = layer(x)
    return x


def indexed(net: Net, x: Any) -> Any:
    for place in range(len(net.layers)):
        x = net.layers[place](x)
    return x


def shuffled(net: Net, x: Any) -> Any:
    x = net.one(x)
    b, c, h, w = x.size()
    return net.other(x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, -1, h, w))


def shuffled_by_permute(net: Net, x: Any) -> Any:
    x = net.one(x)
    b, c, *rest = x.shape
    return net.other(x.reshape(b, 2, c // 2, *rest).permute(0, 2, 1, 3, 4).flatten(1, 2))


def iterated(net: Net, x: Any) -> Any:
    one, other = [part for part in net.wide(x).chunk(2, 1)]  # noqa: C416  # as some write it
    return one * other.sigmoid()


def kept_input(net: Net, x: Any) -> Any:
    before = x.clone()
    return net.other(net.quick(net.one(x))) + before


def asked(net: Net, x: Any) -> Any:
    if isinstance(x, Tensor):
        x = net.one(x)
    return x


def tokens(net: Net, x: Any) -> Any:
    return net.excite(F.relu(net.squeeze(x))).mean(1)


class Scaled(nn.Module):
    """Not the identity: it is looked into."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


SPELLINGS: dict[str, tuple[Spelling, ...]] = {
    "sums": (
        residual(lambda net, x, y: x + y),
        residual(lambda net, x, y: y + x),
        residual(lambda net, x, y: torch.add(x, y)),
        residual(lambda net, x, y: torch.add(x, y, alpha=1)),
        residual(lambda net, x, y: torch.add(input=x, other=y)),
        residual(lambda net, x, y: x.add(y)),
        residual(lambda net, x, y: y.add_(x)),
        residual(lambda net, x, y: operator.iadd(y, x)),  # type: ignore[no-untyped-call]
        residual(lambda net, x, y: sum([x, y])),
        residual(lambda net, x, y: net.nothing(x) + y),
        residual(lambda net, x, y: net.empty(x) + y),
        residual(lambda net, x, y: x.clone() + y),
        residual(lambda net, x, y: x.contiguous() + y),
        residual(lambda net, x, y: x + net.drop(y)),
        residual(lambda net, x, y: x + F.dropout(y, 0.3, net.training)),
        residual(lambda net, x, y: x + F.dropout(y, p=0.3, training=net.training, inplace=True)),
        residual(lambda net, x, y: x + torch.dropout(y, 0.3, net.training)),
        residual(lambda net, x, y: x + F.dropout2d(y, 0.3, net.training)),
        residual(lambda net, x, y: x + drop_path(y, 0.3, net.training)),
        residual(lambda net, x, y: x + drop_path(y, share=0.3, training=net.training)),
        residual(lambda net, x, y: x + net.path(y)),
        residual(lambda net, x, y: net.path(x) + y),
        residual(lambda net, x, y: x.__add__(y)),
        residual(lambda net, x, y: y.__iadd__(x)),
        residual(lambda net, x, y: x + 1.0 * y),
        residual(lambda net, x, y: torch.stack([x, y]).sum(0)),
        residual(lambda net, x, y: torch.sum(torch.stack((y, x), dim=-1), dim=-1)),
        *(in_place, in_place_module, kept_input),
    ),
    "squeeze and excitation": (
        *(excited_by_size, excited_by_shape),
        *(excited(lambda y: y.size()), excited(lambda y: y.shape), excited(lambda y: (len(y), y.size(1)))),
        *(excited(lambda y: (y.size()[0], y.shape[1])), excited(lambda y: (y.size(0), -1))),
        excited(lambda y: y.shape, lambda y, s: s[:, :, None, None]),
        excited(lambda y: y.shape, lambda y, s: s.unsqueeze(-1).unsqueeze(-1)),
        excited(lambda y: y.shape, lambda y, s: s.view(*y.shape[:2], 1, 1).expand_as(y)),
        excited(lambda y: y.shape, lambda y, s: s.reshape(len(s), -1, 1, 1)),
        excited(
            lambda y: y.shape,
            lambda y, s: s.view(s.size() + (1, 1)),  # noqa: RUF005  # as many write it
        ),
    ),
    "sizes of what comes in": (outer_sizes, lambda net, x: x + net.one(x)),
    "pooling": (
        lambda net, x: net.one(x).mean((2, 3)),
        lambda net, x: net.one(x).mean([2, 3]),
        lambda net, x: net.one(x).mean(dim=(-2, -1)),
        lambda net, x: net.one(x).mean(axis=(2, 3)),
        lambda net, x: torch.mean(net.one(x), dim=[2, 3]),
        lambda net, x: net.one(x).mean(-1).mean(-1),
        lambda net, x: net.one(x).mean(3).mean(2),
        lambda net, x: net.one(x).flatten(2).mean(2),
        lambda net, x: torch.flatten(net.pool(net.one(x)), 1),
        lambda net, x: net.pool(net.one(x)).view(x.size(0), -1),
        lambda net, x: net.pool(net.one(x)).squeeze(-1).squeeze(-1),
        lambda net, x: net.pool(net.one(x))[:, :, 0, 0],
        lambda net, x: net.pool(net.one(x)).reshape(len(x), -1),
        lambda net, x: F.adaptive_avg_pool2d(net.one(x), (1, 1)).flatten(1),
        lambda net, x: F.avg_pool2d(net.one(x), x.size()[2:]).flatten(start_dim=1),
        lambda net, x: net.one(x).sum((2, 3)) / (x.shape[2] * x.shape[3]),
    ),
    "maximum": (
        lambda net, x: net.one(x).amax((2, 3)),
        lambda net, x: net.one(x).max(-1)[0].max(-1)[0],
        lambda net, x: F.adaptive_max_pool2d(net.one(x), 1).flatten(1),
    ),
    "activations": (
        lambda net, x: net.other(F.relu(net.one(x))),
        lambda net, x: net.other(net.relu(net.one(x))),
        lambda net, x: net.other(net.quick(net.one(x))),
        lambda net, x: net.other(net.one(x).relu()),
        lambda net, x: net.other(net.one(x).relu_()),
        lambda net, x: net.other(torch.relu(net.one(x))),
        lambda net, x: net.other(torch.relu_(net.one(x))),
        lambda net, x: net.other(nn.ReLU()(net.one(x))),
        lambda net, x: net.other(net.one(x).clamp(min=0)),
        lambda net, x: net.other(torch.where(net.one(x) > 0, net.one(x), 0.0)),
        lambda net, x: net.other(net.one(x).to(torch.float32).type_as(x).relu()),
        lambda net, x: net.other(net.one(x.data)),
        lambda net, x: net.other(Scaled()(net.one(x))),
    ),
    "swish": (
        lambda net, x: net.other(net.swish(net.one(x))),
        lambda net, x: net.other(F.silu(net.one(x))),
        lambda net, x: net.other(F.silu(net.one(x), inplace=True)),
        lambda net, x: (lambda y: net.other(y * y.sigmoid()))(net.one(x)),
        lambda net, x: (lambda y: net.other(y.mul_(torch.sigmoid(y))))(net.one(x)),
    ),
    "gates": (
        lambda net, x: net.glu(net.wide(x)),
        lambda net, x: F.glu(net.wide(x), 1),
        lambda net, x: F.glu(net.wide(x), dim=1),
        lambda net, x: (lambda a, b: a * torch.sigmoid(b))(*net.wide(x).chunk(2, 1)),
        lambda net, x: (lambda y: y[:, : y.shape[1] // 2] * y[:, y.shape[1] // 2 :].sigmoid())(net.wide(x)),
        lambda net, x: (lambda y: (lambda a, b: a * b.sigmoid())(*y.split(y.size(1) // 2, 1)))(net.wide(x)),
        iterated,
    ),
    "joined": (
        lambda net, x: net.narrow(torch.cat([net.one(x), net.other(x)], 1)),
        lambda net, x: net.narrow(torch.cat((net.one(x), net.other(x)), dim=1)),
        lambda net, x: net.narrow(torch.concat([net.one(x), net.other(x)], 1)),
        lambda net, x: net.narrow(torch.concatenate([net.one(x), net.other(x)], dim=1)),
        lambda net, x: net.narrow(torch.hstack([net.one(x), net.other(x)])),
    ),
    "lists": (looped, indexed, lambda net, x: net.chain(x), lambda net, x: net.layers[1](net.layers[0](x))),
    "shuffling": (
        shuffled,
        shuffled_by_permute,
        lambda net, x: net.other(net.shuffle(net.one(x))),
        lambda net, x: net.other(torch.channel_shuffle(net.one(x), 2)),
    ),
    "transposing": (
        lambda net, x: tokens(net, net.one(x).flatten(2).transpose(1, 2)),
        lambda net, x: tokens(net, net.one(x).flatten(2).permute(0, 2, 1)),
        lambda net, x: tokens(net, net.one(x).flatten(2).mT),
    ),
    "instance normalisation": (
        lambda net, x: net.other(net.instance(net.one(x))),
        lambda net, x: net.other(F.instance_norm(net.one(x))),
    ),
    "what it is": (asked, lambda net, x: net.one(x)),
}


def units(found: Prunable) -> tuple[object, ...]:
    """What can be left out, whatever it is called."""

    def weighted(path: str) -> bool:
        return next(found.network.get_submodule(path).parameters(), None) is not None

    return (
        [(group.name, group.size, group.unit, *filter(weighted, group.members)) for group in found.groups],
        [block.members for block in found.blocks],
    )


CASES = [(name, each) for name, every in SPELLINGS.items() for each in range(len(every))]


@cache
def first(name: str) -> tuple[object, ...]:
    return units(prunable(Net(SPELLINGS[name][0]), SHAPE))


@pytest.mark.parametrize(("name", "place"), CASES, ids=[f"{name}-{place}" for name, place in CASES])
def test_the_same_network_is_pruned_the_same(name: str, place: int) -> None:
    assert units(prunable(Net(SPELLINGS[name][place]), SHAPE)) == first(name)


def test_what_they_are_is_known() -> None:
    """So that the spellings are not the same in nothing being found."""
    stem, one = ("stem", 8, 1, "stem", "other"), ("one", 8, 1, "one")
    assert first("sums") == ([stem, one], [("one", "other")])
    excited = [("stem", 8, 1, "stem", "one", "excite"), ("squeeze", 4, 1, "squeeze")]
    assert first("squeeze and excitation") == (excited, [("one", "squeeze", "excite")])
    assert first("gates") == ([("stem", 8, 1, "stem"), ("wide", 8, 2, "wide")], [])
    free = {name: len(first(name)[0]) for name in SPELLINGS}  # type: ignore[arg-type]
    assert free == {
        **{"sums": 2, "squeeze and excitation": 2, "sizes of what comes in": 1, "pooling": 2, "maximum": 2},
        **{"activations": 3, "swish": 3, "gates": 2, "joined": 4, "lists": 3, "shuffling": 2, "transposing": 4},
        **{"instance normalisation": 3, "what it is": 2},
    }


@pytest.mark.parametrize(
    "dropped",
    [
        lambda net, x: F.dropout(net.one(x), 0.5, net.training),
        lambda net, x: torch.dropout(net.one(x), 0.5, net.training),
        lambda net, x: drop_path(net.one(x), 0.5, net.training),
        lambda net, x: net.path(net.one(x)),
        lambda net, x: net.drop(net.one(x)),
    ],
)
def test_what_is_done_in_training_only_is_done_in_training_only(dropped: Spelling) -> None:
    network = Net(dropped).eval()
    found, images = prunable(network, SHAPE), torch.randn(8, *SHAPE)
    masks = found.first({"one": 3})
    masked, slim = found.masked(network, masks), found.slimmed(masks)
    torch.testing.assert_close(slim(images), masked(images))
    torch.testing.assert_close(slim(images), slim(images))
    network.train()
    slim.train()
    for run in (masked, slim):
        assert not torch.equal(run(images), run(images))


def test_what_is_done_in_place_in_a_statement_is_part_of_the_layer_before() -> None:
    written, stated = (prunable(Net(each), SHAPE) for each in (SPELLINGS["sums"][6], in_place))
    assert [layer.shape.act for layer in stated.layers] == [layer.shape.act for layer in written.layers]
    assert [layer.shape.act for layer in stated.layers][:2] == ["relu", "relu"]
