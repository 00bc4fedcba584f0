"""Subspace: a space with some of the candidates of its decisions given up; its networks are those of the whole."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from profilers.workload import Workload
from unas_hw.errors import ArchitectureError, SpaceError
from unas_hw.space import Architecture, Decision, Mask, Paths, SearchSpace, Term
from unas_hw.supernet import MixedOp, Path, Pruned, Supernet

Kept = tuple[tuple[int, ...], ...]
"""Per decision the numbers of the choices that are left, ascending."""
PROBE = 2
"""Images of a pass that only shows what is run: normalisation needs more than one."""


def everything(space: SearchSpace) -> Kept:
    """All choices of all decisions."""
    return tuple(tuple(range(len(decision.choices))) for decision in space.decisions)


@final
class Subspace(SearchSpace):
    """A space whose decisions choose among some of their candidates; one that has a single one left has no choice.

    Name, shapes and the names of choices are the whole's, and so are networks: architecture files, tables and exports
    know no difference. ``kept`` are per decision the numbers of the choices that are left, one at least.

    Raises:
        SpaceError: If a decision has nothing left, or there are no such choices.
    """

    def __init__(self, base: SearchSpace, kept: Sequence[Sequence[int]]) -> None:
        self.base, self.kept = base, tuple(tuple(sorted(set(each))) for each in kept)
        counts = [len(decision.choices) for decision in base.decisions]
        if len(self.kept) != len(counts) or not all(
            each and min(each) >= 0 and max(each) < count for each, count in zip(self.kept, counts, strict=False)
        ):
            raise SpaceError(
                f"{base.name} has decisions of {counts} choices: {[*map(list, kept)]} of them cannot be kept",
                mend="keep one choice of each decision at least, by its number from 0 on",
            )
        self.name, self.input_shape = base.name, base.input_shape
        self.classes, self.precision, self._file = base.classes, base.precision, base._file
        if duplicates := getattr(base, "duplicate_edges", None):
            self.duplicate_edges: Callable[[Tensor], Tensor] = lambda path: duplicates(self.of_base(path))

    @property
    def version(self) -> str | None:
        return self.base.version

    @property
    def title(self) -> str:
        return self.base.title

    @cached_property
    def _decisions(self) -> tuple[Decision, ...]:
        pairs = zip(self.base.decisions, self.kept, strict=True)
        return tuple(Decision(each.name, tuple(each.choices[j] for j in kept)) for each, kept in pairs)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return self._decisions

    @cached_property
    def _terms(self) -> tuple[Term, ...]:
        return tuple(self._restricted(term) for term in self.base.terms())

    def _restricted(self, term: Term) -> Term:
        counts = [len(self.base.decisions[g].choices) for g in term.decisions]
        places = itertools.product(*(self.kept[g] for g in term.decisions))
        entries = [int(np.ravel_multi_index(place, counts)) if counts else 0 for place in places]
        return Term(term.decisions, tuple(term.keys[entry] for entry in entries), term.count)

    def terms(self) -> tuple[Term, ...]:
        return self._terms

    @cached_property
    def _workloads(self) -> tuple[Workload, ...]:
        said = {key for term in self._terms for keys in term.keys for key in keys}
        return tuple(workload for workload in self.base.workloads() if workload.key in said)

    def workloads(self) -> tuple[Workload, ...]:
        return self._workloads

    def parts(self, architecture: Architecture) -> tuple[Workload, ...]:
        return self.base.parts(architecture)

    def network(self, architecture: Architecture) -> nn.Module:
        return self.base.network(architecture)

    def supernet(self) -> SubspaceSupernet:
        """The whole's, without what was given up; equal random numbers make equal weights of what is left."""
        supernet = self.base.supernet()
        prune(supernet, self.structure.used(self.kept))
        return SubspaceSupernet(supernet, self)

    @cached_property
    def structure(self) -> Structure:
        """Of the whole."""
        return Structure(self.base)

    @property
    def has_dead_operations(self) -> bool:
        return self.base.has_dead_operations

    def live(self, paths_NG: Paths) -> Mask:
        return self.base.live(self._paths_of_base(paths_NG))

    def usable(self, paths_NG: Paths) -> Mask:
        return self.base.usable(self._paths_of_base(paths_NG))

    @property
    def has_unusable(self) -> bool:
        return self.base.has_unusable

    def parse(self, text: str) -> Architecture:
        """Of the whole's forms; raises ``ArchitectureError`` for a network of the whole that is not in here."""
        architecture = self.base.parse(text)
        for decision, choice in zip(self.decisions, architecture.choices, strict=True):
            if choice not in decision.choices:
                raise ArchitectureError(
                    f"{choice!r} of decision {decision.name} was given up in this subspace of {self.name}",
                    mend=f"choose one of {', '.join(decision.choices)}",
                )
        return architecture

    def of_base(self, path: Tensor) -> Tensor:
        """``(..., G, K)`` weights of the choices that are left as weights of all, 0 for what was given up."""
        longest = max(len(decision.choices) for decision in self.base.decisions)
        width = max(map(len, self.kept))
        # What fills up short rows goes to a column of its own.
        places = torch.tensor([[*kept, *[longest] * (width - len(kept))] for kept in self.kept], device=path.device)
        whole = path.new_zeros(*path.shape[:-1], longest + 1)
        return whole.scatter(-1, places.expand(*path.shape[:-1], width), path[..., :width])[..., :longest]

    def path_of_base(self, path: Sequence[int]) -> tuple[int, ...]:
        """The same network's indices in the whole."""
        return tuple(kept[index] for kept, index in zip(self.kept, path, strict=True))

    def _paths_of_base(self, paths_NG: Paths) -> Paths:
        columns = [np.asarray(kept)[paths_NG[:, g]] for g, kept in enumerate(self.kept)]
        return np.stack(columns, 1)


@final
class SubspaceSupernet(Supernet):
    """The whole's supernet, without what the subspace has given up, run along paths of the subspace."""

    def __init__(self, base: Supernet, space: Subspace) -> None:
        super().__init__()
        self.base = base
        self.space = space

    def forward(self, x: Tensor, path: Path) -> Tensor:
        whole = self.space.of_base(path) if isinstance(path, Tensor) else self.space.path_of_base(path)
        logits: Tensor = self.base(x, whole)
        return logits

    def state_of(self, path: Sequence[int]) -> dict[str, Tensor]:
        return self.base.state_of(self.space.path_of_base(path))


@final
class Structure:
    """Which candidates of which mixed operations the paths of a space run.

    Found by passes through a supernet that has no memory and does no arithmetic, so in any space, whatever its
    supernet makes of a path: products of choices, cells that share them.
    """

    def __init__(self, space: SearchSpace) -> None:
        counts = [len(decision.choices) for decision in space.decisions]
        self.shape = len(counts), max(counts)
        with torch.device("meta"):
            self._supernet = space.supernet().eval().requires_grad_(False)
            self._images = torch.empty(PROBE, *space.input_shape[1:])

    def weights(self, path_GK: Tensor) -> list[Tensor]:
        """Per mixed operation what its candidates weigh, ``(J,)``; differentiable in the path."""
        mixed_ops = self._supernet.mixed_ops()
        found = [path_GK.new_zeros(len(mixed.candidates)) for mixed in mixed_ops]

        def look(number: int, x: Tensor, weights: Tensor) -> None:
            found[number] = found[number] + weights[: len(found[number])]

        with one_each(self._supernet, look):
            self._supernet(self._images, path_GK)
        return found

    def mask(self, kept: Sequence[Sequence[int]]) -> Tensor:
        """``(G, K)``: 1 for what is kept, 0 for all else."""
        mask = torch.zeros(self.shape, dtype=torch.float64, device="cpu")  # whatever another structure is built on
        for row, each in zip(mask, kept, strict=True):
            row[list(each)] = 1
        return mask

    def used(self, kept: Sequence[Sequence[int]]) -> list[frozenset[int]]:
        """Per mixed operation the candidates that some network of the subspace runs."""
        return [frozenset(weights.nonzero().flatten().tolist()) for weights in self.weights(self.mask(kept))]


@contextmanager
def one_each(supernet: Supernet, look: Callable[[int, Tensor, Tensor], None]) -> Iterator[None]:
    """Within it a relaxed pass runs one candidate of each mixed operation: that of the largest weight.

    Args:
        supernet: Whose passes.
        look: Told the number of a mixed operation, its input and the weights of its candidates, before it is run.
    """

    def instead(number: int) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]:
        def hook(
            mixed: nn.Module, args: tuple[Any, ...], told: dict[str, Any]
        ) -> tuple[tuple[Any, int], dict[str, Any]]:
            weights: Tensor = told["path"] if "path" in told else args[1]
            look(number, args[0], weights)
            return (args[0], int(weights.detach().argmax())), {}

        return hook

    hooks = [
        mixed.register_forward_pre_hook(instead(number), with_kwargs=True)
        for number, mixed in enumerate(supernet.mixed_ops())
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def prune(supernet: Supernet, used: Sequence[Collection[int]]) -> None:
    """Gives up what is not used; a mixed operation of which nothing is keeps its lightest candidate, which weighs 0."""
    for mixed, each in zip(supernet.mixed_ops(), used, strict=True):
        mixed.keep(each or {_lightest(mixed)})


def _lightest(mixed: MixedOp) -> int:
    there = [j for j, candidate in enumerate(mixed.candidates) if not isinstance(candidate, Pruned)]
    return min(there, key=lambda j: sum(weight.numel() for weight in mixed.candidates[j].parameters()))
