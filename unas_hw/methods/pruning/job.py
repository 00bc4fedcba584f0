"""Prune: from a network of the user's and budgets to a smaller one whose own measurement keeps them."""

from __future__ import annotations

import time
from typing import Any

import yaml
from torch import nn

from profilers.files import write_atomic
from profilers.timing import TimingRule
from unas_hw.data import Dataset, load_dataset, telling
from unas_hw.methods.pruning.config import PruneSettings
from unas_hw.methods.pruning.limits import Whole, multiple_of, read_budgets
from unas_hw.methods.pruning.masks import everything
from unas_hw.methods.pruning.result import config_of, infeasible, run_path, write_architecture, write_result
from unas_hw.methods.pruning.search import PruneSearch
from unas_hw.methods.pruning.selection import Found, select
from unas_hw.methods.pruning.table import architecture_of, table_for
from unas_hw.network import recalibrate, save_network
from unas_hw.progress import Job, Step
from unas_hw.runs import Run
from unas_hw.search.published import Proxy
from unas_hw.search.run_folder import RESULT
from unas_hw.spaces import SUBSET, find_space
from unas_hw.spaces.subset import SubsetSpace
from unas_hw.training import Recipe, accuracy, train


def prune(settings: PruneSettings, rule: TimingRule | None = None) -> Job[dict[str, Any]]:
    """Finds a sub-network within the budgets; measures the latency of its layers first where that has a budget.

    Returns:
        As ``unas_hw.jobs.search.search``, with ``whole`` and ``pruned`` (``macs`` of one image, ``params``, ``ms`` as
        measured), ``kept_units`` and ``kept_blocks`` (``[kept, all]``), ``not_pruned`` (layers and
        blocks, and why), ``network`` (the call that made it), ``binary_gap`` of the masks at the end of the training,
        ``multipliers``, and ``interpolation``: errors on networks that were held out, in percent, None without a
        latency budget. For budgets that no sub-network can keep ``feasible`` is false, ``run`` None, and ``unmet`` says
        which.

    Raises:
        BudgetError: If there is no budget, or one cannot be read.
        PruningError: If the network cannot be pruned.
    """
    begin, rule = time.monotonic(), rule or TimingRule()
    asked = read_budgets(settings)
    data = load_dataset(settings.dataset, image_size=settings.image_size, seed=settings.config.seed)
    yield from telling(data)
    space = find_space(
        SUBSET + settings.network,
        image_shape=data.image_shape,
        classes=data.classes,
        batch=settings.batch,
        precision=settings.target.precision or "float32",
    )
    assert isinstance(space, SubsetSpace)  # what the prefix says
    yield Step("trace", 0, 1, f"network    {space.told}")
    for each in space.prunable.kept:
        yield Step("trace", 0, 1, each.words)
    if lacks := space.workload(architecture_of(space, everything(space.prunable))).cost.lacks:
        yield Step("trace", 0, 1, f"MACs are {lacks}")
    multiple = multiple_of(settings)
    table = yield from table_for(space, settings.target, settings.table, rule, multiple, rows=asked is not None)
    whole = Whole(settings, space, table, asked)
    if (unmet := whole.unmet(settings.network)) is not None:
        return {**infeasible(settings, whole, unmet, time.monotonic() - begin), "data_notes": list(data.notes)}
    config = config_of(settings, Proxy(data, settings.image_size, space, space), table, whole.budget)
    run = Run.begin(run_path(settings, space.name, config, table), config)
    if settings.told:
        write_atomic(run.path / "config.yaml", yaml.safe_dump(dict(settings.told), sort_keys=False))
    with run.alone():
        if (run.path / RESULT).exists():
            yield Step("prune", 1, 1, f"{run.path} is finished; --seed or --run begins another")
            return run.read_json(RESULT)
        return (yield from _searched(settings, whole, data, run, rule, begin))


def _searched(
    settings: PruneSettings, whole: Whole, data: Dataset, run: Run, rule: TimingRule, begin: float
) -> Job[dict[str, Any]]:
    """Trains masks, takes what keeps the budgets as measured, and writes it."""
    if whole.latency is not None and (errors := whole.latency.calibration.errors):
        yield Step(
            "prune", 0, 1, f"interpolated rows predict {errors.networks} whole sub-networks that were held out "
            f"to {errors.mape:.1f}%, the worst to {errors.max_error:.1f}%"
        )  # fmt: skip
    search = PruneSearch(
        whole.prunable,
        lambda: whole.space.network(whole.architecture),
        data.train,
        whole.aims(dict.fromkeys(whole.limit_by_name, 1.0)),
        settings.config,
        run,
        settings.hardware,
    )
    search.resume()
    for metrics in search.steps():
        yield Step("prune", metrics["epoch"], settings.config.epochs, epoch=metrics)
    found, measured = yield from select(whole, search.theta.values, rule, run)
    network, valid_accuracy = yield from _network(settings, whole, data, search, run, found)
    save_network(run, "weights.safetensors", network)
    write_architecture(run, whole, found)
    seconds = time.monotonic() - begin
    return write_result(
        run,
        settings,
        whole,
        found,
        data_notes=data.notes,
        valid_accuracy=valid_accuracy,
        candidates=measured,
        seconds=seconds,
    )


def _network(
    settings: PruneSettings, whole: Whole, data: Dataset, search: PruneSearch, run: Run, found: Found
) -> Job[tuple[nn.Module, float | None]]:
    """The smaller module, and its accuracy on the validation images where it has learnt."""
    config, hardware = settings.config, settings.hardware
    if not settings.carry_weights:
        with hardware.seeded(config.seed):
            return whole.space.network(found.architecture), None
    network = whole.prunable.slimmed(found.masks, search.network.cpu())
    with hardware.holding(network):
        recalibrate(network, data.train)
    recipe = Recipe(epochs=config.finetune_epochs, lr=2e-3, seed=config.seed)
    for metrics in train(network, data.train, recipe, run, "finetune", hardware):
        yield Step("fine-tune", metrics["epoch"], recipe.epochs, epoch=metrics)
    with hardware.holding(network):
        return network, accuracy(network, data.valid)
