"""Masks of two temperatures, what they leave of a network, and the masks of whole numbers that ship."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from unas_hw.prunable.prunable import Prunable

Masks = dict[str, Tensor]
"""By group ``(size,)`` and by block ``()``: what units and blocks are multiplied by."""

LEAST = 0.25
"""Theta, in times the high temperature, that the best unit of a group has at least."""


@final
class _TwoTemperatures(torch.autograd.Function):
    """Forward at the low temperature, backward at the high one."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, noise: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(theta)
        ctx.high = high
        return torch.sigmoid((theta + noise) / low)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (theta,) = ctx.saved_tensors
        soft = torch.sigmoid(theta / ctx.high)
        return grads[0] * soft * (1 - soft) / ctx.high, None, None, None


def two_temperatures(theta: Tensor, low: float, high: float, noise: Tensor | None = None) -> Tensor:
    """``sigma(theta / low)``, with the gradient of ``sigma(theta / high)``.

    Almost binary where it is used, and yet units that are off learn whether they are missed. With logistic ``noise`` of
    scale ``high`` the forward pass draws units with probability ``sigma(theta / high)``, and that gradient is the
    straight-through estimate of the gradient of its expectation.

    Args:
        theta: Any shape.
        low: Temperature forward.
        high: Temperature backward.
        noise: Added to theta in the forward pass.
    """
    found: Tensor = _TwoTemperatures.apply(  # type: ignore[no-untyped-call]  # torch's types lack it
        theta, torch.zeros_like(theta) if noise is None else noise, low, high
    )
    return found


def binary_gap(masks: Mapping[str, Tensor]) -> float:
    """How far the mask that is furthest from 0 and 1 is from the nearer of them."""
    flat = torch.cat([mask.detach().flatten() for mask in masks.values()])
    return float(torch.minimum(flat, 1 - flat).abs().max())


@final
@dataclass(frozen=True)
class Widths:
    """What masks leave: units by group and gates by block, whole numbers or not."""

    units: Mapping[str, Tensor]
    gates: Mapping[str, Tensor]

    @classmethod
    def of(cls, prunable: Prunable, masks: Mapping[str, Tensor]) -> Widths:
        """Of masks, on the CPU and in double precision; differentiable in them."""
        return cls(
            {group.name: masks[group.name].sum().cpu().double() for group in prunable.groups},
            {block.name: masks[block.name].cpu().double() for block in prunable.blocks},
        )


@final
class Theta:
    """A number for every unit and block: on where it is positive.

    Args:
        prunable: Whose groups and blocks.
        generator: Of the first values.
        start: Their mean.
        spread: How far they lie around it at most, as a share: equal ones would all be given up in the same step, a
            whole layer at once.
    """

    def __init__(self, prunable: Prunable, generator: torch.Generator, *, start: float, spread: float) -> None:
        self.prunable = prunable
        self.values: Masks = {}
        for name, ones in everything(prunable).items():
            drawn = 2 * torch.rand(ones.shape, generator=generator) - 1 if ones.ndim else torch.zeros(())
            self.values[name] = (start * (1 + spread * drawn)).requires_grad_()

    def masks(self, low: float, high: float, noise: float = 0.0, generator: torch.Generator | None = None) -> Masks:
        """All masks; with noise of so many times the high temperature, drawn anew."""
        return {
            name: two_temperatures(theta, low, high, _logistic(theta, generator) * noise * high if noise else None)
            for name, theta in self.values.items()
        }

    @torch.no_grad()
    def keep_one(self, high: float) -> None:
        """Every group keeps a unit: where none would be on, nothing after it could tell that it is missed."""
        for group in self.prunable.groups:
            values = self.values[group.name]
            values[values.argmax()].clamp_(min=LEAST * high)

    @torch.no_grad()
    def entropy(self, high: float) -> float:
        """Mean of all units and blocks at the high temperature, in nats: 0.69 where nothing is decided."""
        on = torch.sigmoid(torch.cat([theta.flatten() for theta in self.values.values()]).double() / high)
        return float(-(torch.xlogy(on, on) + torch.xlogy(1 - on, 1 - on)).mean())


def _logistic(like: Tensor, generator: torch.Generator | None) -> Tensor:
    uniform = torch.rand(like.shape, generator=generator).clamp(1e-6, 1 - 1e-6)
    return torch.logit(uniform)


@final
@dataclass(frozen=True)
class Piece:
    """What is given up or kept as a whole: some units of a group, or a block.

    Attributes:
        name: Of the group or block.
        units: Of the group; empty for a block.
        worth: Mean theta.
        first: Whether the group would have no units without it.
    """

    name: str
    units: tuple[int, ...]
    worth: float
    first: bool = False


def pieces(prunable: Prunable, theta: Mapping[str, Tensor], multiple: int = 1) -> list[Piece]:
    """All pieces, the one of the lowest theta first; of a group in the order of theta.

    Args:
        prunable: Whose groups and blocks.
        theta: Of each unit and block.
        multiple: Channels that are kept or given up together, so that widths are multiples of it; of layers with fewer
            than four times as many a quarter.
    """
    found: list[Piece] = []
    for group in prunable.groups:
        values = theta[group.name].detach()
        order = torch.argsort(values, descending=True, stable=True).tolist()
        step = group.step(multiple)
        for begin in range(0, group.size, step):
            units = tuple(order[begin : begin + step])
            found.append(Piece(group.name, units, float(values[list(units)].mean()), begin == 0))
    found += [Piece(block.name, (), float(theta[block.name].detach())) for block in prunable.blocks]
    return sorted(found, key=lambda piece: (piece.worth, piece.name, piece.units))


def kept_of(prunable: Prunable, kept: Sequence[Piece]) -> Masks:
    """Boolean masks of what is kept."""
    masks: Masks = {group.name: torch.zeros(group.size, dtype=torch.bool) for group in prunable.groups}
    masks |= {block.name: torch.zeros((), dtype=torch.bool) for block in prunable.blocks}
    for piece in kept:
        if piece.units:
            masks[piece.name][list(piece.units)] = True
        else:
            masks[piece.name].fill_(True)
    return masks


def smallest(prunable: Prunable, multiple: int = 1) -> Masks:
    """The least that can be kept."""
    return kept_of(prunable, [piece for piece in pieces(prunable, everything(prunable), multiple) if piece.first])


def everything(prunable: Prunable) -> Masks:
    """Ones for all there is: the masks of the whole network."""
    found = {group.name: torch.ones(group.size) for group in prunable.groups}
    return found | {block.name: torch.ones(()) for block in prunable.blocks}
