"""The auxiliary head: a second classifier in the middle of a network, there only while it is trained.

Source: Liu, Simonyan & Yang, "DARTS: Differentiable Architecture Search", ICLR 2019 (arXiv 1806.09055), and its
released program.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn

POOL = 5


def auxiliary_head(channels: int, size: int, classes: int) -> nn.Sequential:
    """``(N, channels, size, size)`` to ``(N, classes)``; pooled to 2x2, by windows of 5 where that covers 7 or 8."""
    covers = POOL < size <= 2 * POOL
    pool = nn.AvgPool2d(POOL, size - POOL) if covers else nn.AdaptiveAvgPool2d(2)
    return nn.Sequential(
        nn.ReLU(),
        pool,
        nn.Conv2d(channels, 128, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.Conv2d(128, 768, 2, bias=False),
        nn.BatchNorm2d(768),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(768, classes),
    )


def takes_auxiliary(network: nn.Module) -> bool:
    """Whether the network says where a head belongs."""
    return getattr(network, "auxiliary_at", None) is not None


@final
class WithAuxiliary(nn.Module):
    """A network and a head on its module ``auxiliary_at``: images to the logits of both.

    Nothing of the network changes but that its module has a hook while ``attached``; the image, ``(1, C, H, W)``, is on
    its device.
    """

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.network = network
        self._at = network.get_submodule(str(network.auxiliary_at))
        self._seen = torch.empty(0)
        network.eval()
        with self.attached(), torch.no_grad():
            classes = network(image).shape[1]
        _, channels, size, _ = self._seen.shape
        self.head = auxiliary_head(channels, size, classes).to(image.device)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Within it the network can be run through this module."""
        hook = self._at.register_forward_hook(self._keep)
        try:
            yield
        finally:
            hook.remove()

    def _keep(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._seen = output

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(x)
        return logits, self.head(self._seen)
