"""Training one network from scratch, and evaluating it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from unas_hw.data import Split, batches
from unas_hw.optimizer_state import from_tensors, to_tensors
from unas_hw.runs import Run

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """AdamW with warm-up and cosine, label smoothing and shifts by a pixel or two.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images a step.
        lr: Highest learning rate.
        decay: Weight decay.
        warmup: Share of the steps until ``lr`` is reached.
        smoothing: Of the labels.
        shift: Pixels by which images move at most, as a share of their size.
        seed: Of everything random.
    """

    epochs: int = 30
    batch_size: int = 64
    lr: float = 4e-3
    decay: float = 0.02
    warmup: float = 0.1
    smoothing: float = 0.1
    shift: float = 0.07
    seed: int = 0


def train(network: nn.Module, images: Split, recipe: Recipe, run: Run, folder: str) -> Iterator[dict[str, Any]]:
    """Trains on these images, yields metrics after each epoch, saves in a folder of the run and resumes by itself."""
    checkpoint, journal = f"{folder}/{CHECKPOINT}", f"{folder}/{METRICS}"
    optimizer = torch.optim.AdamW(network.parameters(), recipe.lr, weight_decay=recipe.decay)
    epoch = 0
    if (saved := run.load_tensors(checkpoint)) is not None:
        tensors, scalars = saved
        network.load_state_dict({name[2:]: tensor for name, tensor in tensors.items() if name.startswith("n.")})
        from_tensors(optimizer, "w", tensors)
        epoch = scalars["epoch"]
    run.keep_lines(journal, epoch)
    while epoch < recipe.epochs:
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
        parts = batches(images, recipe.batch_size, generator)
        network.train()
        losses = []
        for step, part in enumerate(parts):
            progress = (epoch * len(parts) + step) / max(recipe.epochs * len(parts) - 1, 1)
            optimizer.param_groups[0]["lr"] = recipe.lr * _rate(progress, recipe.warmup)
            moved = _shifted(part.x, recipe.shift, generator)
            loss = cross_entropy(network(moved), part.y, label_smoothing=recipe.smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        epoch += 1
        metrics = {"epoch": epoch, "loss": sum(losses) / len(losses)}
        run.append(journal, metrics)
        state = {f"n.{name}": tensor for name, tensor in network.state_dict().items()}
        run.save_tensors(checkpoint, state | to_tensors(optimizer, "w"), {"epoch": epoch})
        yield metrics
    network.eval()


def _rate(progress: float, warmup: float) -> float:
    if progress < warmup:
        return progress / warmup
    return (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2


def _shifted(images: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Each batch moved by whole pixels, the rim repeated."""
    reach = max(1, round(images.shape[-1] * share)) if share else 0
    top, left = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()
    padded = nn.functional.pad(images, (reach,) * 4, mode="replicate")
    return padded[..., top : top + images.shape[-2], left : left + images.shape[-1]]


@torch.inference_mode()
def accuracy(network: nn.Module, split: Split) -> float:
    """Share of images whose highest logit is right, 0 to 1."""
    network.eval()
    right = [(network(x).argmax(1) == y).sum() for x, y in zip(split.x.split(256), split.y.split(256), strict=True)]
    return float(sum(int(count) for count in right) / len(split))
