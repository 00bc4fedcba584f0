"""Supernet: every network of a space at once, with shared weights.

A path is either a relaxed sample, the ``(G, K)`` weights of all candidates (zeta of the paper), or one index
per decision (z of the paper), which runs a single candidate per layer.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

Path = Tensor | Sequence[int]
IDENTITY_DROPOUT = 0.1  # while searching only, so that skipping a layer is no free ride (UNAS, appendix)


class Supernet(nn.Module):
    """What a search trains: a module whose forward takes images and a path."""

    @abstractmethod
    def forward(self, x: Tensor, path: Path) -> Tensor:
        """Logits ``(N, classes)`` of images ``(N, C, H, W)`` along the path."""

    @abstractmethod
    def state_of(self, path: Sequence[int]) -> dict[str, Tensor]:
        """The weights of one network, by their names in that network; all but its running statistics."""


class MixedOp(nn.Module):
    """The candidates of one decision; ``weights @ candidates`` or a single one of them."""

    def __init__(self, candidates: Sequence[nn.Module]) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(candidates)

    def forward(self, x: Tensor, path: Tensor | int) -> Tensor:
        """``path``: ``(K,)`` weights, K at least the number of candidates, or an index."""
        if isinstance(path, int):
            alone: Tensor = self.candidates[path](x)
            return alone
        out: Tensor = path[0] * self.candidates[0](x)
        for weight, candidate in zip(path[1:], self.candidates[1:], strict=False):
            out = out + weight * candidate(x)
        return out


def keep_no_statistics(net: nn.Module) -> None:
    """Batch normalisation always uses the statistics of the batch: running ones would mix those of all networks."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None


def make_constant(norm: nn.BatchNorm2d) -> None:
    """Scale and shift become buffers: networks find them under the names that they have there."""
    for name in ("weight", "bias"):
        value = getattr(norm, name).detach()
        delattr(norm, name)
        norm.register_buffer(name, value)


@final
class ChainSupernet(Supernet):
    """Layers in a row, some fixed, some mixed."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        keep_no_statistics(self)

    def forward(self, x: Tensor, path: Path) -> Tensor:
        decision = 0
        for layer in self.layers:
            if isinstance(layer, MixedOp):
                x = layer(x, path[decision])
                decision += 1
            else:
                x = layer(x)
        return x

    def state_of(self, path: Sequence[int]) -> dict[str, Tensor]:
        choices = iter(path)
        chosen = [layer.candidates[next(choices)] if isinstance(layer, MixedOp) else layer for layer in self.layers]
        layers = [module for module in chosen if not isinstance(module, nn.Dropout)]  # an identity is no layer there
        return nn.Sequential(*layers).state_dict()
