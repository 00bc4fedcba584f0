"""The network that was found: with the weights that it shared, fine-tuned on its own, and what is written about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from unas_hw.latency_model import LatencyModel
from unas_hw.methods.unas.search import UnasSearch
from unas_hw.network import inherit, recalibrate
from unas_hw.progress import Job, Step
from unas_hw.runs import Run
from unas_hw.search.constraints import Constraint
from unas_hw.search.published import shapes
from unas_hw.search.selection import Path
from unas_hw.space import SearchSpace
from unas_hw.training import Recipe, accuracy, train


def fine_tuned(unas: UnasSearch, path: Path, run: Run) -> Job[tuple[nn.Module, float]]:
    """The network of these choices and its accuracy on the validation images; goes on in ``run``'s ``finetune``."""
    network = unas.space.network(unas.space.architecture(path))
    inherit(network, unas.supernet, path)
    with unas.hardware.holding(network):
        recalibrate(network, unas.data.train)
    recipe = Recipe(epochs=unas.config.finetune_epochs, lr=2e-3, seed=unas.config.seed)
    for metrics in train(network, unas.data.train, recipe, run, "finetune", unas.hardware):
        yield Step("fine-tune", metrics["epoch"], recipe.epochs, epoch=metrics)
    with unas.hardware.holding(network):
        return network, accuracy(network, unas.data.valid)


def described(space: SearchSpace, model: LatencyModel, path: Path) -> dict[str, Any]:
    """``architecture.json``."""
    return {
        "space": space.name,
        "version": 1,
        "choices": list(space.architecture(path).choices),
        **shapes(space, model.space),
        "table": model.table.hash,
    }


def limits_kept(constraints: Sequence[Constraint], path: Path) -> dict[str, Any]:
    """The other budgets, and what the network needs of each."""
    return {
        each.resource.name.replace(" ", "-"): {"limit": each.limit, "value": each.resource.value(path)}
        for each in constraints
    }
