"""Supernet: every network of a space at once, with shared weights.

A path is either a relaxed sample, the ``(G, K)`` weights of all candidates (zeta of the paper), or one index
per decision (z of the paper), which runs a single candidate per layer.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unas_hw.nesting import Nest, groups

Path = Tensor | Sequence[int]
IDENTITY_DROPOUT = 0.1  # while searching only, so that skipping a layer is no free ride (UNAS, appendix)


class Supernet(nn.Module):
    """What a search trains: a module whose forward takes images and a path.

    Attributes:
        bf16: Passes run in bfloat16 where that is safe (autocast); weights, statistics and logits stay what they are.
    """

    bf16 = False

    @abstractmethod
    def forward(self, x: Tensor, path: Path) -> Tensor:
        """Logits ``(N, classes)`` of images ``(N, C, H, W)`` along the path."""

    def __call__(self, x: Tensor, path: Path) -> Tensor:
        if not self.bf16:
            plain: Tensor = super().__call__(x, path)
            return plain
        with torch.autocast(x.device.type, torch.bfloat16):
            logits: Tensor = super().__call__(x, path)
        return logits.float()

    @abstractmethod
    def state_of(self, path: Sequence[int]) -> dict[str, Tensor]:
        """The weights of one network, by their names in that network; all but its running statistics."""

    def mixed_ops(self) -> list[MixedOp]:
        """All mixed operations."""
        return [module for module in self.modules() if isinstance(module, MixedOp)]

    def entangle(self) -> int:
        """Lets candidates of a layer that nest share weights; says how many do."""
        return sum(mixed.entangle() for mixed in self.mixed_ops())

    def set_memory(self, *, recompute: bool, most: int | None = None) -> None:
        """How relaxed passes save memory: see ``MixedOp``."""
        for mixed in self.mixed_ops():
            mixed.recompute, mixed.most = recompute, most

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within it passes have gradients in the path only; what would be for those of the weights is not computed.

        ``torch.autograd.grad(loss, path)`` alone does not see to that where operations have gradients of their own. The
        gradients are to be taken within it too.
        """
        weights = [weight for weight in self.parameters() if weight.requires_grad]
        for weight in weights:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in weights:
                weight.requires_grad_()

    def compile_parts(self, backend: str = "inductor") -> None:
        """``torch.compile`` for every candidate and every sum of candidates; pays on GPUs, after minutes.

        By parts, since every path is another program: 21 layers of 7 choices have 168 parts and 10^17 paths.
        """
        for mixed in self.mixed_ops():
            mixed.compile_parts(backend)


class MixedOp(nn.Module):
    """The candidates of one decision; ``weights @ candidates`` or a single one of them.

    Attributes:
        recompute: A relaxed pass keeps the input only, and computes the rest again for the gradients.
        most: Candidates that a relaxed pass runs, those of the largest weights, which then sum to what all did. None
            runs all: with fewer the gradient in the others' weights is zero, which biases every estimator.
    """

    recompute = False
    most: int | None = None

    def __init__(self, candidates: Sequence[nn.Module]) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(candidates)
        self._nests: dict[int, tuple[Nest, int]] = {}

    def entangle(self) -> int:
        """Lets candidates that nest share weights; says how many do. See ``unas_hw.nesting``."""
        for group in groups(list(self.candidates)):
            nest = Nest([self.candidates[place] for place in group])
            self._nests |= {place: (nest, number) for number, place in enumerate(group)}
        return len(self._nests)

    @property
    def nested(self) -> list[list[int]]:
        """Places of candidates that share weights."""
        nests = dict.fromkeys(nest for nest, _ in self._nests.values())
        return [[place for place, (own, _) in self._nests.items() if own is nest] for nest in nests]

    def alone(self, place: int) -> nn.Module:
        """A candidate with the weights that it has here; one that shares them as a copy."""
        nest, number = self._nests.get(place, (None, 0))
        return self.candidates[place] if nest is None else nest.alone(number)

    def forward(self, x: Tensor, path: Tensor | int) -> Tensor:
        """``path``: ``(K,)`` weights, K at least the number of candidates, or an index."""
        if isinstance(path, int):
            nest, number = self._nests.get(path, (None, 0))
            alone: Tensor = self.candidates[path](x) if nest is None else nest(x, number)
            return alone
        weights = path[: len(self.candidates)]
        chosen = [j for j, candidate in enumerate(self.candidates) if not isinstance(candidate, Pruned)]
        if self.most is not None and self.most < len(chosen):
            largest = weights.detach()[chosen].topk(self.most).indices.sort().values.tolist()
            chosen = [chosen[place] for place in largest]
            weights = weights * (weights.sum() / weights[chosen].sum().clamp_min(1e-12))
        if self.recompute and torch.is_grad_enabled():
            again: Tensor = checkpoint(self._mix, x, weights, chosen, use_reentrant=False)
            return again
        return self._mix(x, weights, chosen)

    def _mix(self, x: Tensor, weights: Tensor, chosen: Sequence[int]) -> Tensor:
        nests: dict[Nest, list[Tensor | None]] = {}
        for j in chosen:
            if j in self._nests:
                nest, number = self._nests[j]
                nests.setdefault(nest, [None] * len(nest))[number] = weights[j]
        parts = [weights[j] * self.candidates[j](x) for j in chosen if j not in self._nests]
        parts += [nest.mixed(x, own) for nest, own in nests.items()]
        out: Tensor = parts[0]
        for part in parts[1:]:
            out = out + part
        return out

    def keep(self, candidates: Collection[int]) -> None:
        """Gives up all others with their weights; those that stay keep their places, of which others weigh 0."""
        for place in range(len(self.candidates)):
            if place not in candidates:
                self.candidates[place] = Pruned()

    def compile_parts(self, backend: str) -> None:
        """See ``Supernet``."""
        self._mix = torch.compile(self._mix, backend=backend, dynamic=False)  # type: ignore[method-assign]
        for candidate in self.candidates:
            candidate.compile(backend=backend, dynamic=False)


@final
class Pruned(nn.Module):
    """In the place of a candidate that was given up."""


def keep_no_statistics(net: nn.Module) -> None:
    """Batch normalisation always uses the statistics of the batch: running ones would mix those of all networks."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None


def make_constant(net: nn.Module) -> None:
    """Scales and shifts of normalisation become buffers: networks find them under the names that they have there."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            for name in ("weight", "bias"):
                value = getattr(module, name).detach()
                delattr(module, name)
                module.register_buffer(name, value)


@final
class ChainSupernet(Supernet):
    """Layers in a row, some fixed, some mixed."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        keep_no_statistics(self)

    def forward(self, x: Tensor, path: Path) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
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
        chosen = [layer.alone(next(choices)) if isinstance(layer, MixedOp) else layer for layer in self.layers]
        layers = [module for module in chosen if not isinstance(module, nn.Dropout)]  # an identity is no layer there
        return nn.Sequential(*layers).state_dict()
