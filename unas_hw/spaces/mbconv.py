"""The ProxylessNAS space as UNAS uses it, the narrower one of published phone tables, and a small preset.

Every searched layer chooses an inverted residual with kernel 3, 5 or 7 and expansion 3 or 6; layers that keep
the width may also be left out (identity). Source: UNAS (arXiv 1912.07651), appendix; ProxylessNAS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from profilers.workload import Workload
from unas_hw.spaces.building import Chain
from unas_hw.spaces.chain import ChainSpace

KERNELS = (3, 5, 7)
EXPANSIONS = (3, 6)


@dataclass(frozen=True)
class Stage:
    """Layers of one width; the first changes the width and has the stride."""

    width: int
    layers: int
    stride: int


@dataclass(frozen=True)
class Layout:
    """Everything about the chain that is not searched.

    Attributes:
        separate_pooling: Pooling and the linear layer are two operations, as publishers measure them; else they are
            one, ``classifier``.
    """

    stem_width: int
    stem_stride: int
    first_width: int
    stages: tuple[Stage, ...]
    head_width: int
    separate_pooling: bool = False


def _stages(*stages: tuple[int, int, int]) -> tuple[Stage, ...]:
    return tuple(Stage(*each) for each in stages)


UNAS = Layout(
    stem_width=40,
    stem_stride=2,
    first_width=24,
    stages=_stages((32, 4, 2), (56, 4, 2), (112, 4, 2), (128, 4, 1), (256, 4, 2), (432, 1, 1)),
    head_width=1728,
)

MOBILE = Layout(
    stem_width=32,
    stem_stride=2,
    first_width=16,
    stages=_stages((24, 4, 2), (40, 4, 2), (80, 4, 2), (96, 4, 1), (192, 4, 2), (320, 1, 1)),
    head_width=1280,
    separate_pooling=True,
)


def small_layout(image_size: int) -> Layout:
    """Nine searched layers whose strides leave at least 2x2 positions for 8 pixels and 4x4 from 16 on."""
    return Layout(
        stem_width=16,
        stem_stride=2 if image_size > 32 else 1,
        first_width=16,
        stages=_stages((24, 3, 2 if image_size > 16 else 1), (32, 3, 2), (64, 3, 2)),
        head_width=256,
    )


def multiple_of_8(channels: float) -> int:
    """The number of channels of a scaled layer: the nearest multiple of 8, at least 8, and at least 90% of what was
    asked for, as MobileNets round.
    """
    nearest = max(8, math.floor(channels / 8 + 0.5) * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def scaled(layout: Layout, width: float) -> Layout:
    """All widths times ``width``, the head's too, each a multiple of 8."""
    return replace(
        layout,
        stem_width=multiple_of_8(width * layout.stem_width),
        first_width=multiple_of_8(width * layout.first_width),
        stages=tuple(replace(stage, width=multiple_of_8(width * stage.width)) for stage in layout.stages),
        head_width=multiple_of_8(width * layout.head_width),
    )


def for_cifar(layout: Layout) -> Layout:
    """Neither the stem nor the first stage halves the image: of 32 pixels the published strides leave a single one."""
    first, *others = layout.stages
    return replace(layout, stem_stride=1, stages=(replace(first, stride=1), *others))


def full(name: str, **settings: Any) -> ChainSpace:
    """The space of UNAS."""
    return mbconv(name, UNAS, **settings)


def mobile(name: str, **settings: Any) -> ChainSpace:
    """The space of published phone tables."""
    return mbconv(name, MOBILE, **settings)


def small(name: str, *, image_size: int, **settings: Any) -> ChainSpace:
    """The preset for small images."""
    return mbconv(name, small_layout(image_size), image_size=image_size, **settings)


def mbconv(
    name: str,
    layout: Layout,
    *,
    classes: int,
    width: float = 1.0,
    stem: str = "imagenet",
    **images: Any,
) -> ChainSpace:
    """The space of this layout.

    Args:
        name: As in ``ImageSpace``, like classes and the other words.
        layout: What is not searched.
        classes: Outputs.
        width: Factor of all widths.
        stem: ``imagenet``: with the layout's strides; ``cifar``: the stem and the first stage keep the size.
        images: As ``Chain`` takes them.
    """
    layout = scaled(for_cifar(layout) if stem == "cifar" else layout, width)
    chain = Chain(name, **images)
    chain.fixed("stem", chain.conv(layout.stem_width, kernel=3, stride=layout.stem_stride))
    chain.fixed("first", chain.mbconv(layout.first_width, kernel=3, expand=1, stride=1))
    for number, stage in enumerate(layout.stages, 1):
        for index in range(stage.layers):
            changes_width = index == 0
            stride = stage.stride if changes_width else 1
            candidates: dict[str, Workload | None] = {} if changes_width else {"id": None}
            candidates |= {
                f"k{kernel}e{expand}": chain.mbconv(stage.width, kernel=kernel, expand=expand, stride=stride)
                for expand in EXPANSIONS
                for kernel in KERNELS
            }
            chain.choose(f"stage{number}.{index + 1}", candidates)
    chain.fixed("head", chain.conv(layout.head_width, kernel=1, stride=1))
    if layout.separate_pooling:
        chain.fixed("pool", chain.pool())
        chain.fixed("linear", chain.linear(classes))
    else:
        chain.fixed("classifier", chain.classifier(classes))
    return chain.space(classes)
