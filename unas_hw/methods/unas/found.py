"""The network that was found: with the weights that it shared, fine-tuned on its own."""

from __future__ import annotations

from torch import nn

from unas_hw.methods.unas.search import UnasSearch
from unas_hw.network import inherit, recalibrate
from unas_hw.progress import Job, Step
from unas_hw.runs import Run
from unas_hw.search.selection import Path
from unas_hw.training import Recipe, accuracy, train


def inherited(unas: UnasSearch, path: Path, images: int | None = None) -> nn.Module:
    """The network of these choices with the weights that it shared, and statistics of so many training images."""
    network = unas.space.network(unas.space.architecture(path))
    inherit(network, unas.supernet, path)
    with unas.hardware.holding(network):
        recalibrate(network, unas.data.train.first(images) if images else unas.data.train)
    return network


def fine_tuned(unas: UnasSearch, path: Path, run: Run) -> Job[tuple[nn.Module, float]]:
    """The network of these choices and its accuracy on the validation images; goes on in ``run``'s ``finetune``."""
    network = inherited(unas, path)
    recipe = Recipe(epochs=unas.config.finetune_epochs, lr=2e-3, seed=unas.config.seed)
    for metrics in train(network, unas.data.train, recipe, run, "finetune", unas.hardware):
        yield Step("fine-tune", metrics["epoch"], recipe.epochs, epoch=metrics)
    with unas.hardware.holding(network):
        return network, accuracy(network, unas.data.valid)
