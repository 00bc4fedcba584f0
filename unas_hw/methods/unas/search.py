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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from unas_hw.budget import Multiplier
from unas_hw.data import Batches, Dataset, batches, in_order
from unas_hw.distributed import ALONE, Ranks
from unas_hw.distribution import ArchitectureDistribution, ArchSample
from unas_hw.errors import MethodError
from unas_hw.estimators import Estimator, find_estimator
from unas_hw.estimators.diagnostics import BranchStatistics
from unas_hw.estimators.table import Exact
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import NetworkMeter
from unas_hw.methods.unas.collapse import skipping
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.objectives import LatencyExcess, TaskLoss
from unas_hw.objectives.forms import FACTORS, FORMS, HINGE, LINEAR, has_logarithm, linear
from unas_hw.optimizer_state import from_tensors, to_tensors, under
from unas_hw.runs import Run
from unas_hw.search.constraints import Constraint
from unas_hw.space import SearchSpace
from unas_hw.supernet import Path
from unas_hw.training.hardware import Hardware

CHECKPOINT, METRICS, GRADIENTS = "checkpoint.safetensors", "metrics.jsonl", "gradients.jsonl"


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
        self.space, self.model, self.data, self.budget_ms = space, model, data, budget_ms
        self.config, self.run, self.meter, self.ranks = config, run, meter, ranks
        self.hardware = hardware or Hardware()
        self._check()
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.supernet = self.hardware.ready(space.supernet())  # the same weights on every device
        self.supernet.bf16 = self.hardware.bf16
        if self.hardware.compile:
            self.supernet.compile_parts()
        choices = [len(decision.choices) for decision in space.decisions]
        self.distribution = ArchitectureDistribution(choices, softening=config.softening)
        self.w_optimizer = torch.optim.Adam(
            self.supernet.parameters(), config.w_lr, weight_decay=config.w_decay, fused=True
        )
        self.alpha_optimizer = torch.optim.Adam(self.distribution.parameters(), config.alpha_lr, weight_decay=1e-6)
        self.multiplier = Multiplier(config.multiplier_rate)
        self.constraints = tuple(constraints)
        self.epoch = self.step = self.diagnosed = 0
        self.task = TaskLoss(
            self.supernet,
            gap_weight=config.gap_weight,
            gap=config.gap,
            loss_on=config.loss_on,
            duplicates=getattr(space, "duplicate_edges", None),
            duplicates_weight=config.duplicates_weight,
            before_pass=self._seed_pass,
            ranks=ranks,
        )
        self.excess = LatencyExcess(model, budget_ms, self._measured_ms)
        self.task_estimator = find_estimator(
            config.estimator, self.task, tau=config.tau, tau_end=config.tau_end, count=config.architectures
        )
        self.latency_estimator = find_estimator(config.latency_estimator, self.excess, count=config.architectures)
        shape = self.distribution.alpha.shape
        self.branches = {"task": BranchStatistics(shape), "latency": BranchStatistics(shape)}

    def _check(self) -> None:
        config, count = self.config, self.config.architectures
        if config.budget_form not in FORMS:
            raise MethodError(
                f"no form of the latency is called {config.budget_form!r}", mend=f"choose one of {', '.join(FORMS)}"
            )
        if (
            has_logarithm(config.budget_form)
            and min(self.budget_ms, self.model.latency_ms(self.model.smallest)) <= 1e-3
        ):
            raise MethodError(
                f"the form {config.budget_form!r} takes the logarithm of microseconds, and networks take less than one",
                mend="use --budget-form hinge",
            )
        if config.batch_size < count or len(self.data.valid) < count:
            raise MethodError(
                f"{count} architectures a step share {min(config.batch_size, len(self.data.valid))} images",
                mend=f"add --batch-size {4 * count}, or draw fewer architectures",
            )
        if count % self.ranks.world:
            raise MethodError(
                f"{count} architectures a step cannot be shared among {self.ranks.world} processes",
                mend=f"add --architectures {self.ranks.world * -(-count // self.ranks.world)}",
            )

    def _seed_pass(self, place: int) -> None:
        """Dropout follows from the sample, so it is the same whichever process runs it."""
        torch.manual_seed(hash((self.config.seed, self.epoch, self.step, place)) % 2**63)

    def _measured_ms(self, path: tuple[int, ...]) -> float:
        architecture = self.space.architecture(path)
        first = self.ranks.first
        self.hardware.synchronize()  # what the device still computes would slow what is measured
        seen = self.meter.measure([architecture], label="search")[0].scaled_ms if first else None
        return self.ranks.from_first(seen)

    @property
    def epochs(self) -> int:
        """Of both kinds."""
        return self.config.warmup_epochs + self.config.epochs

    @property
    def _parts(self) -> dict[str, Estimator | BranchStatistics]:
        """What has a state of its own."""
        estimators = {"estimator.task": self.task_estimator, "estimator.latency": self.latency_estimator}
        return estimators | {f"branch.{name}": branch for name, branch in self.branches.items()}

    def resume(self) -> None:
        """Goes back to the last checkpoint, if there is one; what came after it is forgotten."""
        saved = self.run.load_tensors(CHECKPOINT)
        if saved is not None:
            tensors, scalars = saved
            self.supernet.load_state_dict(under(tensors, "supernet"))
            self.distribution.load_state_dict(under(tensors, "distribution"))
            from_tensors(self.w_optimizer, "w", tensors)
            from_tensors(self.alpha_optimizer, "alpha", tensors)
            for name, part in self._parts.items():
                if state := under(tensors, name):
                    part.load(state)
            self.multiplier.value, *others = scalars["multipliers"]
            for constraint, value in zip(self.constraints, others, strict=True):
                constraint.multiplier.value = value
            self.epoch, self.diagnosed = scalars["epoch"], scalars["diagnosed"]
        if self.ranks.first:
            self.run.keep_lines(METRICS, self.epoch)
            self.run.keep_lines(GRADIENTS, self.diagnosed)

    def save(self) -> None:
        """Writes a checkpoint, from which ``resume`` goes on."""
        tensors = {f"supernet.{name}": tensor for name, tensor in self.supernet.state_dict().items()}
        tensors |= {f"distribution.{name}": tensor for name, tensor in self.distribution.state_dict().items()}
        tensors |= to_tensors(self.w_optimizer, "w") | to_tensors(self.alpha_optimizer, "alpha")
        for name, part in self._parts.items():
            tensors |= {f"{name}.{key}": tensor for key, tensor in part.state().items()}
        multipliers = [self.multiplier.value, *(each.multiplier.value for each in self.constraints)]
        scalars = {"epoch": self.epoch, "diagnosed": self.diagnosed, "multipliers": multipliers}
        self.run.save_tensors(CHECKPOINT, tensors, scalars)

    def steps(self) -> Iterator[Progress]:
        """Trains to the end, epoch by epoch, and saves after each."""
        while self.epoch < self.epochs:
            begin = time.monotonic()
            # All randomness of an epoch follows from its number: nothing about it has to be saved.
            with torch.random.fork_rng():
                torch.manual_seed(hash((self.config.seed, self.epoch)) % 2**63)
                generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.epoch)
                train, valid = self._batches(generator)
                losses = []
                for step, images in enumerate(train):
                    self.step = step
                    self._set_rates(self.epoch * len(train) + step, self.epochs * len(train))
                    self.task.set_batches(images, valid[step % len(valid)])
                    number = (self.epoch - self.config.warmup_epochs) * len(train) + step
                    losses.append(self._step(generator, number))
                    yield Progress(self._stage, self.epoch * len(train) + step + 1, self.epochs * len(train))
            stage, metrics = self._stage, self._metrics(losses)
            self.epoch += 1
            if self.ranks.first:
                self.run.append(METRICS, metrics)
                self.save()
            metrics = {**metrics, "seconds": time.monotonic() - begin}
            yield Progress(stage, self.epoch * len(train), self.epochs * len(train), metrics)

    def _batches(self, generator: torch.Generator) -> tuple[Batches, Batches]:
        size, device = self.config.batch_size, self.hardware.device
        # Training images are asked for one after the other; of the others each may be asked for at any time.
        train = batches(self.data.train, size, generator, prefetch=self.hardware.is_gpu, device=device)
        return train, batches(self.data.valid, size, generator, device=device)

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
        config, alpha = self.config, self.distribution.alpha
        self.w_optimizer.zero_grad(set_to_none=True)
        self.task.w_lr = self.w_optimizer.param_groups[0]["lr"]
        steps = config.epochs * (len(self.data.train) // min(config.batch_size, len(self.data.train)))
        progress = max(number, 0) / max(steps - 1, 1)
        sample = self.task_estimator.draw(self.distribution, config.architectures, generator, progress)
        if number < 0:
            self.task.train_weights(sample)
            self._step_weights()
            return float("nan")
        loss = self.task_estimator.loss(sample, self.task, self.distribution)
        (task,) = torch.autograd.grad(loss, alpha, retain_graph=True)  # both losses share the sample
        factor, latency_loss = self._latency(sample, number)
        (latency,) = torch.autograd.grad(latency_loss, alpha)
        value = self.task.value
        if config.weights_from == "choice":
            self.w_optimizer.zero_grad(set_to_none=True)  # what a relaxed pass has left there
        if config.weights_from != "relaxed" or not self.task_estimator.needs & {"relaxed", "unrolled"}:
            self.task.train_weights(sample)
        alpha.grad = factor * task + latency
        for name, gradient in (("task", factor * task), ("latency", latency)):
            self.branches[name].add(gradient)
        if (number + 1) % config.diagnose_every == 0:
            self._diagnose(number)
        self.alpha_optimizer.step()
        self._step_weights()
        self._step_multipliers()
        return value

    def _latency(self, sample: ArchSample, number: int) -> tuple[float, Tensor]:
        """What the task's gradient is multiplied by, and a scalar with the gradient of all budgets."""
        probs, form = self.distribution.probs(), self.config.budget_form
        others = sum((each.loss(probs) for each in self.constraints), torch.zeros((), dtype=torch.float64))
        if form == HINGE:
            return 1.0, others + self.multiplier.value * self._excess_loss(sample, number)
        expected_ms = self.model.distribution(probs).expectation()
        if form == LINEAR:
            return 1.0, others + linear(expected_ms, self.budget_ms)
        factor = FACTORS[form](expected_ms, self.budget_ms)
        return float(factor.detach()), others + self.task.value * factor

    def _excess_loss(self, sample: ArchSample, number: int) -> Tensor:
        """Where networks are measured every k steps only, what is measured counts k times: so its mean stays."""
        estimator, k = self.latency_estimator, self.config.measure_every
        now = number % k == 0
        if isinstance(estimator, Exact):
            expected = self.excess.expected(self.distribution)
            return expected + k * estimator.residual(sample, self.excess) if now else expected
        if "discrete" not in estimator.needs:
            return estimator.loss(sample, self.excess, self.distribution)
        return k * estimator.loss(sample, self.excess, self.distribution) if now else 0.0 * sample.log_prob.sum()

    def _diagnose(self, number: int) -> None:
        line = {name: branch.report() for name, branch in self.branches.items()}
        if self.ranks.first:
            self.run.append(GRADIENTS, {"step": number + 1, "estimator": self.config.estimator, **line})
        self.diagnosed += 1

    def _step_weights(self) -> None:
        if self.ranks.world > 1:
            weights = list(self.supernet.parameters())
            used = torch.tensor([weight.grad is not None for weight in weights], dtype=torch.float32)
            used = used.to(self.hardware.device)  # one message, and NCCL sends what lies on a GPU
            grads = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
            self.ranks.sum_([used, *grads])
            for weight, grad, count in zip(weights, grads, used.tolist(), strict=True):
                weight.grad = grad if count else None  # Adam leaves alone what nobody has used
        torch.nn.utils.clip_grad_norm_(self.supernet.parameters(), self.config.w_clip)
        self.w_optimizer.step()

    @torch.no_grad()
    def _step_multipliers(self) -> None:
        mode, probs = self.distribution.mode(), self.distribution.probs()
        self.multiplier.step(max(self._expected_ms(), self.model.latency_ms(mode)), self.budget_ms)
        for constraint in self.constraints:
            constraint.step(probs, mode)

    @torch.no_grad()
    def _expected_ms(self) -> float:
        return float(self.model.distribution(self.distribution.probs()).expectation())

    @torch.no_grad()
    def _metrics(self, losses: list[float]) -> dict[str, Any]:
        probs, mode, residual = self.distribution.probs(), self.distribution.mode(), self.latency_estimator
        latency = self.model.distribution(probs)
        logits = self.valid_logits(mode)
        searching = self.epoch >= self.config.warmup_epochs
        return {
            "epoch": self.epoch + 1,
            "stage": self._stage,
            "cost": sum(losses) / len(losses) if searching else None,
            "expected_ms": float(latency.expectation()),
            "within_budget": float(latency.cdf(self.budget_ms)),
            "mode": str(self.space.architecture(mode)),
            "mode_ms": self.model.latency_ms(mode),
            "mode_valid_loss": float(cross_entropy(logits, self.data.valid.y)),
            "mode_valid_accuracy": float((logits.argmax(1) == self.data.valid.y).double().mean()),
            "entropy": float(self.distribution.entropy()),
            "multiplier": self.multiplier.value,
            "residual": residual.baseline.value if isinstance(residual, Exact) else None,
            "skipping": skipping(self.space, probs),
            **{each.resource.name.replace(" ", "_"): each.describe(probs, mode) for each in self.constraints},
        }

    @torch.no_grad()
    def valid_logits(self, path: Path) -> Tensor:
        """``(N, classes)`` of the validation images, in batches of the size trained with (their statistics count)."""
        self.supernet.eval()  # no dropout; batch normalisation has no other mode here
        try:
            parts = in_order(self.data.valid, max(self.config.batch_size, 64), device=self.hardware.device)
            return torch.cat([self.supernet(part.x, path).cpu() for part in parts])
        finally:
            self.supernet.train()

    def valid_losses(self, path: Path) -> Tensor:
        """``(N,)`` cross entropy of a network with the shared weights, one per validation image."""
        return cross_entropy(self.valid_logits(path), self.data.valid.y, reduction="none")
