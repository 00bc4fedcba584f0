"""State as named tensors, an optimiser's too, for checkpoints without pickles."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix.``, by the rest of their names."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def to_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """All tensors of the state, as ``prefix.parameter.name``."""
    state = optimizer.state_dict()["state"]
    slots = ((index, name, value) for index, each in state.items() for name, value in each.items())
    return {f"{prefix}.{index}.{name}": value for index, name, value in slots if value is not None}  # no momentum yet


def from_tensors(optimizer: torch.optim.Optimizer, prefix: str, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of ``to_tensors``, for an optimiser of the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in under(tensors, prefix).items():
        index, slot = name.split(".")
        state.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
