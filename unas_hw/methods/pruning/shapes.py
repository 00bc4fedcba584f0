"""What the shapes that masks leave cost: arithmetic, weights, or latency by interpolated rows. Differentiable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from torch import Tensor

from latency_tables.calibration import Calibration
from latency_tables.interpolation import Part, Surface
from unas_hw.methods.pruning.masks import Widths
from unas_hw.prunable.layers import Layer
from unas_hw.prunable.others import Other
from unas_hw.prunable.prunable import Prunable


class Complexity(Protocol):
    """Something that shapes need, on which there can be a budget."""

    @property
    def name(self) -> str:
        """``macs``, ``params`` or ``latency``."""
        ...

    def __call__(self, widths: Widths) -> Tensor:
        """A scalar in double precision, differentiable in widths and gates."""
        ...


def gate_of(layer: Layer | Other, widths: Widths) -> Tensor | float:
    """Whether the layer is run: the product of the gates of its blocks."""
    gate: Tensor | float = 1.0
    for name in layer.blocks:
        gate = gate * widths.gates[name]
    return gate


def _soft(layer: Layer, widths: Widths) -> tuple[Tensor, Tensor]:
    n_in, n_out = (torch.as_tensor(each, dtype=torch.float64) for each in layer.widths(widths.units))
    return n_in, n_out


@final
class Arithmetic:
    """MACs of one image, or weights.

    Args:
        prunable: Whose layers.
        name: ``macs`` or ``params``.
        rest: What the network needs besides its layers.
    """

    def __init__(self, prunable: Prunable, name: str, rest: float = 0.0) -> None:
        self.prunable, self.name, self.rest = prunable, name, rest

    def __call__(self, widths: Widths) -> Tensor:
        found = torch.tensor(self.rest, dtype=torch.float64)
        for layer in self.prunable.layers:
            n_in, n_out = _soft(layer, widths)
            needed = layer.macs(n_in, n_out) if self.name == "macs" else layer.params(n_in, n_out)
            found = found + gate_of(layer, widths) * needed
        for other in self.prunable.others:
            found = found + gate_of(other, widths) * (other.macs if self.name == "macs" else other.params)
        return found


@final
class TableLatency:
    """Latency by interpolated rows, in calibrated milliseconds.

    Args:
        prunable: Whose layers.
        surfaces: Of each layer.
        inputs: Of each layer, elements of its input to a channel, for the batch.
        calibration: Of whole networks.
        tail: What the asked percentile is to the median.
    """

    name = "latency"

    def __init__(
        self,
        prunable: Prunable,
        surfaces: Sequence[Surface],
        inputs: Sequence[float],
        calibration: Calibration | None = None,
        tail: float = 1.0,
    ) -> None:
        self.prunable, self.surfaces, self.inputs, self.tail = prunable, tuple(surfaces), tuple(inputs), tail
        self.calibration = (calibration or Calibration()).rescaled(tail)

    def __call__(self, widths: Widths) -> Tensor:
        found = torch.tensor(self.calibration.intercept_ms, dtype=torch.float64)
        price_ms: Any = self.calibration.price_ms  # of tensors too
        for gate, ms, inputs, weights in self._numbers(widths):
            found = found + gate * price_ms("", self.tail * ms, inputs, weights)
        bent: Tensor = self.calibration.bend(found)
        return bent

    def parts(self, widths: Widths) -> list[Part]:
        """What a network of these widths consists of."""
        return [
            Part(float(ms), float(inputs), float(weights))
            for gate, ms, inputs, weights in self._numbers(widths)
            if gate
        ]

    def _numbers(self, widths: Widths) -> Iterator[tuple[Tensor | float, Tensor, Any, Any]]:
        """Of each layer its gate, milliseconds of its row, millions of elements of its input and of weights."""
        for layer, surface, inputs in zip(self.prunable.layers, self.surfaces, self.inputs, strict=True):
            n_in, n_out = _soft(layer, widths)
            weights = layer.params(n_in, n_out) / 1e6
            yield gate_of(layer, widths), surface(n_in, n_out), n_in * inputs / 1e6, weights


@dataclass(frozen=True)
class Limit:
    """``complexity <= limit``.

    Attributes:
        complexity: Of what.
        limit: In its unit.
        whole: Of the whole network.
    """

    complexity: Complexity
    limit: float
    whole: float

    @torch.no_grad()
    def value(self, widths: Widths) -> float:
        """What a network of these widths needs."""
        return float(self.complexity(widths))


def fits(limits: Sequence[Limit], widths: Widths) -> bool:
    """Whether a network of these widths keeps all limits."""
    return all(each.value(widths) <= each.limit for each in limits)
