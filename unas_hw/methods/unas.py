"""UNAS: weights and architecture learnt together, the latency in two branches.

Vahdat et al., "UNAS: Differentiable Architecture Search Meets Reinforcement Learning", CVPR 2020 (arXiv 1912.07651).

    min_alpha  E_z[ L_train(w, z) + lam |L_val(w, z) - L_train(w, z)| ] + mu E_z[ max(0, lat(z)/T - 1) ]
    min_w      E_zeta[ L_train(w, zeta) ]

What differs from the paper: the expected excess is exact over the table instead of sampled; the measured latency of
sampled networks enters as the residual to the table; mu is the dual variable of the constraint instead of a constant;
one backward pass of the relaxed network serves alpha and w; the warm-up trains sampled networks z, not zeta.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from unas_hw.budget import Multiplier
from unas_hw.data import Dataset, Split, batches
from unas_hw.distribution import TAU, ArchitectureDistribution
from unas_hw.estimators import Estimator, MovingAverage, find_estimator
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import NetworkMeter
from unas_hw.objectives import Batch, Gap, LatencyExcess, TaskLoss
from unas_hw.optimizer_state import from_tensors, to_tensors
from unas_hw.runs import Run
from unas_hw.space import SearchSpace
from unas_hw.supernet import Path

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class UnasConfig:
    """Hyper-parameters. Defaults suit minutes on a CPU; ``published_*`` below are the paper's.

    Attributes:
        warmup_epochs: Epochs in which only weights learn.
        epochs: Epochs after them.
        batch_size: Images a step.
        w_lr, w_lr_min: Adam for the weights, cosine from one to the other.
        w_decay, w_clip: Weight decay and gradient norm.
        alpha_lr, alpha_lr_min: Adam for alpha.
        tau: Temperature of the relaxation.
        softening: eps of the distribution.
        gap_weight, gap: lam and the reading of the generalization gap.
        estimator: Of the task loss; the latency always uses the exact expectation with the measured residual.
        train_choice: Weights learn from the sampled network z as well as from zeta. The paper trains zeta only, for
            hundreds of epochs; in few, networks on their own stay so bad that they cannot be told apart.
        measure_every: Steps between two measured networks.
        multiplier_rate: Of the dual ascent.
        finetune_epochs: Of the network that was found, on its own with the weights it shared, before it is reported.
        seed: Of everything random.
    """

    warmup_epochs: int = 20
    epochs: int = 6
    batch_size: int = 64
    w_lr: float = 6e-3
    w_lr_min: float = 6e-4
    w_decay: float = 3e-4
    w_clip: float = 5.0
    alpha_lr: float = 0.1
    alpha_lr_min: float = 0.02
    tau: float = TAU
    softening: float = 0.0
    gap_weight: float = 0.5
    gap: Gap = "means"
    estimator: str = "rebar"
    train_choice: bool = True
    measure_every: int = 10
    multiplier_rate: float = 0.2
    finetune_epochs: int = 8
    seed: int = 0


def published_imagenet_mbconv() -> UnasConfig:
    """The paper's ProxylessNAS-space search on ImageNet (8 GPUs of 24 images each)."""
    return UnasConfig(
        warmup_epochs=20,
        epochs=15,
        batch_size=192,
        w_lr=3e-4,
        w_lr_min=1e-4,
        alpha_lr=1e-3,
        alpha_lr_min=3e-4,
        softening=0.08,
        train_choice=False,
    )


@dataclass(frozen=True)
class Progress:
    """Where a search is, after each step of all ``steps``; ``metrics`` after each epoch."""

    stage: str
    step: int
    steps: int
    metrics: dict[str, Any] | None = None


@final
class UnasSearch:
    """The state of one search: everything that changes, and nothing that does not.

    Args:
        space: What is searched.
        model: Its latencies by the table.
        meter: Measures sampled networks.
        data: Training and validation images.
        budget_ms: T.
        config: Hyper-parameters.
        run: Keeps checkpoints and metrics.
    """

    def __init__(
        self,
        space: SearchSpace,
        model: LatencyModel,
        meter: NetworkMeter,
        data: Dataset,
        budget_ms: float,
        config: UnasConfig,
        run: Run,
    ) -> None:
        self.space, self.model, self.data, self.budget_ms = space, model, data, budget_ms
        self.config, self.run = config, run
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.supernet = space.supernet()
        choices = [len(decision.choices) for decision in space.decisions]
        self.distribution = ArchitectureDistribution(choices, softening=config.softening)
        self.w_optimizer = torch.optim.Adam(self.supernet.parameters(), config.w_lr, weight_decay=config.w_decay)
        self.alpha_optimizer = torch.optim.Adam(self.distribution.parameters(), config.alpha_lr, weight_decay=1e-6)
        self.multiplier = Multiplier(config.multiplier_rate)
        self.task_baseline, self.residual_baseline = MovingAverage(), MovingAverage()
        self.epoch = 0
        self.task = TaskLoss(self.supernet, gap_weight=config.gap_weight, gap=config.gap)
        self.excess = LatencyExcess(
            model, budget_ms, lambda path: meter.measure([space.architecture(path)], label="search")[0].scaled_ms
        )
        self.task_estimator: Estimator = find_estimator(config.estimator, self.task)
        self.latency_estimator: Estimator = find_estimator("exact", self.excess)

    @property
    def epochs(self) -> int:
        """Of both kinds."""
        return self.config.warmup_epochs + self.config.epochs

    def resume(self) -> None:
        """Goes back to the last checkpoint, if there is one; what came after it is forgotten."""
        saved = self.run.load_tensors(CHECKPOINT)
        if saved is not None:
            tensors, scalars = saved
            self.supernet.load_state_dict(_without(tensors, "supernet."))
            self.distribution.load_state_dict(_without(tensors, "distribution."))
            from_tensors(self.w_optimizer, "w", tensors)
            from_tensors(self.alpha_optimizer, "alpha", tensors)
            self.multiplier.value = scalars["multiplier"]
            self.task_baseline.value = scalars["task_baseline"]
            self.residual_baseline.value = scalars["residual_baseline"]
            self.epoch = scalars["epoch"]
        self.run.keep_lines(METRICS, self.epoch)

    def _save(self) -> None:
        tensors = {f"supernet.{name}": tensor for name, tensor in self.supernet.state_dict().items()}
        tensors |= {f"distribution.{name}": tensor for name, tensor in self.distribution.state_dict().items()}
        tensors |= to_tensors(self.w_optimizer, "w") | to_tensors(self.alpha_optimizer, "alpha")
        scalars = {
            "epoch": self.epoch,
            "multiplier": self.multiplier.value,
            "task_baseline": self.task_baseline.value,
            "residual_baseline": self.residual_baseline.value,
        }
        self.run.save_tensors(CHECKPOINT, tensors, scalars)

    def steps(self) -> Iterator[Progress]:
        """Trains to the end, epoch by epoch, and saves after each."""
        while self.epoch < self.epochs:
            begin = time.monotonic()
            # All randomness of an epoch follows from its number: nothing about it has to be saved.
            with torch.random.fork_rng():
                torch.manual_seed(hash((self.config.seed, self.epoch)) % 2**63)
                generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.epoch)
                train = batches(self.data.train, self.config.batch_size, generator)
                valid = batches(self.data.valid, self.config.batch_size, generator)
                losses = []
                for step, images in enumerate(train):
                    self._set_rates(self.epoch * len(train) + step, self.epochs * len(train))
                    self.task.set_batches(_batch(images), _batch(valid[step % len(valid)]))
                    number = (self.epoch - self.config.warmup_epochs) * len(train) + step
                    losses.append(self._step(generator, number))
                    yield Progress(self._stage, self.epoch * len(train) + step + 1, self.epochs * len(train))
            stage, metrics = self._stage, self._metrics(losses)
            self.epoch += 1
            self.run.append(METRICS, metrics)
            self._save()
            metrics = {**metrics, "seconds": time.monotonic() - begin}
            yield Progress(stage, self.epoch * len(train), self.epochs * len(train), metrics)

    @property
    def _stage(self) -> str:
        return "warm-up" if self.epoch < self.config.warmup_epochs else "search"

    def _set_rates(self, step: int, steps: int) -> None:
        config = self.config
        pairs = (
            (self.w_optimizer, config.w_lr, config.w_lr_min),
            (self.alpha_optimizer, config.alpha_lr, config.alpha_lr_min),
        )
        for optimizer, high, low in pairs:
            # The last step has the lowest rate; a schedule that divides by `steps` never gets there.
            share = (1 + math.cos(math.pi * step / max(steps - 1, 1))) / 2
            optimizer.param_groups[0]["lr"] = low + share * (high - low)

    def _step(self, generator: torch.Generator, number: int) -> float:
        """One step; ``number`` is negative while warming up. Returns the task's cost."""
        self.w_optimizer.zero_grad(set_to_none=True)
        self.alpha_optimizer.zero_grad(set_to_none=True)
        estimator = self.task_estimator
        sample = self.distribution.sample(1, generator=generator, tau=self.config.tau, coupling=estimator.coupling)
        if number < 0:
            self.task.train_weights(sample)
            self._step_weights()
            return float("nan")
        cost = estimator.loss(sample, self.task, self.distribution, self.task_baseline)
        if self.config.train_choice or "relaxed" not in estimator.needs:
            self.task.train_weights(sample)
        weight = self.multiplier.value
        if number % self.config.measure_every == 0:
            # The residual is seen every k steps only, so it counts k times: its mean stays what it is.
            k = self.config.measure_every
            latency = self.latency_estimator.loss(sample, self.excess, self.distribution, self.residual_baseline)
            expected = self.excess.expected(self.distribution)
            latency = expected + k * (latency - expected)
        else:
            latency = self.excess.expected(self.distribution)
        (cost + weight * latency).backward()
        self.alpha_optimizer.step()
        self._step_weights()
        self.multiplier.step(max(self._expected_ms(), self.model.latency_ms(self.distribution.mode())), self.budget_ms)
        return float(cost.detach())

    def _step_weights(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.supernet.parameters(), self.config.w_clip)
        self.w_optimizer.step()

    @torch.no_grad()
    def _expected_ms(self) -> float:
        return float(self.model.distribution(self.distribution.probs()).expectation())

    @torch.no_grad()
    def _metrics(self, losses: list[float]) -> dict[str, Any]:
        latency = self.model.distribution(self.distribution.probs())
        mode = self.distribution.mode()
        searching = self.epoch >= self.config.warmup_epochs
        return {
            "epoch": self.epoch + 1,
            "stage": self._stage,
            "cost": sum(losses) / len(losses) if searching else None,
            "expected_ms": float(latency.expectation()),
            "within_budget": float(latency.cdf(self.budget_ms)),
            "mode": str(self.space.architecture(mode)),
            "mode_ms": self.model.latency_ms(mode),
            "mode_valid_loss": float(self.valid_losses(mode).mean()),
            "entropy": float(self.distribution.entropy()),
            "multiplier": self.multiplier.value,
            "residual": self.residual_baseline.value,
        }

    @torch.no_grad()
    def valid_logits(self, path: Path) -> Tensor:
        """``(N, classes)`` of the validation images, in batches of the size trained with (their statistics count)."""
        self.supernet.eval()  # no dropout; batch normalisation has no other mode here
        try:
            parts = self.data.valid.x.split(max(self.config.batch_size, 64))
            return torch.cat([self.supernet(part, path) for part in parts])
        finally:
            self.supernet.train()

    def valid_losses(self, path: Path) -> Tensor:
        """``(N,)`` cross entropy of a network with the shared weights, one per validation image."""
        return cross_entropy(self.valid_logits(path), self.data.valid.y, reduction="none")


def _batch(split: Split) -> Batch:
    return Batch(split.x, split.y)


def _without(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
