"""UNAS: weights and architecture learnt together, the latency in two branches.

Vahdat et al., "UNAS: Differentiable Architecture Search Meets Reinforcement Learning", CVPR 2020 (arXiv 1912.07651).

    min_alpha  E_z[ L_train(w, z) + lam |L_val(w, z) - L_train(w, z)| ]  such that  E_z[ lat(z) ] = T
    min_w      E_zeta[ L_train(w, zeta) ], or the sandwich rule where candidates share weights

One step, as ``UnasSearch._step`` has it:

    sample        z ~ softmax(alpha - mu c), and zeta, its relaxation
    loss          L_train + lam |L_val - L_train| of them                       unas_hw.objectives.TaskLoss
    estimator     its gradient in alpha, through zeta and by REINFORCE          unas_hw.estimators
    alpha         that gradient, less what it has along that of the latency     LatencyBranch
    weights       the gradient of L_train(w, zeta), or of networks
    multipliers   mu is solved for the target; measured networks correct c      Solved, Residual

What differs from the paper: the expected latency is exact over the table instead of sampled, and kept instead of
penalised; the measured latency of sampled networks corrects the price of each choice, by REINFORCE; one backward pass
of the relaxed network serves alpha and w; the warm-up trains z, not zeta (``warmup_from``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from unas_hw.data import Batches, Dataset, batches
from unas_hw.distributed import ALONE, Ranks
from unas_hw.distribution import ArchitectureDistribution, ArchSample
from unas_hw.estimators import find_estimator
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import NetworkMeter
from unas_hw.methods.unas.branch import LatencyBranch
from unas_hw.methods.unas.checkpoint import Checkpoint
from unas_hw.methods.unas.checks import check
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.methods.unas.entangled import ends_of, supernet_of
from unas_hw.methods.unas.metrics import GRADIENTS, METRICS, GradientLog, describe, logits_of, valid_logits
from unas_hw.methods.unas.schedule import progress_of, set_rates
from unas_hw.objectives import TaskLoss
from unas_hw.runs import Run
from unas_hw.search.constraints import Constraint
from unas_hw.space import SearchSpace
from unas_hw.supernet import Path, Supernet
from unas_hw.training.hardware import Hardware

COMPARED_BATCH = 256
"""Images whose statistics normalise where networks are compared: fewer make what is compared noisier."""


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
        constraints: Other budgets that expectation and mode are brought below.
        ranks: Processes that search together.
        hardware: What the supernet is trained on; alpha, a few hundred numbers, stays on the CPU.

    Raises:
        EstimatorError, MethodError: If the settings cannot work together.
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
        constraints: Sequence[Constraint] = (),
        ranks: Ranks = ALONE,
        hardware: Hardware | None = None,
    ) -> None:
        check(config, model, data, budget_ms, ranks)
        self.space, self.model, self.data, self.budget_ms = space, model, data, budget_ms
        self.config, self.run, self.meter, self.ranks = config, run, meter, ranks
        self.constraints, self.hardware = tuple(constraints), hardware or Hardware()
        self.epoch = self.step = 0
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            supernet, self.entangled = supernet_of(space, config)  # the same weights on every device
        self.supernet = self.hardware.ready(supernet)
        self.supernet.bf16 = self.hardware.bf16
        if self.hardware.compile:
            self.supernet.compile_parts()
        choices = [len(decision.choices) for decision in space.decisions]
        self.distribution = ArchitectureDistribution(choices, softening=config.softening)
        self.w_optimizer = _w_optimizer(self.supernet, config)
        self.alpha_optimizer = torch.optim.Adam(self.distribution.parameters(), config.alpha_lr, weight_decay=1e-6)
        self.task = TaskLoss(
            self.supernet,
            gap_weight=config.gap_weight,
            gap=config.gap,
            loss_on=config.loss_on,
            duplicates=getattr(space, "duplicate_edges", None),
            duplicates_weight=config.duplicates_weight,
            before_pass=self._seed_pass,
            ends=ends_of(space, supernet) if self.entangled else None,
            ranks=ranks,
        )
        self.task_estimator = find_estimator(
            config.estimator,
            self.task,
            tau=config.tau,
            tau_end=config.tau_end,
            tau_falls=config.tau_falls,
            count=config.architectures,
        )
        self.latency = LatencyBranch(self.distribution, model, budget_ms, constraints, config, self._measured_ms)
        self.gradients = GradientLog(self.distribution.alpha.shape, config, run if ranks.first else None)
        self.checkpoint = Checkpoint(
            run=run,
            modules={"supernet": self.supernet, "distribution": self.distribution},
            optimizers={"w": self.w_optimizer, "alpha": self.alpha_optimizer},
            parts={"estimator.task": self.task_estimator, "estimator.latency": self.latency.estimator}
            | ({"residual": self.latency.residual} if self.latency.residual else {})
            | {f"branch.{name}": branch for name, branch in self.gradients.branches.items()},
            multipliers=[dual.multiplier for dual in self.latency.duals],
        )

    def _step(self, generator: torch.Generator, number: int) -> float:
        """One step; ``number`` is negative while warming up. Returns the task's cost."""
        config = self.config
        self.w_optimizer.zero_grad(set_to_none=True)
        self.task.w_lr = self.w_optimizer.param_groups[0]["lr"]
        progress = progress_of(config, len(self.data.train), number)
        sample = self.task_estimator.draw(self.distribution, config.architectures, generator, progress)
        if number < 0:
            self.task.train_weights(sample, relaxed=config.warmup_from == "relaxed")
            self._step_weights()
            return float("nan")
        if self.task.ends:
            self.task.train_weights(sample)  # first: it knows then what the estimator asks about the sampled networks
            self.distribution.alpha.grad = self._alpha_gradient(sample, number)
        else:
            self.distribution.alpha.grad = self._alpha_gradient(sample, number)
            if config.weights_from == "choice":
                self.w_optimizer.zero_grad(set_to_none=True)  # what a relaxed pass has left there
            if config.weights_from != "relaxed" or not self.task_estimator.needs & {"relaxed", "unrolled"}:
                self.task.train_weights(sample)
        self.alpha_optimizer.step()
        self._step_weights()
        self.latency.step_multipliers()
        return self.task.value

    def _alpha_gradient(self, sample: ArchSample, number: int) -> Tensor:
        """``(G, K)``, of both branches. A relaxed pass adds those of ``L_train`` in the weights to their ``.grad``."""
        alpha = self.distribution.alpha
        loss = self.task_estimator.loss(sample, self.task, self.distribution)
        (task,) = torch.autograd.grad(loss, alpha, retain_graph=True)  # both losses share the sample
        latency = self.latency.gradient(sample, number, task, self.task.value)
        self.gradients.add(number, task=task, latency=latency)
        return task + latency

    def _measured_ms(self, path: tuple[int, ...]) -> float:
        """Of a sampled network, for the residual."""
        architecture = self.space.architecture(path)
        self.hardware.synchronize()  # what the device still computes would slow what is measured
        seen = self.meter.measure([architecture], label="search")[0].scaled_ms if self.ranks.first else None
        return self.ranks.from_first(seen)

    def _step_weights(self) -> None:
        self.ranks.sum_gradients(list(self.supernet.parameters()))
        torch.nn.utils.clip_grad_norm_(self.supernet.parameters(), self.config.w_clip)
        self.w_optimizer.step()

    @property
    def epochs(self) -> int:
        """Of both kinds."""
        return self.config.warmup_epochs + self.config.epochs

    @property
    def stage(self) -> str:
        """Of this epoch."""
        return "warm-up" if self.epoch < self.config.warmup_epochs else "search"

    def steps(self) -> Iterator[Progress]:
        """Trains to the end, epoch by epoch, and saves after each."""
        while self.epoch < self.epochs:
            begin = time.monotonic()
            # All randomness of an epoch follows from its number: nothing about it has to be saved.
            with torch.random.fork_rng():
                torch.manual_seed(hash((self.config.seed, self.epoch)) % 2**63)
                generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.epoch)
                train, valid = self._batches(generator)
                losses, done, steps = [], self.epoch * len(train), self.epochs * len(train)
                for step, images in enumerate(train):
                    self.step = step
                    set_rates(self.config, self.w_optimizer, self.alpha_optimizer, done + step, steps)
                    self.task.set_batches(images, valid[step % len(valid)])
                    losses.append(self._step(generator, done + step - self.config.warmup_epochs * len(train)))
                    yield Progress(self.stage, done + step + 1, steps)
            stage, metrics = self.stage, describe(self, losses)
            self.epoch += 1
            if self.ranks.first:
                self.run.append(METRICS, metrics)
                self.save()
            metrics = {**metrics, "seconds": time.monotonic() - begin}
            yield Progress(stage, done + len(train), steps, metrics)

    def _batches(self, generator: torch.Generator) -> tuple[Batches, Batches]:
        size, device = self.config.batch_size, self.hardware.device
        # Training images are asked for one after the other; of the others each may be asked for at any time.
        train = batches(self.data.train, size, generator, prefetch=self.hardware.is_gpu, device=device)
        return train, batches(self.data.valid, size, generator, device=device)

    def _seed_pass(self, place: int) -> None:
        """Dropout follows from the sample, so it is the same whichever process runs it."""
        torch.manual_seed(hash((self.config.seed, self.epoch, self.step, place)) % 2**63)

    def save(self) -> None:
        """Writes a checkpoint, from which ``resume`` goes on."""
        self.checkpoint.save(epoch=self.epoch, diagnosed=self.gradients.lines)

    def resume(self) -> None:
        """Goes back to the last checkpoint, if there is one; what came after it is forgotten."""
        if (counts := self.checkpoint.load()) is not None:
            self.epoch, self.gradients.lines = counts["epoch"], counts["diagnosed"]
            self.latency.restore()
        if self.ranks.first:
            self.run.keep_lines(METRICS, self.epoch)
            self.run.keep_lines(GRADIENTS, self.gradients.lines)

    def rehearse(self) -> Callable[[], None]:
        """A whole step, with the same images each time; what it changes stays changed, so not of a search that counts.

        Raises:
            DataError: If images are damaged.
        """
        generator = torch.Generator().manual_seed(self.config.seed)
        train, valid = self._batches(generator)
        self.task.set_batches(train[0], valid[0])

        def step() -> None:
            with torch.random.fork_rng():
                self._step(generator, 0)

        return step

    def valid_losses(self, path: Path) -> Tensor:
        """``(N,)`` cross entropy of a network with the shared weights, one per validation image."""
        return cross_entropy(valid_logits(self, path), self.data.valid.y, reduction="none")

    def compared_losses(self, path: Path) -> Tensor:
        """``(N,)`` cross entropy, one per image, by which networks are compared: see ``compared_on``.

        What weights do on the images that they learn from ranks networks sooner than what they do on others (Ru et al.,
        arXiv 2006.04492); once they are learnt by heart, all are near 0, and the others decide.
        """
        if self.config.compared_on == "valid":
            return self.valid_losses(path)
        valid = self.data.valid
        return torch.cat(
            [
                cross_entropy(logits_of(self, path, images, COMPARED_BATCH), images.y, reduction="none")
                for images in (valid, self.data.train.first(len(valid)))
            ]
        )


def _w_optimizer(supernet: Supernet, config: UnasConfig) -> torch.optim.Optimizer:
    decay, weights = config.w_decay, supernet.parameters()
    if config.w_optimizer == "adam":
        return torch.optim.Adam(weights, config.w_lr, weight_decay=decay, fused=True)
    return torch.optim.SGD(weights, config.w_lr, momentum=0.9, weight_decay=decay, nesterov=True)
