"""NAS-Bench-Macro as a space of one's own: eight layers, each an identity or one of two inverted residuals.

unas-hw spaces check examples/nas_bench_macro.py

All 3^8 networks of it were trained on CIFAR-10, each two or three times (github.com/xiusu/NAS-Bench-Macro), so what a
search finds here can be looked up. Published names give the place of each choice, such as 00000001.
"""

from __future__ import annotations

from profilers.workload import Workload
from unas_hw.spaces.building import Chain
from unas_hw.spaces.chain import ChainSpace

IMAGE_SHAPE, CLASSES = (3, 32, 32), 10
STAGES = ((64, 2), (128, 3), (256, 3))
"""Width and layers of each; the first layer halves the image."""


def space(name: str, *, image_size: int, channels: int, classes: int, batch: int, precision: str) -> ChainSpace:
    """What unas-hw calls, with the images that there are."""
    chain = Chain(name, image_size=image_size, channels=channels, batch=batch, precision=precision)
    chain.fixed("stem", chain.conv(32, kernel=3))
    for number, (width, layers) in enumerate(STAGES, 1):
        for layer in range(layers):
            stride = 1 if layer else 2
            candidates: dict[str, Workload | None] = {
                "id": None if layer else chain.conv(width, kernel=1, stride=stride, act=False),
                "k3e3": chain.mbconv(width, kernel=3, expand=3, stride=stride),
                "k5e6": chain.mbconv(width, kernel=5, expand=6, stride=stride),
            }
            chain.choose(f"stage{number}.{layer + 1}", candidates)
    chain.fixed("head", chain.conv(1280, kernel=1))
    chain.fixed("classifier", chain.classifier(classes))
    return chain.space(classes)
