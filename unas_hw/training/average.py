"""The moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn


@final
class Average:
    """Exponential, of everything in the state: the statistics of batch normalisation too.

    The decay is at most ``(1 + n) / (10 + n)`` after n updates, so that the first weights do not stay in it.

    Attributes:
        state: As ``network.load_state_dict`` takes it.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from a state."""
        for name, tensor in self.state.items():
            tensor.copy_(state[name])

    @torch.no_grad()
    def update(self, network: nn.Module, updates: int) -> None:
        """Takes in the weights; ``updates``: how often that was done before."""
        share = 1 - min(self.decay, (1 + updates) / (10 + updates))
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self.state[name].lerp_(tensor, share)
            else:
                self.state[name].copy_(tensor)
