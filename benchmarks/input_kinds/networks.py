"""Networks of one's own: functions that make them, spellings of one network, and what cannot be pruned."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.input_kinds.judging import REFUSED, Inputs, said
from unas_hw.spaces import SUBSET, find_space
from unas_hw.spaces.subset import SubsetSpace

# Parameters, and which of them are channels of the images, width and classes in the body.
FACTORIES: dict[str, tuple[str, str, str]] = {
    "classes, channels": ("channels", "16", "classes"),
    "num_classes, in_channels": ("in_channels", "16", "num_classes"),
    "num_classes, in_chans=1": ("in_chans", "16", "num_classes"),
    "n_classes, input_channels=1": ("input_channels", "16", "n_classes"),
    "num_classes=10": ("3", "16", "num_classes"),
    "num_classes, in_channels=1, channels=16": ("in_channels", "channels", "num_classes"),
    "num_classes, in_channels=1, width=16": ("in_channels", "width", "num_classes"),
    "**kwargs": ("3", "16", "10"),
    "num_classes, *, in_channels": ("in_channels", "16", "num_classes"),
    "num_classes, in_channels, /": ("in_channels", "16", "num_classes"),
    "num_labels=10, num_channels=3": ("num_channels", "16", "num_labels"),
    "": ("3", "16", "10"),
    "num_classes, in_channels=1, image_size=32": ("in_channels", "16", "num_classes"),
    "num_classes, pretrained=False": ("3", "16", "num_classes"),
}
UNKNOWN = "num_classes, depth", "config"
FACTORY = """
from torch import nn


def build({parameters}):
    return nn.Sequential(
        nn.Conv2d({channels}, {width}, 3), nn.ReLU(), nn.Conv2d({width}, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, {classes}),
    )
"""
NETWORK = """
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.one, self.two = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.norm, self.act = nn.BatchNorm2d(width), nn.ReLU()
        self.down, self.up = nn.Linear(width, 4), nn.Linear(4, width)

    def forward(self, x):
        y = {inner}
        {squeeze}
        return {add}


class Net(nn.Module):
    def __init__(self, classes, channels, width=16):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = {blocks}
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.stem(x)
        {through}
        return self.head({pooled})


def build(classes, channels):
    return Net(classes, channels)
"""
PLAIN = {
    "inner": "self.two(self.act(self.norm(self.one(x))))", "squeeze": "pass", "add": "x + y",
    "blocks": "nn.Sequential(Block(width), Block(width))", "through": "x = self.blocks(x)", "pooled": "x.mean((2, 3))",
}  # fmt: skip
SPELLINGS = {
    "inner": (
        "self.two(F.relu(self.norm(self.one(x))))", "self.two(torch.relu(self.norm(self.one(x))))",
        "self.two(self.norm(self.one(x)).relu())", "self.two(self.norm(self.one(x)).relu_())",
        "self.two(F.relu(self.norm(self.one(x)), inplace=True))",
        "self.two(torch.clamp(self.norm(self.one(x)), min=0))",
        "self.two(F.dropout(self.act(self.norm(self.one(x))), 0.1, self.training))",
    ),
    "add": ("y + x", "torch.add(x, y)", "x.add(y)", "y.add_(x)", "y.__add__(x)", "x + 1.0 * y"),
    "through": ("for block in self.blocks:\n            x = block(x)", "x = self.blocks[1](self.blocks[0](x))"),
    "pooled": (
        "x.mean([2, 3])", "x.mean(dim=(-2, -1))", "F.adaptive_avg_pool2d(x, 1).flatten(1)", "x.flatten(2).mean(2)",
        "torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)", "F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1)",
        "F.adaptive_avg_pool2d(x, 1).view(x.shape[0], -1)", "F.adaptive_avg_pool2d(x, 1).reshape(x.size()[0], -1)",
        "F.adaptive_avg_pool2d(x, (1, 1)).squeeze(-1).squeeze(-1)", "x.mean(3).mean(2)",
        "F.avg_pool2d(x, x.shape[-1]).flatten(1)",
    ),
}  # fmt: skip
SIZES = (
    "b, c, _, _ = y.size()", "b, c = y.shape[:2]", "b, c, h, w = y.shape", "b, c = y.size(0), y.size(1)",
    "b, c = y.shape[0], y.shape[1]", "b, c = y.size()[:2]", "b = len(y); c = y.size(1)", "b, c, *_ = y.shape",
)  # fmt: skip
GATE = "; s = y.mean((2, 3)); y = y * torch.sigmoid(self.up(F.relu(self.down(s)))).view(b, c, 1, 1)"
ODD = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = {layer}

    def forward(self, {inputs}):
        return {output}


def build():
    return Net()
"""
CONV = "nn.Conv2d(1, 10, 3)"
ODDITIES = {
    "two inputs": (CONV, "x, z", "self.a(x).mean((2, 3)) + z"),
    "no network in it": ("3", "x", "x"),
    "an error while it is made": ("nn.Conv2d(1, 10, -3)", "x", "self.a(x).mean((2, 3))"),
    "an error while it runs": (CONV, "x", "self.b(x)"),
    "nothing to prune": ("nn.Linear(64, 10)", "x", "self.a(x.flatten(1))"),
    "an output of another shape": (CONV, "x", "self.a(x)"),
    "other classes": ("nn.Conv2d(1, 7, 3)", "x", "self.a(x).mean((2, 3))"),
    "a branch by its numbers": (CONV, "x", "self.a(x).mean((2, 3)) if x.sum() > 0 else self.a(-x).mean((2, 3))"),
    "a dictionary": (CONV, "x", "{'out': self.a(x).mean((2, 3))}"),
    "complex numbers": (CONV, "x", "torch.fft.fft(self.a(x).mean((2, 3)))"),
}


def space_of(text: str) -> SubsetSpace:
    """What of a network in a file can be pruned."""
    path = Path(tempfile.mkdtemp(dir=".")) / "net.py"
    path.write_text(text)
    found = find_space(f"{SUBSET}{path}", image_shape=(3, 8, 8), classes=10, batch=1)
    assert isinstance(found, SubsetSpace)
    return found


def told(parameters: str, channels: str, width: str, classes: str) -> tuple[int, int]:
    """Channels of the images and width of a network, whose function has these parameters."""
    text = FACTORY.format(parameters=parameters, channels=channels, width=width, classes=classes)
    conv: Any = next(space_of(text).prunable.network.children())
    return conv.in_channels, conv.out_channels


def units(**changed: str) -> tuple[list[int], int]:
    """Sizes of the groups of a network that is spelt so, and how many blocks it has."""
    found = space_of(NETWORK.format(**PLAIN | changed)).prunable
    return sorted(group.size for group in found.groups), len(found.blocks)


def pruned(layer: str, inputs: str, output: str) -> str:
    """What ``prune`` says of an odd network."""
    Path("net.py").write_text(ODD.format(layer=layer, inputs=inputs, output=output))
    return said("prune", "net.py:build", "--macs-budget", "50%", "--dataset", "digits", "--epochs", "1")


def networks() -> Inputs:
    """All of them."""
    for parameters, body in FACTORIES.items():
        yield f"def build({parameters})", partial(told, parameters, *body), (3, 16)
    for parameters in UNKNOWN:
        yield f"def build({parameters})", partial(told, parameters, "3", "16", "10"), REFUSED
    for place, spellings in SPELLINGS.items():
        for spelling in spellings:
            yield spelling, partial(units, **{place: spelling}), ([16, 16, 16], 2)
    for sizes in SIZES:
        yield f"a gate with {sizes}", partial(units, squeeze=sizes + GATE), ([4, 4, 16, 16, 16], 2)
    for name, odd in ODDITIES.items():
        yield name, partial(pruned, *odd), REFUSED
