"""Training one network from scratch: epoch by epoch, each saved, so that a kill costs one epoch at most."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from unas_hw.data import Augmentation, Split, batches
from unas_hw.errors import RunError
from unas_hw.ops.drop_path import DropPath, set_drop_path
from unas_hw.optimizer_state import from_tensors, to_tensors, under
from unas_hw.runs import Run
from unas_hw.training.auxiliary import WithAuxiliary, takes_auxiliary
from unas_hw.training.average import Average
from unas_hw.training.hardware import Hardware
from unas_hw.training.recipes import OF_DATASET, Recipe

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"


def train(
    network: nn.Module, images: Split, recipe: Recipe, run: Run, folder: str, hardware: Hardware | None = None
) -> Iterator[dict[str, Any]]:
    """Trains a fresh network, yields metrics after each epoch, saves in a folder of the run and resumes by itself.

    Equal seeds give equal weights, bit for bit on a CPU, however often training was killed. It ends with the network
    where it was, in evaluation mode; with the averaged weights if the recipe has an average. What of the recipe the
    network does not take (``lacking``) is left out. The hardware is by default the device that the network is on.

    Yields:
        ``epoch``, mean ``loss``, ``lr`` of the last step, ``seconds``.

    Raises:
        RunError: If the loss is no number any more, or the folder is damaged.
    """
    hardware = hardware or Hardware.of(network)
    checkpoint, journal = f"{folder}/{CHECKPOINT}", f"{folder}/{METRICS}"
    with hardware.holding(network), ExitStack() as attached:
        training = _Training(network, images, recipe, hardware, attached)
        epoch = 0
        if (saved := run.load_tensors(checkpoint)) is not None:
            tensors, scalars = saved
            training.load(tensors)
            epoch = scalars["epoch"]
        run.keep_lines(journal, epoch)
        while epoch < recipe.epochs:
            metrics = training.epoch(epoch)
            epoch += 1
            if not math.isfinite(metrics["loss"]):
                raise RunError(
                    f"training in {run.path / folder} diverged: the loss of epoch {epoch} is {metrics['loss']}",
                    mend=f"unas-hw train --run {run.path.name} --lr {recipe.lr / 2:g}",
                )
            run.append(journal, metrics)
            run.save_tensors(checkpoint, training.state(), {"epoch": epoch})
            yield metrics
        if training.average:
            network.load_state_dict(training.average.state)
        network.eval()


def lacking(network: nn.Module, recipe: Recipe) -> tuple[str, ...]:
    """What the recipe asks for and the network has no place for: ``drop_path``, ``auxiliary``."""
    has_paths = any(isinstance(module, DropPath) for module in network.modules())
    there = {"drop_path": has_paths, "auxiliary": takes_auxiliary(network)}
    return tuple(name for name, is_there in there.items() if getattr(recipe, name) and not is_there)


@final
class _Training:
    """A network on its hardware, and all that changes with it."""

    def __init__(
        self, network: nn.Module, images: Split, recipe: Recipe, hardware: Hardware, attached: ExitStack
    ) -> None:
        self.network, self.recipe, self.hardware = network, recipe, hardware
        self.images = images.on(hardware.device)
        self.augment = Augmentation.parse("none" if recipe.augmentation == OF_DATASET else recipe.augmentation)
        self.model: nn.Module = network
        if recipe.auxiliary and takes_auxiliary(network):
            with hardware.seeded(recipe.seed):
                whole = WithAuxiliary(network, hardware.format(self.images.take(torch.arange(1))))
            attached.enter_context(whole.attached())
            self.model = whole
        weights = list(self.model.parameters())
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.AdamW(weights, recipe.lr, weight_decay=recipe.decay)
            if recipe.optimizer == "adamw"
            else torch.optim.SGD(weights, recipe.lr, recipe.momentum, weight_decay=recipe.decay)
        )
        self.average = Average(network, recipe.average) if recipe.average else None
        self.forward = torch.compile(self.model) if hardware.compile else self.model

    def epoch(self, epoch: int) -> dict[str, Any]:
        """One pass; everything random in it follows from the seed and its number, from 0."""
        recipe, begin = self.recipe, time.monotonic()
        seed = recipe.seed * 1_000_003 + epoch
        generator = torch.Generator().manual_seed(seed)
        shares = np.random.default_rng([recipe.seed, epoch])
        # Augmented here and not by ``batches``: the recipe ``short`` draws its numbers batch by batch.
        prefetch = self.hardware.is_gpu or not self.images.in_memory
        parts = batches(self.images, recipe.batch_size, generator, prefetch=prefetch)
        set_drop_path(self.network, recipe.drop_path * epoch / recipe.epochs)
        self.model.train()
        losses: list[Tensor] = []
        with self.hardware.seeded(seed):
            for step, part in enumerate(parts):
                done = epoch * len(parts) + step
                progress = done / max(recipe.epochs * len(parts) - 1, 1)
                self.optimizer.param_groups[0]["lr"] = recipe.lr * _rate(progress, recipe.warmup)
                share = shares.beta(recipe.mixup, recipe.mixup) if recipe.mixup else 1.0
                losses.append(self._step(self.augment(part.x, generator, self.images.form), part.y, share))
                if self.average:
                    self.average.update(self.network, done)
        loss = sum(torch.stack(losses).tolist()) / len(losses)
        lr = self.optimizer.param_groups[0]["lr"]
        return {"epoch": epoch + 1, "loss": loss, "lr": lr, "seconds": time.monotonic() - begin}

    def _step(self, x: Tensor, y: Tensor, share: float) -> Tensor:
        """One step; its loss. ``share``: how much of each image is its own, the rest is of the batch's reverse."""
        if share < 1:
            x = share * x + (1 - share) * x.flip(0)

        def loss_of(logits: Tensor) -> Tensor:
            own = cross_entropy(logits, y, label_smoothing=self.recipe.smoothing)
            if share == 1:
                return own
            return share * own + (1 - share) * cross_entropy(logits, y.flip(0), label_smoothing=self.recipe.smoothing)

        with self.hardware.autocast():
            outputs = self.forward(self.hardware.format(x))
            if isinstance(outputs, tuple):
                logits, auxiliary = outputs
                loss = loss_of(logits) + self.recipe.auxiliary * loss_of(auxiliary)
            else:
                loss = loss_of(outputs)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        return loss.detach()

    def _modules(self) -> dict[str, nn.Module]:
        modules: dict[str, nn.Module] = {"n": self.network}
        if isinstance(self.model, WithAuxiliary):
            modules["a"] = self.model.head
        return modules

    def state(self) -> dict[str, Tensor]:
        """All of it but the hardware; the inverse of ``load``."""
        states = {name: module.state_dict() for name, module in self._modules().items()}
        if self.average:
            states["e"] = self.average.state
        named = {f"{part}.{name}": tensor for part, state in states.items() for name, tensor in state.items()}
        return named | to_tensors(self.optimizer, "w")

    def load(self, tensors: dict[str, Tensor]) -> None:
        for name, module in self._modules().items():
            module.load_state_dict(under(tensors, name))
        if self.average:
            self.average.load(under(tensors, "e"))
        from_tensors(self.optimizer, "w", tensors)


def _rate(progress: float, warmup: float) -> float:
    """Share of the highest learning rate, at a share of the steps."""
    if progress < warmup:
        return progress / warmup
    return (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2
