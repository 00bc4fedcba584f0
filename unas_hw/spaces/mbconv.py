"""The ProxylessNAS space as UNAS uses it, the narrower one of published phone tables, and a small preset.

Every searched layer chooses an inverted residual with kernel 3, 5 or 7 and expansion 3 or 6; layers that keep
the width may also be left out (identity). Source: UNAS (arXiv 1912.07651), appendix; ProxylessNAS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from profilers.opspec import OpSpec
from profilers.workload import Workload
from unas_hw.ops.mbconv import Classifier, MBConv, conv_bn, flat_linear
from unas_hw.spaces.chain import ChainSpace, Layer

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


UNAS = Layout(
    stem_width=40,
    stem_stride=2,
    first_width=24,
    stages=(
        Stage(32, 4, 2),
        Stage(56, 4, 2),
        Stage(112, 4, 2),
        Stage(128, 4, 1),
        Stage(256, 4, 2),
        Stage(432, 1, 1),
    ),
    head_width=1728,
)

MOBILE = Layout(
    stem_width=32,
    stem_stride=2,
    first_width=16,
    stages=(
        Stage(24, 4, 2),
        Stage(40, 4, 2),
        Stage(80, 4, 2),
        Stage(96, 4, 1),
        Stage(192, 4, 2),
        Stage(320, 1, 1),
    ),
    head_width=1280,
    separate_pooling=True,
)


def find_layout(name: str, image_size: int) -> Layout:
    """The layout of the space of that name."""
    return {"mbconv": UNAS, "mbconv-mobile": MOBILE}.get(name) or small_layout(image_size)


def small_layout(image_size: int) -> Layout:
    """Nine searched layers whose strides leave at least 2x2 positions for 8 pixels and 4x4 from 16 on."""
    return Layout(
        stem_width=16,
        stem_stride=2 if image_size > 32 else 1,
        first_width=16,
        stages=(Stage(24, 3, 2 if image_size > 16 else 1), Stage(32, 3, 2), Stage(64, 3, 2)),
        head_width=256,
    )


def mbconv(
    name: str, layout: Layout, *, image_size: int, channels: int, classes: int, batch: int, precision: str
) -> ChainSpace:
    """The space of this layout for images ``(channels, image_size, image_size)``.

    Args:
        name: What the space is called in architecture files and table headers.
        layout: What is not searched.
        image_size: Height and width in pixels.
        channels: Of the images.
        classes: Outputs.
        batch: Images at a time that latencies are for.
        precision: In which networks run.
    """
    chain = _Chain(batch, channels, image_size, precision)
    layers = [
        chain.fixed("stem", chain.conv(layout.stem_width, kernel=3, stride=layout.stem_stride)),
        chain.fixed("first", chain.mbconv(layout.first_width, kernel=3, expand=1, stride=1)),
    ]
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
            layers.append(Layer(f"stage{number}.{index + 1}", candidates))
            chain.advance(stage.width, stride)
    layers.append(chain.fixed("head", chain.conv(layout.head_width, kernel=1, stride=1)))
    if layout.separate_pooling:
        layers.append(chain.fixed("pool", chain.pool()))
        layers.append(chain.fixed("linear", chain.linear(classes)))
    else:
        layers.append(chain.fixed("classifier", chain.classifier(classes)))
    return ChainSpace(name, (batch, channels, image_size, image_size), classes, layers, precision)


class _Chain:
    """Follows the shape along the chain while its blocks are described."""

    def __init__(self, batch: int, channels: int, size: int, precision: str) -> None:
        self.batch, self.channels, self.size, self.precision = batch, channels, size, precision

    def advance(self, width: int, stride: int) -> None:
        self.channels, self.size = width, (self.size - 1) // stride + 1

    def fixed(self, name: str, block: Workload) -> Layer:
        width, stride = block.op.attrs.get("out"), block.op.attrs.get("stride", 1)
        if isinstance(width, int) and isinstance(stride, int):
            self.advance(width, stride)
        return Layer(name, {name: block})

    def conv(self, width: int, *, kernel: int, stride: int) -> Workload:
        attrs = {"kernel": kernel, "out": width, "stride": stride}
        return self._workload("conv", attrs, partial(conv_bn, self.channels, width, kernel=kernel, stride=stride))

    def mbconv(self, width: int, *, kernel: int, expand: int, stride: int) -> Workload:
        attrs = {"expand": expand, "kernel": kernel, "out": width, "stride": stride}
        build = partial(MBConv, self.channels, width, kernel=kernel, expand=expand, stride=stride)
        return self._workload("mbconv", attrs, build)

    def classifier(self, classes: int) -> Workload:
        return self._workload("classifier", {"classes": classes}, partial(Classifier, self.channels, classes))

    def pool(self) -> Workload:
        block = self._workload("pool", {}, partial(nn.AdaptiveAvgPool2d, 1))
        self.size = 1
        return block

    def linear(self, classes: int) -> Workload:
        return self._workload("linear", {"classes": classes}, partial(flat_linear, self.channels, classes))

    def _workload(self, kind: str, attrs: dict[str, int], build: Callable[[], nn.Module]) -> Workload:
        return Workload(OpSpec(kind, attrs, (self.batch, self.channels, self.size, self.size), self.precision), build)
