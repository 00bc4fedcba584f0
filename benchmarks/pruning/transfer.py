"""Does a structure that was learnt on some classes serve others, better than magnitude pruning and chance?

    python -m benchmarks.pruning.transfer --data DIR [--folder DIR] [--seeds 0 1 2 3 4] [--quick]

``DIR`` has ``load.py`` with the images of CIFAR-10. ResNet-20 is pruned to a quarter of its MACs with images of classes
0 to 4 in 16 pixels. Then weights are drawn anew and trained by one recipe with 100 images of each of the classes 5 to
9, and tested with 1,000 of each:

- ``pruned``: by the method, its defaults, chosen on the digits;
- ``magnitude``: the whole network is trained on the classes 0 to 4 for as many epochs; the units of the lowest L1 norm
  in the whole network go;
- ``relative``: likewise, by L1 norm in means of the unit's group, so that no layer goes for its fewer inputs;
- ``random``: units and blocks go in random order;
- ``uniform``: every group keeps the same share, which nobody has to learn;
- ``whole``: all of it, for comparison.

All but the last are adjusted to one budget by the same rule. Each seed has a structure of its own for each of the
first four, and seeds everything else too. Intervals are those of Student's t over seeds, at 95%. In ``--folder`` lies
what is done; the same command goes on there.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from torch import nn

from benchmarks.pruning.budgets import opened
from benchmarks.pruning.images import write_images
from benchmarks.report import keep
from unas_hw.data import Dataset, load_dataset
from unas_hw.methods.pruning.config import PruneConfig
from unas_hw.methods.pruning.masks import Masks, Widths, everything
from unas_hw.methods.pruning.search import PruneSearch, discretise
from unas_hw.methods.pruning.shapes import Arithmetic, Limit
from unas_hw.runs import Run
from unas_hw.space import Architecture
from unas_hw.spaces.subset import SubsetSpace
from unas_hw.training import Recipe, accuracy, train

ARMS = ("pruned", "magnitude", "relative", "random", "uniform", "whole")
SHARE, SIZE = 0.25, 16
FIRST, OTHER = range(5), range(5, 10)
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""By degrees of freedom."""


def whole_network(space: SubsetSpace, seed: int) -> nn.Module:
    """With new weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return space.network(space.architecture_of(space.prunable.sizes))


def magnitudes(space: SubsetSpace, network: nn.Module, relative: bool) -> Masks:
    """L1 norm of the weights that make each unit, summed over the layers that do; blocks stay."""
    found = everything(space.prunable)
    weights = dict(network.named_parameters())
    for group in space.prunable.groups:
        makers = [layer for layer in space.prunable.layers if [each.group for each in layer.outputs] == [group.name]]
        norms = [weights[f"{layer.path}.weight"].detach().abs().flatten(1).sum(1) for layer in makers]
        total = torch.stack(norms).sum(0)
        found[group.name] = total / total.mean() if relative else total
    return found | {block.name: torch.tensor(math.inf) for block in space.prunable.blocks}


def theta_of(
    arm: str, space: SubsetSpace, data: Dataset, seed: int, run: Run, epochs: int, limits: list[Limit]
) -> Masks:
    """What an arm ranks units and blocks by."""
    prunable = space.prunable
    generator = torch.Generator().manual_seed(seed)
    if arm == "pruned":
        config = PruneConfig(epochs=epochs, seed=seed)
        fresh = space.architecture_of(prunable.sizes)
        search = PruneSearch(prunable, lambda: space.network(fresh), data.train, limits, config, run)
        search.resume()
        for _ in search.steps():
            pass
        return search.theta.values
    if arm in ("magnitude", "relative"):
        network, source = whole_network(space, seed), Run.begin(run.path.parent / f"source-{seed}", {})
        for _ in train(network, data.train, Recipe(epochs=epochs, seed=seed), source, "source"):
            pass
        return magnitudes(space, network, arm == "relative")
    drawn = {name: torch.rand(ones.shape, generator=generator) for name, ones in everything(prunable).items()}
    if arm == "random":
        return drawn
    even = {group.name: -torch.arange(group.size) / group.size for group in prunable.groups}
    return even | {block.name: torch.tensor(math.inf) for block in prunable.blocks}


def structure(arm: str, space: SubsetSpace, data: Dataset, seed: int, run: Run, epochs: int) -> Architecture:
    """What an arm keeps within the budget."""
    prunable = space.prunable
    if arm == "whole":
        return space.architecture_of(prunable.sizes)
    macs = Arithmetic(prunable, "macs")
    full = float(macs(Widths.of(prunable, everything(prunable))))
    limits = [Limit(macs, SHARE * full, full)]
    theta = theta_of(arm, space, data, seed, run, epochs, limits)
    # Of the others only the order counts: nothing is given up for its value alone.
    masks = discretise(prunable, theta if arm == "pruned" else ranks(theta), limits)
    assert masks is not None
    return space.architecture_of(prunable.widths(masks))


def ranks(theta: Masks) -> Masks:
    """The same order in positive numbers."""
    ordered = torch.cat([values.flatten() for values in theta.values()]).unique()
    return {name: 1.0 + torch.searchsorted(ordered, values.contiguous()) for name, values in theta.items()}


def one(folder: Path, arm: str, seed: int, words: argparse.Namespace) -> dict[str, Any]:
    """A structure, and its accuracy on the other classes."""
    first = load_dataset(str(folder / "first.npz"), image_size=SIZE)
    other = load_dataset(str(folder / "other.npz"), image_size=SIZE)
    space, there = opened("resnet20", first), opened("resnet20", other)
    run = Run.begin(folder / "runs" / f"{arm}-{seed}", {})
    architecture = structure(arm, space, first, seed, run, words.epochs)
    with torch.random.fork_rng():
        torch.manual_seed(1000 + seed)
        network = there.network(replace(architecture, space=there.name))
    recipe = Recipe(epochs=words.trained, seed=seed)
    for _ in train(network, other.train + other.valid, recipe, run, "target"):
        pass
    cost = there.workload(replace(architecture, space=there.name)).cost
    return {
        "arm": arm,
        "seed": seed,
        "architecture": str(architecture),
        "macs": cost.macs,
        "params": cost.params,
        "accuracy": accuracy(network, other.test),
    }


def interval(values: list[float]) -> float:
    """Half of Student's interval of the mean."""
    return T95[len(values) - 1] * stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.inf


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means, and differences of the same seeds."""
    found: dict[str, Any] = {"accuracy": {}, "pruned_minus": {}}
    of = {arm: {row["seed"]: row["accuracy"] for row in rows if row["arm"] == arm} for arm in ARMS}
    for arm, accuracies in of.items():
        if accuracies:
            values = list(accuracies.values())
            macs = fmean(row["macs"] for row in rows if row["arm"] == arm)
            found["accuracy"][arm] = {"mean": fmean(values), "half_width": interval(values), "macs": macs}
        shared = sorted(accuracies.keys() & of["pruned"].keys())
        if arm != "pruned" and shared:
            less = [of["pruned"][seed] - accuracies[seed] for seed in shared]
            found["pruned_minus"][arm] = {"mean": fmean(less), "half_width": interval(less), "seeds": len(less)}
    return found


def main() -> None:
    """All arms and seeds; the result is kept after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--images", type=int, default=2000, help="of the first classes")
    parser.add_argument("--epochs", type=int, default=16, help="of pruning, and of the training for magnitudes")
    parser.add_argument("--trained", type=int, default=40, help="epochs on the other classes")
    parser.add_argument("--quick", action="store_true", help="few images and epochs: does the script work?")
    words = parser.parse_args()
    tests = 5000
    if words.quick:
        words.images, words.epochs, words.trained, words.seeds, tests = 300, 2, 2, [0, 1], 500
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = (words.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for name, count, classes in (("first", words.images, FIRST), ("other", 500, OTHER)):
            if not (folder / f"{name}.npz").exists():
                write_images(words.data, "cifar10", folder / f"{name}.npz", train=count, tests=tests, classes=classes)
        rows: list[dict[str, Any]] = []
        for seed in words.seeds:
            for arm in words.arms:
                kept = folder / f"{arm}-{seed}.json"
                if not kept.exists():
                    kept.write_text(json.dumps(one(folder, arm, seed, words)))
                rows.append(json.loads(kept.read_text()))
                print(rows[-1], flush=True)
                if not words.quick:
                    told = {name: getattr(words, name) for name in ("images", "epochs", "trained")}
                    keep("pruning_transfer", {"share": SHARE, "size": SIZE, **told, **summary(rows), "rows": rows})
        print(json.dumps(summary(rows), indent=1))


if __name__ == "__main__":
    main()
