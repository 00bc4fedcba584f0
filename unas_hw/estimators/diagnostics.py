"""BranchStatistics: how biased and how noisy the gradient of one branch of the search is, from the steps themselves."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

KEEP = 0.99


class BranchStatistics:
    """Looks at every gradient, and reports on the last ones.

    Args:
        shape: ``(G, K)`` of the gradients.
    """

    def __init__(self, shape: torch.Size) -> None:
        self._long = torch.zeros(shape, dtype=torch.float64)
        self._steps = 0
        self._forget()

    def _forget(self) -> None:
        self._count, self._sum, self._squares = 0, torch.zeros_like(self._long), torch.zeros_like(self._long)

    def add(self, gradient_GK: Tensor) -> None:
        """One step's gradient."""
        self._steps += 1
        self._long += (gradient_GK - self._long) * max(1 - KEEP, 1 / self._steps)
        self._count += 1
        self._sum += gradient_GK
        self._squares += gradient_GK.square()

    def report(self) -> dict[str, float]:
        """Since the last report: ``norm`` of the mean, ``variance`` of one step's gradient, summed over all logits, and
        ``cosine`` between the mean and the average over the last hundred steps: far from one, they are noise or drift.
        """
        mean = self._sum / max(self._count, 1)
        variance = (self._squares / max(self._count, 1) - mean.square()) * self._count / max(self._count - 1, 1)
        cosine = cosine_similarity(mean.flatten(), self._long.flatten(), dim=0)
        self._forget()
        return {"norm": float(mean.norm()), "variance": float(variance.sum()), "cosine": float(cosine.clamp(-1, 1))}

    def state(self) -> dict[str, Tensor]:
        """For checkpoints."""
        counts = torch.tensor([self._steps, self._count])
        return {"long": self._long, "sum": self._sum, "squares": self._squares, "counts": counts}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of ``state``."""
        self._long, self._sum, self._squares = (state[name].clone() for name in ("long", "sum", "squares"))
        self._steps, self._count = state["counts"].tolist()
