"""Groups of channels: those that go together, and alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from unas_hw.prunable.channels import Kept
from unas_hw.prunable.propagation import Flow
from unas_hw.prunable.replay import broken

TRIALS = 8
"""With any number of channels."""


BLOCK = 8
"""Channels that runtimes compute at once: a width of 17 may take twice what 16 takes."""


@dataclass(frozen=True)
class Group:
    """Channels of which any number but none may stay, named by the path of the first layer that makes them.

    Of ``size`` independent units, each ``unit`` channels of that layer; ``members`` are the paths of all modules that
    are resized with them, in order.
    """

    name: str
    size: int
    unit: int
    members: tuple[str, ...]

    def step(self, multiple: int = BLOCK) -> int:
        """Units that are kept or given up together, for widths that are multiples of this; at most a quarter."""
        return max(1, min(-(-multiple // self.unit), self.size // 4))


@dataclass(frozen=True)
class Grouping:
    """The groups of a network in the order of their first layers, and what stays, a line for each layer that makes
    such.

    ``units`` are ``(size,)`` for each: the root of each unit's channels.
    """

    groups: tuple[Group, ...]
    units: tuple[Tensor, ...]
    kept: tuple[Kept, ...]


def grouped(flow: Flow) -> Grouping:
    """The groups, after everything was tried out on smaller ones; what does not bear it stays."""
    while True:
        grouping = _grouping(flow)
        found = False
        for alive in _trials(flow, grouping):
            for channels, reason in broken(flow, alive):
                found = found or flow.channels.free(channels)
                flow.channels.pin(channels, reason)
        if not found:
            return grouping


def _grouping(flow: Flow) -> Grouping:
    channels, roots = flow.channels, flow.channels.roots
    seen: dict[int, Counter[str]] = {}
    makers = {path: roots[made] for path, made in channels.made.items()}
    for path, made in makers.items():
        for root in made.tolist():
            seen.setdefault(root, Counter())[path] += 1
    for place, site in enumerate(flow.sites):
        for root in roots[site.inputs].tolist():
            if root:
                seen[root][f"{place} reads"] += 1
    alike: dict[tuple[tuple[str, int], ...], list[int]] = {}
    for root, counts in seen.items():
        if channels.reason(root) is None:
            alike.setdefault(tuple(sorted(counts.items())), []).append(root)
    groups, units, names = [], [], Counter[str]()
    for same in alike.values():
        if len(same) == 1:
            channels.pin(torch.tensor(same), "all of its channels go together")
            continue
        counts = seen[same[0]]
        first = next(path for path in makers if counts[path])
        names[first] += 1
        name = first if names[first] == 1 else f"{first}#{names[first]}"
        inside = torch.tensor(same)
        touched = [site.path for site in flow.sites if bool(torch.isin(roots[site.outputs], inside).any())]
        groups.append(Group(name, len(same), counts[first], tuple(dict.fromkeys(touched))))
        units.append(inside)
    reasons = {path: next(filter(None, map(channels.reason, made.tolist())), None) for path, made in makers.items()}
    kept = tuple(Kept(path, reason) for path, reason in reasons.items() if reason)
    return Grouping(tuple(groups), tuple(units), (*kept, *flow.kept))


def _trials(flow: Flow, grouping: Grouping) -> list[Tensor]:
    """Which channels are left when the first or last unit of one group goes, or any number of each group's."""
    generator = torch.Generator().manual_seed(0)
    gone: list[list[Tensor]] = [[] for _ in range(TRIALS)]
    alone: list[list[Tensor]] = []
    for units in grouping.units:
        alone += [[units[:1]], [units[-1:]]]
        for trial in gone:
            count = int(torch.randint(len(units), (), generator=generator))
            trial.append(units[torch.randperm(len(units), generator=generator)[:count]])
    roots = flow.channels.roots
    return [~torch.isin(roots, torch.cat(trial)) for trial in (*alone, *gone) if trial]
