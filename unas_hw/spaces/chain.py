"""ChainSpace: layers in a row, each with its own independent choice of block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import final

from torch import nn

from profilers.workload import Workload
from unas_hw.space import Architecture, Decision, SearchSpace, Term
from unas_hw.supernet import IDENTITY_DROPOUT, ChainSupernet, MixedOp


@dataclass(frozen=True)
class Layer:
    """One place in the chain, such as ``stage2.1``: a block for each choice, of which None runs nothing (identity).

    A fixed layer has one candidate.
    """

    name: str
    candidates: dict[str, Workload | None]

    @property
    def searched(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.candidates) > 1


@final
class ChainSpace(SearchSpace):
    """A space whose networks are chains of blocks; shapes do not depend on the choices."""

    def __init__(
        self,
        name: str,
        input_shape: tuple[int, int, int, int],
        classes: int,
        layers: list[Layer],
        precision: str = "float32",
    ) -> None:
        self.name = name
        self.input_shape = input_shape
        self.classes = classes
        self.precision = precision
        self.layers = tuple(layers)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return self._decisions

    @cached_property
    def _decisions(self) -> tuple[Decision, ...]:
        return tuple(Decision(layer.name, tuple(layer.candidates)) for layer in self.layers if layer.searched)

    def terms(self) -> tuple[Term, ...]:
        terms, decision = [], 0
        for layer in self.layers:
            keys = tuple((block.key,) if block else () for block in layer.candidates.values())
            terms.append(Term((decision,) if layer.searched else (), keys))
            decision += layer.searched
        return tuple(terms)

    def workloads(self) -> tuple[Workload, ...]:
        return self._workloads

    @cached_property
    def _workloads(self) -> tuple[Workload, ...]:
        blocks = (block for layer in self.layers for block in layer.candidates.values() if block)
        return tuple({block.key: block for block in blocks}.values())

    def parts(self, architecture: Architecture) -> tuple[Workload, ...]:
        choices = iter(architecture.choices)
        chosen = [layer.candidates[next(choices) if layer.searched else layer.name] for layer in self.layers]
        return tuple(block for block in chosen if block)

    def network(self, architecture: Architecture) -> nn.Module:
        return nn.Sequential(*(block.build() for block in self.parts(architecture)))

    def supernet(self) -> ChainSupernet:
        def module(block: Workload | None) -> nn.Module:
            return block.build() if block else nn.Dropout(IDENTITY_DROPOUT)

        layers: list[nn.Module] = []
        for layer in self.layers:
            modules = [module(block) for block in layer.candidates.values()]
            layers.append(MixedOp(modules) if layer.searched else modules[0])
        return ChainSupernet(layers)
