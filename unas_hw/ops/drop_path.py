"""Drop path: while training, the residual branch of single images is left out (Larsson et al., arXiv 1605.07648).

As DARTS has it: per image, and what stays is divided by the share that stays, so that the expectation is the same.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn


@final
class DropPath(nn.Module):
    """``(N, ...)`` to the same shape: images are zeroed with probability ``rate``; the identity in evaluation mode.

    It has no parameters and no buffers: nothing of it is in a state or an exported file. The random numbers are torch's
    own of the tensor's device.

    Attributes:
        rate: Probability, 0 to below 1; 0 at first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = 1 - self.rate
        mask = torch.rand((len(x),) + (1,) * (x.dim() - 1), device=x.device) < kept
        return x * (mask / kept).to(x.dtype)


def set_drop_path(network: nn.Module, rate: float) -> None:
    """Sets the rate of every ``DropPath`` of the network."""
    for module in network.modules():
        if isinstance(module, DropPath):
            module.rate = rate
