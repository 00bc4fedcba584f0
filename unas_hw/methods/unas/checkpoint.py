"""Checkpoint: all that changes in a search as named tensors and numbers in one file, from which it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from unas_hw.budget import Multiplier
from unas_hw.optimizer_state import from_tensors, to_tensors, under
from unas_hw.runs import Run
from unas_hw.search.run_folder import CHECKPOINT


class Part(Protocol):
    """What says its state as tensors."""

    def state(self) -> dict[str, Tensor]: ...
    def load(self, state: Mapping[str, Tensor]) -> None: ...


@final
@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Knows where the state of a search is; the keys here begin the names of tensors in the file.

    Attributes:
        run: In whose folder the file is.
        modules, optimizers, parts: What has tensors.
        multipliers: What has a number; that of the latency first.
    """

    run: Run
    modules: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    parts: Mapping[str, Part]
    multipliers: Sequence[Multiplier]

    def save(self, **counts: int) -> None:
        """Writes the state, and how far the search has come."""
        states = {name: module.state_dict() for name, module in self.modules.items()}
        states |= {name: part.state() for name, part in self.parts.items()}
        tensors = {f"{name}.{key}": tensor for name, state in states.items() for key, tensor in state.items()}
        for name, optimizer in self.optimizers.items():
            tensors |= to_tensors(optimizer, name)
        scalars = {**counts, "multipliers": [each.value for each in self.multipliers]}
        self.run.save_tensors(CHECKPOINT, tensors, scalars)

    def load(self) -> dict[str, Any] | None:
        """Goes back to the last state, and returns how far the search had come; None where there is none yet."""
        saved = self.run.load_tensors(CHECKPOINT)
        if saved is None:
            return None
        tensors, scalars = saved
        for name, module in self.modules.items():
            module.load_state_dict(under(tensors, name))
        for name, optimizer in self.optimizers.items():
            from_tensors(optimizer, name, tensors)
        for multiplier, value in zip(self.multipliers, scalars["multipliers"], strict=True):
            multiplier.value = value
        for name, part in self.parts.items():
            if state := under(tensors, name):
                part.load(state)
        return scalars
