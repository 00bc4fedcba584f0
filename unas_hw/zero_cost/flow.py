"""FreeFlow: how much of what flows through a supernet each candidate carries. No data, no labels, no training.

With absolute weights, an input of ones and no activation in the way a supernet is a sum over paths. R is the sum of its
logits, alpha the weight of every candidate, the same for all; ``S = |alpha dR/dalpha|`` is what passes through one. R
is linear in the weights of an edge, so that S / R is its share of the flow.
Source: FreeNAS (arXiv 2106.11542) as released.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from unas_hw.errors import SpaceError
from unas_hw.ops.darts_cell import INPUTS, NODES, PAIRS
from unas_hw.space import Paths, SearchSpace
from unas_hw.spaces.darts_supernet import DartsSupernet
from unas_hw.spaces.genotypes import CELLS
from unas_hw.supernet import MixedOp, Supernet
from unas_hw.terms import Costs
from unas_hw.zero_cost.positive import Positive, absolute

HALVINGS = 64
"""Of alpha, until the flow is finite: no layer multiplies it by more than that takes away."""


@final
@dataclass(frozen=True, kw_only=True)
class Edge:
    """A place where networks run one of several candidates; places that share their decisions are one.

    Attributes:
        name: Of the decision; of a DARTS cell ``normal.3<-1``, node and input.
        decisions: Indices; of a DARTS cell inputs and operations of both edges of the node.
        source: Which input of its node it comes from; None where a decision is about nothing else.
        choices: Names of the candidates.
        shares: Of the flow, summed over the cells that share the decision; 0 of what gives nothing.
        dropped: Whether an earlier round dropped the candidate; its share is that of the round before.
    """

    name: str
    decisions: tuple[int, ...]
    source: int | None
    choices: tuple[str, ...]
    shares: tuple[float, ...]
    dropped: tuple[bool, ...]

    @property
    def left(self) -> list[int]:
        """Candidates that give something and were not dropped."""
        return [j for j, share in enumerate(self.shares) if share > 0 and not self.dropped[j]]


Place = tuple[Edge, Tensor]
"""An edge that is not scored yet, and the weights of its candidates, which the cells that share them have in common."""


@final
@dataclass(frozen=True, kw_only=True)
class Flow:
    """What a supernet says of its candidates.

    Attributes:
        alpha: The constant.
        log_flow: Natural logarithm of R.
        edges: In the order of their decisions.
    """

    alpha: float
    log_flow: float
    edges: tuple[Edge, ...]

    def tables(self, *, dropped: bool = False, nothing: bool = False) -> dict[tuple[int, ...], Costs]:
        """What each choice adds to the score of a network, by decisions; minus infinity where it must not be chosen.

        In a DARTS cell the edges of a node come from two inputs, the first from the earlier one: the other order is the
        same network.

        Args:
            dropped: Whether candidates that a round dropped may be chosen all the same.
            nothing: Whether candidates may be chosen that give nothing.
        """
        shares = []
        for edge in self.edges:
            own, gone = np.array(edge.shares), np.array(edge.dropped)
            shares.append(np.where(((own > 0) | nothing) & (~gone | dropped), own, -np.inf))
        return self._tables(shares, ordered=True)

    def scores(self, space: SearchSpace, paths_NG: Paths) -> Costs:
        """``(N,)``: the sum of the shares of what each network runs."""
        live_NG = space.live(paths_NG)
        total = np.zeros(len(paths_NG))
        for decisions, table in self._every.items():
            part = table[tuple(paths_NG[:, g] for g in decisions)]
            total += np.where(live_NG[:, decisions].all(1), part, 0.0)
        return total

    @cached_property
    def _every(self) -> dict[tuple[int, ...], Costs]:
        return self._tables([np.array(edge.shares) for edge in self.edges], ordered=False)

    def _tables(self, shares: Sequence[Costs], *, ordered: bool) -> dict[tuple[int, ...], Costs]:
        tables: dict[tuple[int, ...], Costs] = {}
        for decisions in dict.fromkeys(edge.decisions for edge in self.edges):
            own = [each for edge, each in zip(self.edges, shares, strict=True) if edge.decisions == decisions]
            if len(decisions) == 1:
                tables[decisions] = own[0]
                continue
            table_IK = np.stack(own)
            pairs = table_IK[:, :, None, None] + table_IK
            if ordered:
                one, other = np.indices((len(own), len(own)))
                pairs = np.where((one < other)[:, None, :, None], pairs, -np.inf)
            tables[decisions] = pairs
        return tables

    def as_json(self) -> dict[str, Any]:
        """Everything, as ``of`` reads it."""
        edges = [
            {
                "name": edge.name,
                "decisions": list(edge.decisions),
                "source": edge.source,
                "shares": dict(zip(edge.choices, edge.shares, strict=True)),
                "dropped": [edge.choices[j] for j, gone in enumerate(edge.dropped) if gone],
            }
            for edge in self.edges
        ]
        return {"alpha": self.alpha, "log_flow": self.log_flow, "edges": edges}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Flow:
        """The inverse of ``as_json``."""
        edges = tuple(
            Edge(
                name=each["name"],
                decisions=tuple(each["decisions"]),
                source=each["source"],
                choices=tuple(each["shares"]),
                shares=tuple(each["shares"].values()),
                dropped=tuple(choice in each["dropped"] for choice in each["shares"]),
            )
            for each in content["edges"]
        )
        return cls(alpha=content["alpha"], log_flow=content["log_flow"], edges=edges)


def fresh_supernet(space: SearchSpace, seed: int) -> Supernet:
    """A supernet of one's own, with the initial weights of this seed, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return space.supernet().eval()


def free_flow(space: SearchSpace, supernet: Supernet, before: Flow | None = None) -> Flow:
    """Scores all candidates of a supernet in evaluation mode; one forward and one backward pass, in double precision.

    Its weights are read, and not changed. What the round before dropped has weight zero and keeps its share; the alpha
    of that round is tried first.

    Raises:
        SpaceError: If nothing reaches the output, or weights of candidates are made of several decisions.
    """
    alpha, places, flow, parts = _finite(space, supernet, before)
    if flow == 0 or not any(part.any() for part in parts):
        raise SpaceError(
            f"nothing of an input of ones reaches the output of {space.name}'s supernet",
            mend=f"unas-hw spaces check {shlex.quote(space.origin)}, or another --method",
        )
    shared = zip(places, parts, strict=True)
    edges = [replace(edge, shares=tuple((part / flow).tolist())) for (edge, _), part in shared]
    if before:
        edges = [_kept(edge, old) for edge, old in zip(edges, before.edges, strict=True)]
    return Flow(alpha=alpha, log_flow=math.log(flow), edges=tuple(edges))


def _finite(
    space: SearchSpace, supernet: Supernet, before: Flow | None
) -> tuple[float, list[Place], float, list[Costs]]:
    """Alpha, the edges, R and ``S`` of their candidates, with the first alpha for which doubles suffice."""
    gone = {edge.name: edge.dropped for edge in before.edges} if before else {}
    alpha, tensors = before.alpha if before else 1.0, absolute(supernet)
    for _ in range(HALVINGS):
        places, flow = _pass(space, supernet, tensors, alpha, gone)
        weights = [each for _, each in places]
        gradients = torch.autograd.grad(flow, weights, allow_unused=True) if weights else ()
        parts = [
            np.zeros(len(weight)) if each is None else (weight.detach() * each).abs().numpy()
            for weight, each in zip(weights, gradients, strict=True)
        ]
        if bool(flow.isfinite()) and all(np.isfinite(part).all() for part in parts):
            return alpha, places, float(flow.detach()), parts
        alpha /= 2
    raise SpaceError(
        f"what flows through {space.name}'s supernet is not finite, however little its candidates weigh",
        mend=f"unas-hw spaces check {shlex.quote(space.origin)}, or another --method",
    )


def _kept(edge: Edge, old: Edge) -> Edge:
    pairs = zip(edge.shares, old.shares, old.dropped, strict=True)
    return replace(edge, shares=tuple(was if gone else share for share, was, gone in pairs), dropped=old.dropped)


def _pass(
    space: SearchSpace,
    supernet: Supernet,
    tensors: Mapping[str, Tensor],
    alpha: float,
    gone: Mapping[str, tuple[bool, ...]],
) -> tuple[list[Place], Tensor]:
    """Sum of the logits, with weights of our own in every mixed operation, whatever the supernet would give it."""
    counts = [len(decision.choices) for decision in space.decisions]
    shape = len(counts), max(counts)
    path = torch.arange(1, shape[0] * shape[1] + 1, dtype=torch.float64).reshape(shape)  # no two rows are alike
    in_cells = _darts_places(supernet)
    found: dict[tuple[tuple[int, ...], int | None], Place] = {}

    def swap(mixed: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        x, given = (*args, *kwargs.values())
        assert isinstance(mixed, MixedOp)
        name, decisions, source, op = in_cells.get(mixed) or _by_row(space, given, path)
        if (decisions, source) not in found:
            choices = space.decisions[op].choices[: len(mixed.candidates)]
            all_there = (False,) * len(choices)
            nothing = (0.0,) * len(choices)
            found[decisions, source] = (
                Edge(name=name, decisions=decisions, source=source, choices=choices, shares=nothing, dropped=all_there),
                _constant(alpha, gone.get(name, all_there)),
            )
        return (x, found[decisions, source][1]), {}

    hooks = [mixed.register_forward_pre_hook(swap, with_kwargs=True) for mixed in supernet.mixed_ops()]
    try:
        x = torch.ones(1, *space.input_shape[1:], dtype=torch.float64)
        with Positive():
            logits: Tensor = torch.func.functional_call(supernet, dict(tensors), (x, path))
    finally:
        for hook in hooks:
            hook.remove()
    return [found[key] for key in sorted(found, key=lambda key: (key[0], key[1] or 0))], logits.sum()


def _constant(alpha: float, gone: Sequence[bool]) -> Tensor:
    weights = torch.tensor([0.0 if each else alpha for each in gone], dtype=torch.float64)
    return weights.requires_grad_()


def _darts_places(supernet: Supernet) -> dict[nn.Module, tuple[str, tuple[int, ...], int, int]]:
    """Of mixed operations between nodes: name, the decisions of their node, their input, a decision on operations."""
    if not isinstance(supernet, DartsSupernet):
        return {}
    places: dict[nn.Module, tuple[str, tuple[int, ...], int, int]] = {}
    for cell, reduces in zip(supernet.mixed, supernet.reduces, strict=True):
        for node, sources in enumerate(cell.mixed):
            first = 2 * PAIRS * (NODES * reduces + node)
            for source, mixed in enumerate(sources):
                name = f"{CELLS[reduces]}.{INPUTS + node}<-{source}"
                places[mixed] = name, tuple(range(first, first + 2 * PAIRS)), source, first + 1
    return places


def _by_row(space: SearchSpace, given: Any, path: Tensor) -> tuple[str, tuple[int, ...], None, int]:
    single = isinstance(given, Tensor) and given.dim() == 1
    rows = [g for g, row in enumerate(path) if single and torch.equal(given, row[: len(given)])]
    if not rows:
        raise SpaceError(
            f"the supernet of {space.name} weights candidates by more than a row of its path",
            mend="give each MixedOp path[g] of its decision g, or take another --method",
        )
    return space.decisions[rows[0]].name, (rows[0],), None, rows[0]
