"""ResNet-20 and a network like MobileNetV2, pruned to half and a quarter of their MACs and of their measured latency.

    python -m benchmarks.pruning.budgets --data DIR [--folder DIR] [--device cpu] [--quick]

``DIR`` has ``load.py`` with the images. Networks are pruned by ``unas-hw prune`` for this CPU (onnxruntime, one thread)
and exported and verified, with few images in 16 pixels: whether budgets are kept does not depend on accuracies, which
are not compared here. Shown are the budget, what was measured, how binary the masks are at the end of the training, and
how far the smaller module is from the masked one with the same weights. Then complexity for a rising lambda. In
``--folder`` lies what is done; the same command goes on there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.commands import unas_hw
from benchmarks.pruning.images import write_images
from benchmarks.report import keep
from unas_hw.data import Dataset, load_dataset
from unas_hw.methods.pruning.config import PruneConfig
from unas_hw.methods.pruning.masks import Masks, Widths, everything, kept_of, pieces
from unas_hw.methods.pruning.search import PruneSearch
from unas_hw.methods.pruning.shapes import Arithmetic, Limit
from unas_hw.runs import Run
from unas_hw.spaces import SUBSET, find_space
from unas_hw.spaces.subset import SubsetSpace

NETWORKS = {"resnet20": "cifar10", "mobilenet": "fashion-mnist"}
SIZE, ATTEMPTS = 16, 5
LAMBDAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def opened(network: str, data: Dataset) -> SubsetSpace:
    """The space of one of the two networks."""
    name = f"{SUBSET}benchmarks.pruning.networks:{network}"
    space = find_space(name, image_shape=data.image_shape, classes=data.classes)
    assert isinstance(space, SubsetSpace)
    return space


@torch.no_grad()
def furthest(space: SubsetSpace, masks: Masks) -> float:
    """Largest difference of the outputs of the smaller module and of the masked one, as a share of the largest."""
    torch.manual_seed(0)
    network = space.network(space.architecture_of(space.prunable.sizes))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # as training would leave it: no normalisation is the identity
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]  # torch's types allow none
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.1)
    network.eval()
    images = torch.randn(64, *space.input_shape[1:])
    floats = {name: mask.float() for name, mask in masks.items()}
    wanted = space.prunable.masked(network, floats)(images)
    found = space.prunable.slimmed(masks, network)(images)
    return float((found - wanted).abs().max() / wanted.abs().max())


def patiently(folder: Path, *words: str) -> dict[str, Any]:
    """The command's result; where its table is noisy the same command measures on."""
    for _ in range(ATTEMPTS - 1):
        try:
            result: dict[str, Any] = unas_hw(folder, *words, codes=(0, 3))
            return result
        except SystemExit as error:
            print(str(error)[-300:], flush=True)
    result = unas_hw(folder, *words, codes=(0, 3))
    return result


def pruned(folder: Path, network: str, kind: str, share: int, words: argparse.Namespace) -> dict[str, Any]:
    """One run of the command, and its figures."""
    epochs = 2 if words.quick else words.epochs
    name = f"{network}-{kind}-{share}"
    images = str(folder / f"{NETWORKS[network]}.npz")
    told = (
        *("prune", f"benchmarks.pruning.networks:{network}", f"--{kind}-budget", f"{share}%", "--dataset", images),
        *("--image-size", str(SIZE), "--epochs", str(epochs), "--run", name, "--set", "prune.finetune_epochs=2"),
        *("--device", words.device, "--rounds", str(words.rounds)),
    )
    result = patiently(folder, *told)
    report = unas_hw(folder, "export", "--run", name, "--rounds", str(words.rounds), codes=(0, 1, 3))
    space = opened(network, load_dataset(images, image_size=SIZE))
    masks = space.prunable.first({group: kept for group, (kept, _) in result["units"].items()} | result["blocks"])
    found = "ms" if kind == "latency" else kind
    limit = result["budget_ms"] if kind == "latency" else result["limits"][kind]["limit"]
    return {
        "network": network,
        "budget": f"{share}% of {kind}",
        "limit": limit,
        "found": result["pruned"][found],
        "share_found": result["pruned"][found] / result["whole"][found],
        "predicted_ms": result["predicted_ms"] if kind == "latency" else None,
        "measured_ms": result["measured_ms"],
        "kept_budget": result["feasible"],
        "binary_gap": result["binary_gap"],
        "slimmed_against_masked": furthest(space, masks),
        "exported": report["passed"],
        "failed_checks": [each["name"] for each in report["checks"] if not each["passed"]],
        "interpolation": result["interpolation"],
        "whole": result["whole"],
        "pruned": result["pruned"],
        "candidates": result["candidates"],
        "valid_accuracy": result["valid_accuracy"],
        "architecture": result["architecture"],
    }


def along(folder: Path, words: argparse.Namespace) -> list[dict[str, Any]]:
    """Complexity of ResNet-20 for a fixed lambda each, all else equal."""
    data = load_dataset(str(folder / "cifar10.npz"), image_size=SIZE)
    space = opened("resnet20", data)
    macs = Arithmetic(space.prunable, "macs")
    whole = float(macs(Widths.of(space.prunable, everything(space.prunable))))
    rows = []
    for weight in LAMBDAS[::3] if words.quick else LAMBDAS:
        run = Run.begin(folder / "runs" / f"lambda-{weight:g}", {})
        config = PruneConfig(epochs=2 if words.quick else words.epochs, ascent=0.0, multiplier=weight)
        search = PruneSearch(
            space.prunable,
            lambda: space.network(space.architecture_of(space.prunable.sizes)),
            data.train.first(words.images // 2),
            [Limit(macs, whole, whole)],
            config,
            run,
        )
        search.resume()
        for _ in search.steps():
            pass
        on = [piece for piece in pieces(space.prunable, search.theta.values) if piece.worth > 0 or piece.first]
        share = float(macs(Widths.of(space.prunable, kept_of(space.prunable, on)))) / whole
        gap = run.lines("metrics.jsonl")[-1]["binary_gap"]
        rows.append({"lambda": weight, "macs_share": share, "binary_gap": gap})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Everything; the result is kept after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="two epochs, few images: does the script work?")
    words = parser.parse_args()
    if words.quick:
        words.images = 600
    torch.set_num_threads(1)
    kept_as = "pruning_budgets" if words.device == "cpu" else f"pruning_budgets_{words.device.replace(':', '_')}"
    told = {"device": words.device, "images": words.images, "epochs": words.epochs}
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = (words.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for name in NETWORKS.values():
            if not (folder / f"{name}.npz").exists():
                write_images(words.data, name, folder / f"{name}.npz", train=words.images, tests=1000)
        rows: list[dict[str, Any]] = []
        for kind in ("latency", "macs"):
            for network in NETWORKS:
                for share in (50, 25):
                    kept = folder / f"{network}-{kind}-{share}.json"
                    if not kept.exists():
                        row = pruned(folder, network, kind, share, words)
                        kept.write_text(json.dumps(row))
                    rows.append(json.loads(kept.read_text()))
                    print({name: value for name, value in rows[-1].items() if name != "architecture"}, flush=True)
                    if not words.quick:
                        keep(
                            kept_as,
                            {"device": words.device, "images": words.images, "epochs": words.epochs, "rows": rows},
                        )
        path = along(folder, words)
        shares = [each["macs_share"] for each in path]
        monotone = all(one >= two for one, two in pairwise(shares))
        print(f"monotone in lambda: {monotone}")
        if words.quick:
            shutil.rmtree(folder / "runs")
            return
        keep(kept_as, {**told, "rows": rows, "path": path, "monotone": monotone})


if __name__ == "__main__":
    main()
