"""Differentiable pruning: which channels and blocks of a network to keep within a budget, whatever its weights are.

"Differentiable Architecture Pruning for Transfer Learning" (Colombo and Gao, arXiv 2107.03375) prunes by a relaxation
of two temperatures, independently of the attached weights. Its details are not public to us: this is a reconstruction.
Weights are trained beside the masks, and begin anew every few epochs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from unas_hw.budget import Multiplier
from unas_hw.data import Batch, Split, batches
from unas_hw.errors import RunError
from unas_hw.methods.pruning.config import PruneConfig
from unas_hw.methods.pruning.masks import Masks, Piece, Theta, Widths, binary_gap, kept_of, pieces
from unas_hw.methods.pruning.shapes import Limit, fits
from unas_hw.optimizer_state import from_tensors, to_tensors, under
from unas_hw.prunable.prunable import Prunable
from unas_hw.runs import Run
from unas_hw.training.hardware import Hardware

CHECKPOINT, METRICS = "pruning.safetensors", "metrics.jsonl"
USED = 0.93
"""Of what may be used, at least so much should be: an unused budget is unused accuracy."""


@final
class PruneSearch:
    """The state of the pruning: everything that changes, and nothing that does not.

    Args:
        prunable: What there is to prune.
        fresh: A whole network with new weights, by torch's own random numbers.
        images: That masks and weights are trained with.
        limits: Budgets; each has a multiplier of its own.
        config: Hyper-parameters.
        run: Keeps checkpoint and metrics.
        hardware: What is trained on.

    Attributes:
        theta: Of units and blocks.
        network: Of this round.
        epoch: That were finished.
    """

    def __init__(
        self,
        prunable: Prunable,
        fresh: Callable[[], nn.Module],
        images: Split,
        limits: Sequence[Limit],
        config: PruneConfig,
        run: Run,
        hardware: Hardware | None = None,
    ) -> None:
        self.prunable, self.fresh, self.images = prunable, fresh, images
        self.limits, self.config, self.run = tuple(limits), config, run
        self.hardware = hardware or Hardware()
        generator = torch.Generator().manual_seed(config.seed)
        self.theta = Theta(prunable, generator, start=config.start, spread=config.spread)
        steps = config.epochs * (len(images) // min(config.batch_size, len(images)))
        self.optimizer = torch.optim.Adam(self.theta.values.values(), lr=config.travel / steps)
        self.multipliers = [Multiplier(config.ascent / steps, config.multiplier) for _ in self.limits]
        self.epoch = 0
        self._begin_round()

    def _begin_round(self) -> None:
        """New weights: the structure must not depend on them."""
        config = self.config
        with self.hardware.seeded(hash((config.seed, self.epoch)) % 2**63):
            self.network = self.hardware.ready(self.fresh()).train()
        self.w_optimizer = torch.optim.AdamW(self.network.parameters(), config.w_lr, weight_decay=config.w_decay)

    @property
    def _progress(self) -> float:
        """0 in the first epoch, 1 in the last."""
        return self.epoch / max(self.config.epochs - 1, 1)

    @property
    def low(self) -> float:
        """Temperature forward, now."""
        return self.config.low * math.pow(self.config.low_end / self.config.low, self._progress)

    def resume(self) -> None:
        """Goes back to the last checkpoint, if there is one; what came after it is forgotten."""
        saved = self.run.load_tensors(CHECKPOINT)
        if saved is not None:
            tensors, scalars = saved
            with torch.no_grad():
                for name, value in self.theta.values.items():
                    value.copy_(tensors[f"theta.{name}"])
            from_tensors(self.optimizer, "optimizer", tensors)
            self.network.load_state_dict(under(tensors, "network"))
            from_tensors(self.w_optimizer, "w", tensors)
            for multiplier, value in zip(self.multipliers, scalars["multipliers"], strict=True):
                multiplier.value = value
            self.epoch = scalars["epoch"]
        self.run.keep_lines(METRICS, self.epoch)

    def save(self) -> None:
        """Writes a checkpoint, from which ``resume`` goes on."""
        tensors = {f"theta.{name}": value for name, value in self.theta.values.items()}
        tensors |= {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= to_tensors(self.optimizer, "optimizer") | to_tensors(self.w_optimizer, "w")
        scalars = {"epoch": self.epoch, "multipliers": [each.value for each in self.multipliers]}
        self.run.save_tensors(CHECKPOINT, tensors, scalars)

    def steps(self) -> Iterator[dict[str, Any]]:
        """Trains to the end; yields metrics after each epoch, which is saved then.

        Raises:
            RunError: If the loss is no number any more.
        """
        config = self.config
        while self.epoch < config.epochs:
            begin = time.monotonic()
            of_round = self.epoch % config.resample_every
            if self.epoch and of_round == 0:
                self._begin_round()
            # All randomness of an epoch follows from its number: nothing about it has to be saved.
            generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.epoch)
            with self.hardware.seeded(hash((config.seed, self.epoch, 1)) % 2**63):
                parts = batches(self.images, config.batch_size, generator, device=self.hardware.device)
                warm = config.warm_share * config.resample_every * len(parts)
                losses = []
                for step, part in enumerate(parts):
                    done = (self.epoch + step / len(parts)) / config.epochs
                    losses.append(self._step(part, generator, of_round * len(parts) + step >= warm, done))
            metrics = self._metrics(sum(losses) / len(losses))
            if not math.isfinite(metrics["loss"]):
                raise RunError(
                    f"training in {self.run.path} diverged: the loss of epoch {self.epoch + 1} is {metrics['loss']}",
                    mend=f"--set prune.w_lr={config.w_lr / 2:g}",
                )
            self.epoch += 1
            self.run.append(METRICS, metrics)
            self.save()
            yield {**metrics, "seconds": time.monotonic() - begin}

    def _step(self, part: Batch, generator: torch.Generator, learns: bool, done: float) -> float:
        """One step of the weights, and of the masks where they learn; the task's loss. ``done``: share of all steps."""
        config, hardware = self.config, self.hardware
        noise = config.dither * (1 - self._progress)
        masks = self.theta.masks(self.low, config.high, noise, generator)
        if not learns:
            masks = {name: mask.detach() for name, mask in masks.items()}
        with hardware.autocast():
            logits = self.prunable.masked(self.network, masks)(hardware.format(part.x))
            task = cross_entropy(logits, part.y)
        self.w_optimizer.zero_grad(set_to_none=True)
        self.optimizer.zero_grad(set_to_none=True)
        (task + self._penalty() if learns else task).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), config.w_clip)
        self.w_optimizer.step()
        if learns:
            self.optimizer.step()
            self.theta.keep_one(config.high)
            self._ascend(min(done / config.ramp, 1.0) if config.ramp else 1.0)
        return float(task.detach())

    def _penalty(self) -> Tensor:
        """Of what would ship now: without noise."""
        masks = self.theta.masks(self.low, self.config.high)
        widths = Widths.of(self.prunable, masks)
        parts = zip(self.limits, self.multipliers, strict=True)
        return sum(
            (multiplier.value * limit.complexity(widths) / limit.whole for limit, multiplier in parts),
            torch.zeros((), dtype=torch.float64),
        )

    @torch.no_grad()
    def _ascend(self, ramp: float) -> None:
        """Dual ascent: towards a limit that has come so far, as a share, from the whole network to the budget."""
        widths = self.widths()
        for limit, multiplier in zip(self.limits, self.multipliers, strict=True):
            multiplier.step(limit.value(widths), limit.whole + ramp * (limit.limit - limit.whole))

    @torch.no_grad()
    def widths(self) -> Widths:
        """What the masks leave now."""
        return Widths.of(self.prunable, self.theta.masks(self.low, self.config.high))

    @torch.no_grad()
    def _metrics(self, loss: float) -> dict[str, Any]:
        masks, widths = self.theta.masks(self.low, self.config.high), self.widths()
        return {
            "epoch": self.epoch + 1,
            "round": self.epoch // self.config.resample_every + 1,
            "loss": loss,
            "entropy": self.theta.entropy(self.config.high),
            "low": self.low,
            "binary_gap": binary_gap(masks),
            "kept_units": sum(float(each) for each in widths.units.values()),
            "kept_blocks": sum(float(each) for each in widths.gates.values()),
            **{
                limit.complexity.name: {
                    "value": (value := limit.value(widths)),
                    "share": value / limit.whole,
                    "limit": limit.limit,
                    "multiplier": multiplier.value,
                }
                for limit, multiplier in zip(self.limits, self.multipliers, strict=True)
            },
        }


def discretise(prunable: Prunable, theta: Masks, limits: Sequence[Limit], multiple: int = 1) -> Masks | None:
    """The masks ``1[theta > 0]``, adjusted so that all limits are kept and little of them is left unused.

    What has the lowest theta is given up until the limits are kept, then what has the highest comes back while they
    are. Where much is still unused, blocks for which the rest was too little come back with fewer units. Every group
    keeps something.

    Args:
        prunable: What is pruned.
        theta: By group and block.
        limits: Of the network that this leaves.
        multiple: As in ``pieces``.

    Returns:
        Boolean masks; None where even the least that can be kept exceeds a limit.
    """
    order = pieces(prunable, theta, multiple)
    first = [piece for piece in order if piece.first]
    others = [piece for piece in order if not piece.first]

    def widths(kept: Sequence[Piece]) -> Widths:
        return Widths.of(prunable, kept_of(prunable, kept))

    def grown(kept: list[Piece], waiting: Sequence[Piece]) -> list[Piece]:
        refused: set[str] = set()
        for piece in reversed(waiting):
            if piece.name not in refused and fits(limits, widths([*kept, piece])):
                kept = [*kept, piece]
            else:
                refused.add(piece.name)
        return kept

    if not fits(limits, widths(first)):
        return None
    low, high = sum(piece.worth <= 0 for piece in others), len(others)
    if fits(limits, widths([*first, *others[low:]])):
        high = low
    while low < high:  # the fewest that have to go
        middle = (low + high) // 2
        low, high = (low, middle) if fits(limits, widths([*first, *others[middle:]])) else (middle + 1, high)
    kept = grown([*first, *others[high:]], others[:high])
    spare = [replace(each, limit=USED * each.limit) for each in limits]
    for block in reversed([piece for piece in others if not piece.units and piece not in kept]):
        inside = prunable.inside(block.name)
        narrow = [block, *(piece for piece in kept if piece.first or piece.name not in inside)]
        if fits(spare, widths(kept)) and fits(limits, widths(narrow)):
            kept = grown(narrow, [piece for piece in others if piece.name in inside])
    return kept_of(prunable, kept)
