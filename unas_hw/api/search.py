"""Search and prune: from a budget to a network that keeps it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profilers.timing import timing_rule
from unas_hw.api.found import Found
from unas_hw.api.running import Callback, follow
from unas_hw.api.tables import Table
from unas_hw.api.told import refuse_fractions
from unas_hw.budget import Budget
from unas_hw.jobs.search import search as searched
from unas_hw.methods.pruning.config import prune_settings_of
from unas_hw.methods.pruning.job import prune as pruned
from unas_hw.methods.settings import settings_of
from unas_hw.space import SearchSpace
from unas_hw.spaces import SPACES, find_space

if TYPE_CHECKING:
    import pandas as pd


def search(
    table: Table | str | Path | None = None,
    *,
    budget: Budget | str | None = None,
    space: str | SearchSpace | None = None,
    dataset: str | Path | None = None,
    method: str | None = None,
    seed: int | None = None,
    rounds: int | None = None,
    resume: bool = True,
    callbacks: Iterable[Callback] = (),
    progress: bool | None = None,
    **settings: Any,
) -> Found:
    """Finds a network whose own measured latency meets the budget.

    Stopped, by an interrupt or by a callback, the same call goes on where it was; finished, it returns what was found.

    Args:
        table: Of the device: an object, a path, or the beginning of a name; by default the last that was profiled and
            has the operations, and this CPU is profiled first if there is none.
        budget: ``80ms``, ``80ms@p90``, ``50%`` of the way from the fastest to the slowest network, or an object.
            Freenas, monas, radars and tasks need none.
        space: Its name, with options or without, or the path of your own; by default that of the table, if it is given
            as an object, or else what suits the images.
        dataset: ``digits``, the path of an ``.npz``, or a task such as ``minatar:breakout``.
        method: ``unas`` by default; ``darts``, ``snas``, ``gdas``, ``reinforce``, ``proxylessnas``, ``fbnet``,
            ``freenas``, ``monas``, ``radars``, or one that another package brings.
        seed: Of everything random; 0 by default.
        rounds: Samples of each network at most; more on noisy machines.
        resume: False begins a run folder of its own, numbered, whatever there is.
        callbacks: What is told of it.
        progress: Whether there is a bar; by default in a terminal and in a notebook.
        settings: Every other option of ``unas-hw search`` by its name, such as ``epochs``, ``params_budget``,
            ``train_on`` or ``run``.

    Returns:
        What was found. Where no network can meet the budget, ``feasible`` is false, and ``architecture`` None.

    Raises:
        ConfigurationError: If there is no such setting; the nearest is named.
        UnasError: If what was asked for cannot be read or cannot be done.
    """
    refuse_fractions(rounds=rounds)
    if isinstance(table, Table):
        space = space or (None if table.latencies.is_published else table.space.origin)
    if isinstance(budget, Budget):
        settings.setdefault("confidence", budget.confidence)
    told = settings_of(
        table=_text(table.path if isinstance(table, Table) else table),
        budget=_text(budget),
        space=space.origin if isinstance(space, SearchSpace) else space,
        dataset=_text(dataset),
        method=method,
        seed=seed,
        fresh=not resume,
        **settings,
    )
    return follow(searched(told, timing_rule(rounds)), Found, callbacks, progress)


def _text(value: Budget | str | Path | None) -> str | None:
    if isinstance(value, Budget):
        return value.text
    return None if value is None else str(value)


def prune(
    network: str | Path,
    *,
    budget: Budget | str | None = None,
    table: Table | str | Path | None = None,
    rounds: int | None = None,
    callbacks: Iterable[Callback] = (),
    progress: bool | None = None,
    **settings: Any,
) -> Found:
    """Finds the channels and blocks of your own network to keep within a budget: the network gets smaller.

    Args:
        network: ``package.module:factory``, ``my_net.py`` (its function ``build``) or ``my_net.py:factory``.
        budget: Of the latency: ``80ms``, ``80ms@p90``, or ``50%`` of what the whole network takes.
        table: By default the one for this network, made where there is none.
        rounds: Samples of each network at most.
        callbacks: What is told of it.
        progress: Whether there is a bar; by default in a terminal and in a notebook.
        settings: Every other option of ``unas-hw prune`` by its name, such as ``macs_budget`` or ``dataset``; what of
            ``PruneConfig`` is no option under ``prune={...}``.

    Returns:
        What was found. Where no sub-network can meet the budget, ``feasible`` is false, and ``architecture`` None.

    Raises:
        BudgetError: If there is no budget, or one cannot be read.
        PruningError: If the network cannot be pruned.
    """
    refuse_fractions(rounds=rounds)
    if isinstance(budget, Budget):
        settings.setdefault("confidence", budget.confidence)
    told = prune_settings_of(
        str(network), budget=_text(budget), table=_text(table.path if isinstance(table, Table) else table), **settings
    )
    return follow(pruned(told, timing_rule(rounds)), Found, callbacks, progress)


def spaces() -> pd.DataFrame:
    """The search spaces that there are, by name: what they are, how many networks, for which images, which options."""
    import pandas as pd

    rows = {
        name: {
            "summary": listing.summary,
            "networks": space.size,
            "decisions": len(space.decisions),
            "input_shape": space.input_shape,
            "classes": space.classes,
            "options": ", ".join(listing.options),
        }
        for name, listing in SPACES.items()
        for space in [find_space(name)]
    }
    return pd.DataFrame.from_dict(rows, orient="index")
