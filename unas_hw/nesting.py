"""Candidates that nest: a smaller one is the centre of a larger one's kernels and the first of its channels.

One weight serves all of them (Once-for-All, Cai et al., arXiv 1908.09791); normalisation is each one's own. A relaxed
layer is then one block whose weights are the mean of theirs (TangleNAS, Sukthanker et al., arXiv 2312.10440), at the
cost of a single candidate.

Blocks nest whose class says ``nests = True``, whose parameters have the same names, and whose convolutions have the
same strides and dilations: the one whose shapes are nowhere larger is part of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

Place = tuple[slice, ...]


def groups(candidates: Sequence[nn.Module]) -> list[list[int]]:
    """Places of candidates that can share weights, by size, the largest last; who shares with nobody is in no group."""
    left = [j for j, each in enumerate(candidates) if getattr(each, "nests", False)]
    found = []
    while left:
        largest = max(left, key=lambda j: _count(candidates[j]))
        group = [j for j in left if _is_inside(candidates[j], candidates[largest])]
        left = [j for j in left if j not in group]
        if len(group) > 1:
            found.append(sorted(group, key=lambda j: (j == largest, _count(candidates[j]))))
    return found


def _count(block: nn.Module) -> int:
    return sum(weight.numel() for weight in block.parameters())


def _is_inside(small: nn.Module, large: nn.Module) -> bool:
    ours, theirs = dict(small.named_parameters()), dict(large.named_parameters())
    if type(small) is not type(large) or _ways(small) != _ways(large) or ours.keys() != theirs.keys():
        return False
    pairs = [(ours[name].shape, theirs[name].shape) for name in ours]
    return all(
        len(a) == len(b)
        and all(one <= other for one, other in zip(a, b, strict=True))
        and all((one - other) % 2 == 0 for one, other in zip(a[2:], b[2:], strict=True))  # a centre has to be one
        for a, b in pairs
    )


def _ways(block: nn.Module) -> list[tuple[object, ...]]:
    """What makes the centre of a kernel another operation, where it differs."""
    return [(each.stride, each.dilation) for each in block.modules() if isinstance(each, nn.Conv2d)]


@final
class Nest(nn.Module):
    """Blocks with weights in common.

    Args:
        blocks: Of one of ``groups``. The last, the largest, keeps its weights, which are those of all; the others keep
            those of their normalisation only.
    """

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self._blocks = tuple(blocks)  # a mixed operation has them as its own: they are not registered twice
        norms = [name for name, each in self._largest.named_modules() if isinstance(each, nn.BatchNorm2d)]
        own = [f"{name}.{key}" for name in norms for key in ("weight", "bias")]
        self._own = [name for name in own if _get(self._largest, name) is not None]
        shared = [name for name, _ in self._largest.named_parameters() if name not in own]
        self._places = [
            {name: _place(_get(block, name), _get(self._largest, name)) for name in shared} for block in blocks
        ]
        self._masks: tuple[torch.device, dict[str, Tensor]] | None = None
        for block in blocks[:-1]:
            for name in shared:
                where, _, key = name.rpartition(".")
                delattr(block.get_submodule(where), key)

    @property
    def _largest(self) -> nn.Module:
        return self._blocks[-1]

    def __len__(self) -> int:
        return len(self._blocks)

    def forward(self, x: Tensor, number: int) -> Tensor:
        """A single block."""
        block = self._blocks[number]
        out: Tensor = block(x) if block is self._largest else functional_call(block, self._part(number), (x,))
        return out

    def mixed(self, x: Tensor, weights: Sequence[Tensor | None]) -> Tensor:
        """The sum of the weights times the block whose parameters are the mean of theirs by weight.

        All weight on one block gives what that block gives.

        Args:
            x: Images.
            weights: A scalar a block; None leaves it out.
        """
        chosen = [number for number, weight in enumerate(weights) if weight is not None]
        own = torch.stack([weight for weight in weights if weight is not None])
        total = own.sum()
        shares = own / total.clamp_min(1e-12)
        values: dict[str, Tensor] = {}
        for name, masks in self._masks_on(x.device).items():
            values[name] = _get(self._largest, name) * _mean(shares, masks[chosen])
        for name in self._own:
            mean = _mean(shares, pad_sequence([_get(self._blocks[number], name) for number in chosen], True))
            values[name] = pad(mean, (0, len(_get(self._largest, name)) - len(mean)))
        out: Tensor = functional_call(self._largest, values, (x,))
        return total * out

    def _masks_on(self, device: torch.device) -> dict[str, Tensor]:
        """By name, a row a block, true where it has the weight; made once."""
        if self._masks is None or self._masks[0] != device:
            masks = {}
            for name in self._places[-1]:
                whole = _get(self._largest, name)
                masks[name] = torch.stack(torch.broadcast_tensors(*(_mask(whole, each[name]) for each in self._places)))
            self._masks = device, masks
        return self._masks[1]

    def alone(self, number: int) -> nn.Module:
        """A copy of a block with all of its weights."""
        block = deepcopy(self._blocks[number])
        for name, weight in {} if block is self._largest else self._part(number).items():
            where, _, key = name.rpartition(".")
            block.get_submodule(where).register_parameter(key, nn.Parameter(weight.detach().clone()))
        return block

    def _part(self, number: int) -> dict[str, Tensor]:
        return {name: _get(self._largest, name)[place] for name, place in self._places[number].items()}


def _get(block: nn.Module, name: str) -> Tensor:
    where, _, key = name.rpartition(".")
    found: Tensor = getattr(block.get_submodule(where), key)
    return found


def _place(small: Tensor, large: Tensor) -> Place:
    """The first channels, the centre of the kernel."""
    channels = tuple(slice(0, size) for size in small.shape[:2])
    kernel = [slice((b - a) // 2, (b + a) // 2) for a, b in zip(small.shape[2:], large.shape[2:], strict=True)]
    return (*channels, *kernel)


def _mean(shares: Tensor, rows: Tensor) -> Tensor:
    """The sum of the rows, each times its share; not as a product of matrices, which bfloat16 passes would round."""
    return (shares.view(-1, *[1] * (rows.ndim - 1)) * rows).sum(0)


def _mask(whole: Tensor, place: Place) -> Tensor:
    """True at a place of a weight; of length 1 along axes of which the place is all."""
    partial = [each != slice(0, size) for each, size in zip(place, whole.shape, strict=True)]
    lengths = [size if part else 1 for size, part in zip(whole.shape, partial, strict=True)]
    mask = whole.new_zeros(lengths, dtype=torch.bool)
    mask[tuple(each if part else slice(None) for each, part in zip(place, partial, strict=True))] = True
    return mask
