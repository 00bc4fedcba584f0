"""A space in Python: eight residual layers, each with a bottleneck of another width, or left out.

unas-hw spaces check examples/bottlenecks.py
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from unas_hw.ops.mbconv import conv_bn
from unas_hw.spaces.building import Chain
from unas_hw.spaces.chain import ChainSpace

IMAGE_SHAPE, CLASSES = (1, 8, 8), 10


class Bottleneck(nn.Module):
    """1x1 to the width, kernel, and 1x1 back, added to the input."""

    def __init__(self, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        self.reduce = conv_bn(channels, width, kernel=1)
        self.conv = conv_bn(width, width, kernel=kernel)
        self.expand = conv_bn(width, channels, kernel=1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.expand(self.conv(self.reduce(x)))
        return x + out


def space(name: str, *, image_size: int, channels: int, classes: int, batch: int, precision: str) -> ChainSpace:
    """What unas-hw calls, with the images that there are."""
    chain = Chain(name, image_size=image_size, channels=channels, batch=batch, precision=precision)
    chain.fixed("stem", chain.conv(32, kernel=3))
    for number in range(8):
        if number in (2, 5):
            chain.fixed(f"down{number}", chain.conv(2 * chain.channels, kernel=3, stride=2))
        widths = (chain.channels // 8, chain.channels // 2)
        blocks = {
            f"w{width}k{kernel}": chain.block(
                "bottleneck", {"kernel": kernel, "width": width}, partial(Bottleneck, chain.channels, width, kernel)
            )
            for width in widths
            for kernel in (3, 5)
        }
        chain.choose(f"layer{number}", {"id": None, **blocks})
    chain.fixed("classifier", chain.classifier(classes))
    return chain.space(classes)
