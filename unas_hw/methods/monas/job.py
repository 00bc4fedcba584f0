"""MONAS from a prepared search to its network: children, what they cost, the Pareto front as it grows."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn

from profilers.files import write_atomic
from unas_hw.errors import DataError, MethodError
from unas_hw.finals.fronts import LEAST, verdict_of_fronts
from unas_hw.finals.plan import Finals
from unas_hw.methods.monas.config import MonasConfig
from unas_hw.methods.monas.prices import Prices, reward_of
from unas_hw.methods.monas.rewards import Child
from unas_hw.methods.monas.search import Batch, MonasSearch
from unas_hw.progress import Job, Step
from unas_hw.resources import Macs
from unas_hw.search.accuracies import Accuracies as Known
from unas_hw.search.accuracies import averaged, read_accuracies
from unas_hw.search.front import csv_of, hypervolume, svg_of
from unas_hw.search.prepared import Prepared, measured_best, meter_of
from unas_hw.search.result import finish
from unas_hw.search.selection import Path
from unas_hw.search.settings import SearchSettings
from unas_hw.training import Recipe
from unas_hw.training.child import told_child
from unas_hw.training.workers import Here, many, place_of

CHILDREN, FRONT, PICTURE, TRAINED = "children.jsonl", "pareto.csv", "pareto.svg", "child.safetensors"
CONTROL, DRAWN = "control.jsonl", 20
"""Random networks, a line each; draws for each of them, since a small space has few."""
TITLES = {
    "energy": "energy of a call, mJ",
    "latency": "latency, ms",
    "macs": "MACs of an image",
    "params": "parameters",
}


def refuse(settings: SearchSettings) -> None:
    """Raises ``MethodError``, ``DataError``, ``FileError`` or ``MissingDependencyError`` for what cannot be."""
    config = settings.config
    assert isinstance(config, MonasConfig)
    if Finals.parse(settings.ends).seconds is not None:
        raise MethodError(
            "children of MONAS are all trained alike, and so is its control group: --finals is no time there",
            mend="say how many random networks are trained beside them: --finals 16, or none",
        )
    if config.accuracies is not None:
        _read(config.accuracies)
    has_bound = settings.budget or settings.limits or config.max_power_w or config.min_accuracy
    if config.reward == "constraint" and not has_bound:
        raise MethodError(
            "a constraint reward has nothing to keep",
            mend="add --latency-budget 50%, or another budget, or --set monas.min_accuracy=0.9",
        )


def search(prepared: Prepared) -> Job[dict[str, Any]]:
    """Trains or prices children until there are enough, and finishes the run with the best that keeps the budget.

    Every child that is finished is a line of ``children.jsonl``; ``pareto.csv`` and ``pareto.svg`` are as of the last
    batch.

    Returns:
        As ``search``, with ``children`` (how many), ``cost`` (what stands beside the accuracy), ``front`` (how many
        networks), ``hypervolume`` (of accuracy above guessing and cost below the highest, as a share of all of it),
        ``child_accuracy``, which the network had as a child, and ``control``, how the front compares with that of
        random networks.
    """
    config, run = prepared.config(MonasConfig), prepared.run
    prices = Prices(prepared)
    reward = reward_of(prepared, prices)
    search = MonasSearch(prepared.space, reward, config, prepared.settings.seed, run)
    lines = {prepared.space.running(line["path"]): line for line in run.lines(CHILDREN)}
    search.resume([(line["batch"], _child(line)) for line in lines.values()])
    yield Step(
        "children", len(search.known), config.children, f"children are {_how(prepared)}; their cost is {prices.cost}"
    )
    with ExitStack() as open_until_done:
        accuracies = _accuracies_of(prepared, open_until_done)
        energy = prices.meter(open_until_done) if config.measure else None

        def trained(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
            for path, accuracy, seconds in accuracies(list(dict.fromkeys(paths))):
                child = prices.child(path, accuracy)
                child = child if energy is None else energy(child)
                name = str(prepared.space.architecture(path))
                yield {"architecture": name, **_as_line(child), "seconds": seconds}

        while not search.is_done:
            batch = search.propose()
            for line in trained([path for path in batch.paths if prepared.space.running(path) not in lines]):
                lines[prepared.space.running(line["path"])] = line = {"batch": search.batches, **line}
                run.append(CHILDREN, line)
                yield Step("children", min(len(lines), config.children), config.children, measured=(line,))
            search.learn(batch, [_child(lines[prepared.space.running(path)]) for path in batch.paths])
            _draw(prepared, search, prices)
            yield Step("children", len(search.known), config.children, _note(search, batch))
        control = {prepared.space.running(path): path for path in _random(prepared)}
        beside = {**lines, **{prepared.space.running(line["path"]): line for line in run.lines(CONTROL)}}
        for line in trained([path for running, path in control.items() if running not in beside]):
            beside[prepared.space.running(line["path"])] = line
            run.append(CONTROL, line)
            yield Step("control group", sum(running in beside for running in control), len(control))
    return (yield from _finished(prepared, search, prices, [_child(beside[running]) for running in control]))


def _random(prepared: Prepared) -> list[Path]:
    """The control group: networks of the space, each once; some may be children too."""
    asked = Finals.parse(prepared.settings.ends)
    count = 0 if asked.none else asked.networks or max(prepared.config(MonasConfig).children // 4, LEAST)
    space, rng, found = prepared.space, random.Random(prepared.settings.seed), dict[Path, Path]()
    for _ in range(DRAWN * count):
        if len(found) < count:
            path = space.indices(space.draw(rng))
            found.setdefault(space.running(path), path)
    return list(found.values())


def _finished(prepared: Prepared, search: MonasSearch, prices: Prices, control: Sequence[Child]) -> Job[dict[str, Any]]:
    ranked = search.ranked()

    def within(most_ms: float) -> list[Path]:
        return [child.path for child in ranked if child.latency_ms <= most_ms and prepared.fits(child.path)]

    with meter_of(prepared) as meter:
        selection = yield from measured_best(prepared, meter, within)
    path = selection.best or selection.nearest
    best = search.known.get(prepared.space.running(path))
    network, accuracy = yield from _trained(prepared, path)
    low, high = prices.range
    guess = 1 / prepared.data.classes
    points, randoms = (
        np.array([(child.accuracy, -prices.of(child)) for child in each]).reshape(-1, 2)
        for each in (search.ordered(), control)
    )
    whole = (1 - guess) * (high - low)
    more = {
        "children": len(search.known),
        "cost": prices.cost,
        "front": len(search.front()),
        "hypervolume": hypervolume(points, (guess, -high)) / whole if whole else None,
        "child_accuracy": best.accuracy if best else None,
        **({"control": verdict_of_fronts(points, randoms, (guess, -high), whole)} if len(control) else {}),
    }
    return finish(prepared, selection, network, valid_accuracy=accuracy, more=more)


def _trained(prepared: Prepared, path: Path) -> Job[tuple[nn.Module, float | None]]:
    """The network as it was as a child, which is trained once more: the same seed gives the same weights."""
    yield Step("train the network that was found", 0, 1)
    seed = prepared.settings.seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = prepared.space.network(prepared.space.architecture(path))
    if prepared.config(MonasConfig).accuracies is not None:
        return network, None
    place = prepared.run.path / TRAINED
    with Here() as workers:
        ((_, answer),) = workers.train([{**_told(prepared, path), "weights": str(place.resolve())}])
    saved = prepared.run.load_tensors(TRAINED)
    assert saved is not None
    network.load_state_dict(saved[0])
    place.unlink()
    yield Step("train the network that was found", 1, 1)
    return network.eval(), answer["accuracy"]


Accuracies = Callable[[Sequence[Path]], Iterator[tuple[Path, float, float | None]]]
"""Of networks: their choices, accuracy and the seconds that took, as they are finished."""


def _accuracies_of(prepared: Prepared, open_until_done: ExitStack) -> Accuracies:
    config, space = prepared.config(MonasConfig), prepared.space
    if config.accuracies is not None:
        known = _table(prepared, config.accuracies)
        return lambda paths: ((path, known(path), None) for path in paths)
    workers = open_until_done.enter_context(many(prepared.settings.workers, prepared.settings.ray))
    macs = Macs(space)

    def trained(paths: Sequence[Path]) -> Iterator[tuple[Path, float, float | None]]:
        longest_first = sorted(paths, key=macs.value, reverse=True)  # so that nobody waits for one that began last
        for number, answer in workers.train([_told(prepared, path) for path in longest_first]):
            yield longest_first[number], answer["accuracy"], answer["seconds"]

    return trained


def _told(prepared: Prepared, path: Path) -> dict[str, Any]:
    config = prepared.config(MonasConfig)
    recipe = Recipe(epochs=config.child_epochs, batch_size=config.child_batch_size)
    choices = prepared.space.architecture(path).choices
    size: int | None = prepared.run.config["image_size"]
    return told_child(prepared.space, prepared.data, size, prepared.settings.seed, choices, recipe)


def _table(prepared: Prepared, told: str) -> Callable[[Path], float]:
    """Accuracies of a file, percent or shares; of several rows of a network the mean."""
    space, known = prepared.space, _known(prepared, told).mean
    unit = 100.0 if max(known.values()) > 1 else 1.0

    def accuracy(path: Path) -> float:
        found = known.get(space.running(path))
        if found is None:
            raise DataError(
                f"{told} has no accuracy of {space.architecture(path)}",
                mend="give a table of all networks of the space, or leave out --accuracies: children are trained then",
            )
        return found / unit

    return accuracy


def _known(prepared: Prepared, told: str) -> Known[Path]:
    """By what is run: rows of networks that turn out to be the same are rows of one."""
    space = prepared.space
    return averaged((space.running(space.indices(space.parse(text))), accuracy) for text, accuracy in _read(told))


def _read(told: str) -> list[tuple[str, float]]:
    """Of ``FILE`` or ``FILE:COLUMN``."""
    name, colon, column = told.rpartition(":")
    return read_accuracies(name if colon else told, column if colon else None)


def _draw(prepared: Prepared, search: MonasSearch, prices: Prices) -> None:
    """The front as a table, and all children as a picture."""
    best = search.front()
    every, front = ([(prices.of(child), child.accuracy) for child in each] for each in (search.ordered(), best))
    table = {str(prepared.space.architecture(child.path)): vars(child) for child in best}
    write_atomic(prepared.run.path / FRONT, csv_of(table))
    write_atomic(prepared.run.path / PICTURE, svg_of(every, front, TITLES[prices.cost]))


def _note(search: MonasSearch, batch: Batch) -> str:
    """One line now and then, not one a batch."""
    if search.batches % 5 and not search.is_done:
        return ""
    best = search.ranked()[0]
    return f"{len(search.known)} children, {len(search.front())} on the front; best {best.accuracy:.2%}"


def _how(prepared: Prepared) -> str:
    config, settings = prepared.config(MonasConfig), prepared.settings
    if config.accuracies is not None:
        words = _known(prepared, config.accuracies).words
        return f"priced from {config.accuracies}" + (f" ({words})" if words else "")
    return f"trained for {config.child_epochs} epochs each, in {place_of(settings.workers, settings.ray)}"


def _as_line(child: Child) -> dict[str, Any]:
    return {**vars(child), "path": list(child.path)}


def _child(line: Mapping[str, Any]) -> Child:
    values = {name: line[name] for name in Child.__dataclass_fields__}
    return Child(**{**values, "path": tuple(line["path"])})
