"""What a search sees of itself and writes: a line after each epoch, now and then one about the gradients of alpha."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from unas_hw.data import Split, in_order
from unas_hw.estimators.diagnostics import BranchStatistics
from unas_hw.methods.unas.collapse import skipping
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.runs import Run
from unas_hw.supernet import Path

if TYPE_CHECKING:
    from unas_hw.methods.unas.search import UnasSearch

METRICS, GRADIENTS = "metrics.jsonl", "gradients.jsonl"


@torch.no_grad()
def describe(search: UnasSearch, losses: Sequence[float]) -> dict[str, Any]:
    """A line of ``metrics.jsonl``.

    Args:
        search: After all steps of an epoch.
        losses: The task's cost at each of them.
    """
    probs, mode = search.distribution.probs(), search.distribution.mode()
    latency = search.model.distribution(probs)
    logits, labels = valid_logits(search, mode), search.data.valid.y
    return {
        "epoch": search.epoch + 1,
        "stage": search.stage,
        "cost": sum(losses) / len(losses) if search.epoch >= search.config.warmup_epochs else None,
        "expected_ms": float(latency.expectation()),
        "within_budget": float(latency.cdf(search.budget_ms)),
        "mode": str(search.space.architecture(mode)),
        "mode_ms": search.model.latency_ms(mode),
        "mode_valid_loss": float(cross_entropy(logits, labels)),
        "mode_valid_accuracy": float((logits.argmax(1) == labels).double().mean()),
        "entropy": float(search.distribution.entropy()),
        "multiplier": search.latency.dual.multiplier.value,
        "residual": search.latency.seen_residual,
        "skipping": skipping(search.space, probs),
        **{dual.constraint.resource.name.replace(" ", "_"): dual.describe() for dual in search.latency.others},
    }


def valid_logits(search: UnasSearch, path: Path) -> Tensor:
    """``(N, classes)`` of the validation images, in batches of the size trained with (their statistics count)."""
    return logits_of(search, path, search.data.valid, max(search.config.batch_size, 64))


@torch.no_grad()
def logits_of(search: UnasSearch, path: Path, images: Split, batch_size: int) -> Tensor:
    """``(N, classes)`` of images by a network with the shared weights."""
    search.supernet.eval()  # no dropout; batch normalisation has no other mode here
    try:
        parts = in_order(images, batch_size, device=search.hardware.device)
        return torch.cat([search.supernet(part.x, path).cpu() for part in parts])
    finally:
        search.supernet.train()


@final
class GradientLog:
    """Watches alpha's gradient by its two branches; ``gradients.jsonl`` has a line every so many steps.

    Args:
        shape: ``(G, K)`` of alpha.
        config: Says how often.
        run: Where lines are written; None in processes that write nothing.

    Attributes:
        branches: What was seen, by name.
        lines: How many were written.
    """

    def __init__(self, shape: torch.Size, config: UnasConfig, run: Run | None) -> None:
        self.branches = {"task": BranchStatistics(shape), "latency": BranchStatistics(shape)}
        self.config, self.run, self.lines = config, run, 0

    def add(self, number: int, **gradients_GK: Tensor) -> None:
        """The branches' gradients at step ``number``."""
        for name, gradient_GK in gradients_GK.items():
            self.branches[name].add(gradient_GK)
        if (number + 1) % self.config.diagnose_every == 0:
            line = {name: branch.report() for name, branch in self.branches.items()}
            if self.run:
                self.run.append(GRADIENTS, {"step": number + 1, "estimator": self.config.estimator, **line})
            self.lines += 1
