"""Networks that were written to be hard to prune: each is pruned correctly, or refused by naming the layer and why.

    python -m benchmarks.pruning.architectures

Residual, dense, depthwise and grouped convolutions, squeeze and excitation, shared and tied weights, attention,
channels that are counted or hard-coded, and others (``tests/unas_hw/pruned_networks.py``). Masks are trained by the
method as it is, on random images, to half of the MACs; the smaller module then has the masked one's outputs, in double
precision, can be trained, and has as many MACs less as was predicted.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.report import keep
from tests.unas_hw.pruned_networks import CLASSES, PRUNED, SHAPE, Chain, Vgg
from unas_hw.data import Split
from unas_hw.errors import PruningError
from unas_hw.methods.pruning.config import PruneConfig
from unas_hw.methods.pruning.masks import Widths, everything
from unas_hw.methods.pruning.search import PruneSearch, discretise
from unas_hw.methods.pruning.shapes import Arithmetic, Limit
from unas_hw.prunable.prunable import prunable
from unas_hw.runs import Run

EPOCHS, IMAGES = 6, 192


class DependsOnValues(Chain):
    """Does something else for bright images."""

    def forward(self, x: Tensor, logits: bool = True) -> Tensor:
        return super().forward(x if x.mean() > 0 else -x, logits)


class CountsImages(Vgg):
    """Written for two images at a time."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x).view(2, -1))
        return out


class OnlyOutputs(nn.Module):
    """Has nothing that could be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(math.prod(SHAPE), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x.flatten(1))
        return out


REFUSED: tuple[Callable[[], nn.Module], ...] = (DependsOnValues, CountsImages, OnlyOutputs)


def flops_of(network: nn.Module) -> int:
    """MACs of one image, counted."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, *SHAPE))
    return int(counter.get_total_flops()) // 2


def tried(make: Callable[[], nn.Module]) -> dict[str, Any]:
    """One network."""
    torch.manual_seed(0)
    name = getattr(make, "__name__", "")
    try:
        found = prunable(make(), SHAPE)
    except PruningError as error:
        return {"network": name, "refused": error.what, "mend": error.mend}
    images = Split(torch.randn(IMAGES, *SHAPE), torch.arange(IMAGES) % CLASSES)
    macs = Arithmetic(found, "macs")
    whole = float(macs(Widths.of(found, everything(found))))
    limits = [Limit(macs, whole / 2, whole)]
    with tempfile.TemporaryDirectory() as temporary:
        run = Run.begin(Path(temporary) / "run", {})
        search = PruneSearch(found, make, images, limits, PruneConfig(epochs=EPOCHS, batch_size=32), run)
        gap = [metrics["binary_gap"] for metrics in search.steps()][-1]
    masks = discretise(found, search.theta.values, limits)
    if masks is None:
        masks = {name: mask.bool() for name, mask in found.first(dict.fromkeys(found.sizes, 1)).items()}
    network = search.network.eval()
    slim = found.slimmed(masks, network).eval()
    counted = {"before": flops_of(network), "after": flops_of(slim)}
    less = whole - float(macs(Widths.of(found, masks)))
    with torch.no_grad():
        x = torch.randn(2, *SHAPE, dtype=torch.float64)
        floats = {name: mask.double() for name, mask in masks.items()}
        wanted, got = found.masked(network.double(), floats)(x), slim.double()(x)
    difference = float((got - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))
    slim.float().train()
    cross_entropy(slim(images.x[:2]), images.y[:2]).backward()
    return {
        "network": name,
        "groups": len(found.groups),
        "blocks": len(found.blocks),
        "kept_whole": {each.layer: each.reason for each in found.kept},
        "binary_gap": gap,
        "macs": counted,
        "macs_as_predicted": counted["before"] - counted["after"] == round(less),
        "params": [sum(weight.numel() for weight in each.parameters()) for each in (network, slim)],
        "slimmed_against_masked": difference,
        "equal": difference <= 1e-5,
    }


def main() -> None:
    """All of them."""
    torch.set_num_threads(1)
    rows = []
    for make in (*PRUNED, *REFUSED):
        rows.append(tried(make))
        print(rows[-1], flush=True)
    good = sum("refused" in row or (row["equal"] and row["macs_as_predicted"]) for row in rows)
    refused = sum("refused" in row for row in rows)
    print(f"{len(rows)} networks: {len(rows) - refused} pruned, {refused} refused, {len(rows) - good} broken")
    keep("pruning_architectures", {"pruned": len(rows) - refused, "refused": refused, "rows": rows})


if __name__ == "__main__":
    main()
