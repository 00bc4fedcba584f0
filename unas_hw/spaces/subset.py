"""The smaller networks that are in one of the user's own: how many channels each group has, which blocks there are."""

from __future__ import annotations

import hashlib
import math
import random
import shlex
from collections.abc import Mapping
from functools import cached_property
from itertools import product
from typing import final

import numpy as np
import torch
from torch import nn

from profilers.precision import PRECISIONS
from profilers.workload import NOTHING, Cost, Workload
from unas_hw.errors import SpaceError
from unas_hw.extremes import spread
from unas_hw.prunable.layers import Layer
from unas_hw.prunable.prunable import prunable
from unas_hw.prunable.ready import IMAGES, ready
from unas_hw.space import Architecture, Decision, SearchSpace, Term
from unas_hw.spaces import SUBSET
from unas_hw.spaces.arguments import CHANNELS
from unas_hw.spaces.factories import Factory, load_factory
from unas_hw.supernet import Supernet
from unas_hw.terms import Mask, Paths

KEEP, DROP = "keep", "drop"
MOST = 1_000_000
"""Combinations of widths in one term; what has more is for methods that do without terms."""


@final
class SubsetSpace(SearchSpace):
    """Networks that are smaller than one of the user's in the number of channels and of residual blocks.

    Which channels is not said: with new weights they are exchangeable, and weights that are carried along lie in files.

    Attributes:
        factory: Makes the whole network.
        prunable: The whole network, traced.

    Raises:
        PruningError: If the network cannot be pruned.
        SpaceError: If the factory fails, or its network has another number of classes.
    """

    def __init__(
        self, factory: Factory, *, image_shape: tuple[int, int, int], classes: int, batch: int, precision: str
    ) -> None:
        self.factory = factory
        self.name, self.precision, self.classes = factory.name, precision, classes
        self.input_shape = (batch, *image_shape)
        self._file = f"{SUBSET}{factory.origin}"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.prunable = prunable(self._whole(), image_shape)
            if self.prunable.classes != classes:
                raise SpaceError(
                    f"{factory.origin} gives {self.prunable.classes} outputs, there are {classes} classes; it was "
                    f"called as {self.told}",
                    mend="let the function take them: def build(classes, channels): ...",
                )
            self._check_channels()

    @property
    def told(self) -> str:
        """The call that makes the whole network: ``build(classes=10, channels=3)``."""
        channels, size, _ = self.input_shape[1:]
        told = self.factory.told(classes=self.classes, channels=channels, size=size)
        return told.words(self.factory.function)

    def _whole(self) -> nn.Module:
        channels, size, _ = shape = self.input_shape[1:]
        return ready(self.factory(classes=self.classes, channels=channels, size=size), shape)

    def _check_channels(self) -> None:
        """Refuses a word that could also be a width, where the network takes the same images whatever it is told."""
        channels, size, _ = shape = self.input_shape[1:]
        if self.factory.told(classes=self.classes, channels=channels, size=size).is_clear(CHANNELS):
            return
        try:
            other = ready(self.factory(classes=self.classes, channels=channels + 1, size=size), shape)
            with torch.no_grad():
                other.eval()(torch.zeros(IMAGES, *shape))
        except Exception:  # whatever it is: such a network is for other images, as it should be
            return
        sizes = [
            {name: each.shape for name, each in net.state_dict().items()} for net in (other, self.prunable.network)
        ]
        if sizes[0] != sizes[1]:
            raise SpaceError(
                f"{self.told} takes images of {channels} channels whatever number it is told: that means something "
                f"else",
                mend="call the channels of the images in_channels, and give the other a default",
            )

    @property
    def version(self) -> str:
        """Sixteen digits that change with the file and with what can be left out."""
        code = self.factory.file.read_bytes()
        return hashlib.sha256(repr(self.decisions).encode() + code).hexdigest()[:16]

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Of each group how many channels stay, and of each block whether it does."""
        return self._decisions

    @cached_property
    def _decisions(self) -> tuple[Decision, ...]:
        blocks = {block.name for block in self.prunable.blocks}
        return tuple(
            Decision(name, (KEEP, DROP) if name in blocks else tuple(str(count + 1) for count in range(size)))
            for name, size in self.prunable.sizes.items()
        )

    def widths(self, architecture: Architecture) -> dict[str, int]:
        """How many units of each group stay, and 1 or 0 for each block, as ``Prunable.widths``."""
        pairs = zip(self.decisions, architecture.choices, strict=True)
        return {decision.name: _width(choice) for decision, choice in pairs}

    def architecture_of(self, widths: Mapping[str, int]) -> Architecture:
        """The inverse of ``widths``."""
        blocks = {block.name for block in self.prunable.blocks}
        chosen = (
            (DROP, KEEP)[widths[each.name]] if each.name in blocks else str(widths[each.name])
            for each in self.decisions
        )
        return Architecture(self.name, tuple(chosen))

    def parts(self, architecture: Architecture) -> tuple[Workload, ...]:
        widths = self.widths(architecture)
        there = (layer for layer in self.prunable.layers if all(widths[block] for block in layer.blocks))
        return tuple(self._row(layer, widths) for layer in there)

    def beside(self, architecture: Architecture) -> Cost:
        """All that is no layer: recurrent layers, attention, products in the user's own code."""
        widths, batch = self.widths(architecture), self.input_shape[0]
        size = PRECISIONS[self.precision][1]
        found = NOTHING
        for each in self.prunable.others:
            if all(widths[block] for block in each.blocks):
                moved_bytes = (each.moved * batch + each.params) * size
                macs = round(each.macs * batch)
                found += Cost(macs=macs, params=each.params, moved_bytes=moved_bytes, not_counted=each.not_counted)
        return found

    def _row(self, layer: Layer, widths: Mapping[str, int]) -> Workload:
        n_in, n_out = layer.widths(widths)
        return layer.workload(n_in, n_out, batch=self.input_shape[0], precision=self.precision)

    def network(self, architecture: Architecture) -> nn.Module:
        masks = self.prunable.first(self.widths(architecture))
        return self.prunable.fresh(masks, self._whole())

    def terms(self) -> tuple[Term, ...]:
        """One for each layer.

        Raises:
            SpaceError: If a layer's input is made of too many groups, as in dense networks, to list its widths.
        """
        return self._terms

    @cached_property
    def _terms(self) -> tuple[Term, ...]:
        places = {decision.name: place for place, decision in enumerate(self.decisions)}
        terms = []
        for layer in self.prunable.layers:
            decisions = tuple(sorted(places[name] for name in {*_groups(layer), *layer.blocks}))
            choices = [self.decisions[place].choices for place in decisions]
            if math.prod(map(len, choices)) > MOST:
                raise SpaceError(
                    f"{layer.path} of {self.name} depends on {len(decisions)} decisions, too many to list its widths",
                    mend=self._prune,
                )
            keys = []
            for chosen in product(*choices):
                widths = {
                    self.decisions[place].name: _width(each) for place, each in zip(decisions, chosen, strict=True)
                }
                there = all(widths[block] for block in layer.blocks)
                keys.append((self._row(layer, widths).key,) if there else ())
            terms.append(Term(decisions, tuple(keys)))
        return tuple(terms)

    def workloads(self) -> tuple[Workload, ...]:
        return self._workloads

    @cached_property
    def _workloads(self) -> tuple[Workload, ...]:
        batch, precision = self.input_shape[0], self.precision
        rows = (
            layer.workload(*widths, batch=batch, precision=precision)
            for layer in self.prunable.layers
            for widths in sorted(self._pairs(layer))
        )
        return tuple({row.key: row for row in rows}.values())

    def _pairs(self, layer: Layer) -> set[tuple[int, int]]:
        """All input and output widths of a layer."""
        sizes = self.prunable.sizes
        found = {layer.widths(dict.fromkeys(sizes, 0))}
        for name in _groups(layer):
            others = dict.fromkeys(sizes, 0)
            base = layer.widths(others)
            step = [one - none for one, none in zip(layer.widths(others | {name: 1}), base, strict=True)]
            counts = range(1, sizes[name] + 1)
            found = {(n_in + step[0] * k, n_out + step[1] * k) for n_in, n_out in found for k in counts}
        return found

    @property
    def has_dead_operations(self) -> bool:
        return bool(self.prunable.blocks)

    def live(self, paths_NG: Paths) -> Mask:
        """A group within dropped blocks only is not run."""
        places = {decision.name: place for place, decision in enumerate(self.decisions)}
        live = np.ones(paths_NG.shape, bool)
        for group in self.prunable.groups:
            around = [layer.blocks for layer in self.prunable.layers if group.name in _groups(layer)]
            kept = [(paths_NG[:, [places[block] for block in blocks]] == 0).all(1) for blocks in around]
            live[:, places[group.name]] = np.any(kept, axis=0)
        return live

    @property
    def _prune(self) -> str:
        return f"unas-hw prune {shlex.quote(self.factory.origin)}"

    def supernet(self) -> Supernet:
        """None: raises ``SpaceError``."""
        raise SpaceError(f"the networks of {self.origin} share no weights to search with", mend=self._prune)


@spread.register(SubsetSpace)
def _spread_widths(space: SubsetSpace, count: int, rng: random.Random) -> tuple[Architecture, ...]:
    """As of every space, but stratified by widths: there are too many to price them all.

    Widths go in the steps that runtimes compute at once, as those of what ships: others take up to three times as
    long, and would mislead a calibration.
    """
    steps = {group.name: group.step() for group in space.prunable.groups}
    sizes, blocks = space.prunable.sizes, {block.name: 1 for block in space.prunable.blocks}
    found = dict.fromkeys(map(space.architecture_of, (steps | dict.fromkeys(blocks, 0), sizes | blocks)))
    for _ in range(1000):  # there may be fewer networks than are asked for
        if len(found) >= min(count, space.size):
            break
        share = (len(found) - 1) / max(count - 1, 1)
        widths = {
            name: min(sizes[name], step * max(1, round(sizes[name] / step * share * rng.uniform(0.7, 1.3))))
            for name, step in steps.items()
        }
        found[space.architecture_of(widths | {name: int(rng.random() < share) for name in blocks})] = None
    return tuple(found)[:count]


def _width(choice: str) -> int:
    return {KEEP: 1, DROP: 0}[choice] if choice in (KEEP, DROP) else int(choice)


def _groups(layer: Layer) -> dict[str, None]:
    """Names of the groups on which a layer's widths depend, in order."""
    return dict.fromkeys(each.group for each in (*layer.inputs, *layer.outputs) if each.group is not None)


def open_subset(
    target: str, *, image_shape: tuple[int, int, int] | None, classes: int | None, batch: int, precision: str
) -> SubsetSpace:
    """The space of the network that ``load_factory`` finds by this name; as ``find_space``."""
    factory = load_factory(target)
    shape = image_shape or factory.image_shape
    return SubsetSpace(factory, image_shape=shape, classes=classes or factory.classes, batch=batch, precision=precision)
