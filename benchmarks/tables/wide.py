"""A wide family of networks: kernels, expansions, squeeze-and-excitation, and resolution against width at equal MACs.

The channels shrink as the images grow, so that the MACs of the three chains are about the same; neither MACs nor
parameters tell the latency then.
"""

from __future__ import annotations

from functools import partial
from itertools import product

from torch import Tensor, nn

from profilers.opspec import OpSpec
from profilers.workload import Workload
from unas_hw.ops.mbconv import Classifier, MBConv, conv_bn
from unas_hw.spaces.chain import ChainSpace, Layer

WIDTHS = {96: (24, 40, 80, 160), 128: (16, 32, 64, 120), 160: (16, 24, 40, 72)}
"""Channels of the four stages for each image size in pixels."""
LAYERS = 2
KERNELS, EXPANSIONS = (3, 5, 7), (3, 6)
REDUCTION = 4


class SqueezeExcite(nn.Module):
    """Channels weighted by what the whole image says (Hu et al. 2018, "Squeeze-and-excitation networks")."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // REDUCTION
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, inner, 1),
            nn.ReLU(),
            nn.Conv2d(inner, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        weighted: Tensor = x * self.gate(x)
        return weighted


def _block(shape: tuple[int, ...], out: int, stride: int, kernel: int, expand: int, gated: bool) -> Workload:
    attrs: dict[str, int | float | str] = {
        "expand": expand, "kernel": kernel, "out": out, "se": int(gated), "stride": stride
    }  # fmt: skip

    def build() -> nn.Module:
        block = MBConv(shape[1], out, kernel=kernel, expand=expand, stride=stride)
        if gated:
            block.depthwise = nn.Sequential(block.depthwise, SqueezeExcite(shape[1] * expand))
        return block

    return Workload(OpSpec("mbconv", attrs, shape), build)


def wide(size: int) -> ChainSpace:
    """The chain for images of this size; eight layers of twelve choices."""
    widths = WIDTHS[size]
    stem = Workload(
        OpSpec("conv", {"kernel": 3, "out": widths[0], "stride": 2}, (1, 3, size, size)),
        partial(conv_bn, 3, widths[0], kernel=3, stride=2),
    )
    layers, shape = [Layer("stem", {"stem": stem})], (1, widths[0], size // 2, size // 2)
    for stage, width in enumerate(widths):
        for number in range(LAYERS):
            stride = 2 if number == 0 else 1
            candidates: dict[str, Workload | None] = {
                f"k{kernel}e{expand}{'se' if gated else ''}": _block(shape, width, stride, kernel, expand, gated)
                for kernel, expand, gated in product(KERNELS, EXPANSIONS, (False, True))
            }
            layers.append(Layer(f"stage{stage}.{number}", candidates))
            pixels = (shape[2] - 1) // stride + 1
            shape = (1, width, pixels, pixels)
    classifier = Workload(OpSpec("classifier", {"classes": 100}, shape), partial(Classifier, shape[1], 100))
    return ChainSpace(
        f"wide-{size}", (1, 3, size, size), 100, [*layers, Layer("classifier", {"classifier": classifier})]
    )
