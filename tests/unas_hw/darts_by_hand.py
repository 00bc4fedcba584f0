"""How many weights a network of the DARTS space has, counted from the layout alone."""

from __future__ import annotations

from unas_hw.spaces.genotypes import Genotype


def _of_edge(op: str, width: int, stride: int) -> int:
    if op == "skip_connect":
        return (stride - 1) * (width**2 + 2 * width)
    if op == "conv_7x1_1x7":
        return 2 * 7 * width**2 + 2 * width
    once = int(op[-1]) ** 2 * width + width**2 + 2 * width
    return {"sep": 2 * once, "dil": once}.get(op[:3], 0)


def by_hand(genotype: Genotype, *, width: int, layers: int, channels: int, classes: int, imagenet: bool) -> int:
    """Weights of the published network of this genotype, without an auxiliary head."""
    half = width // 2
    before = last = width if imagenet else 3 * width
    total = 9 * channels * last + 2 * last
    if imagenet:
        total = 9 * (channels * half + half * width + width**2) + 2 * (half + 2 * width)
    for layer in range(layers):
        reduces = layer in (layers // 3, 2 * layers // 3)
        width *= 2 if reduces else 1
        total += (before + last) * width + 4 * width
        for op, source in genotype.reduce if reduces else genotype.normal:
            total += _of_edge(op, width, 2 if reduces and source < 2 else 1)
        before, last = last, 4 * width
    return total + last * classes + classes
