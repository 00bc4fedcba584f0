"""What a search minimises: task loss with generalization gap, and the latency's excess over the budget."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from unas_hw.distribution import ArchitectureDistribution, ArchSample
from unas_hw.latency_model import LatencyModel
from unas_hw.supernet import Path, Supernet

Gap = Literal["means", "elementwise"]


class ObjectiveTerm(ABC):
    """One term of the objective; it says which values it can give, an estimator which it needs.

    Attributes:
        name: For messages.
        gives: Of ``discrete``, ``relaxed``, ``expected``.
    """

    name: ClassVar[str]
    gives: ClassVar[frozenset[str]]

    @abstractmethod
    def discrete(self, sample: ArchSample) -> Tensor:
        """``(B,)`` cost of the choices z."""

    def relaxed(self, sample: ArchSample) -> Tensor:
        """``(B,)`` cost of the relaxations zeta, differentiable in the logits."""
        raise TypeError(f"{self.name} has no relaxed value")

    def expected(self, distribution: ArchitectureDistribution) -> Tensor:
        """Exact expectation of what the table knows of the cost, differentiable in the logits."""
        raise TypeError(f"{self.name} has no expected value")

    def table(self, sample: ArchSample) -> Tensor:
        """``(B,)`` what the table says of the choices; ``expected`` is its expectation."""
        raise TypeError(f"{self.name} has no table")


@dataclass(frozen=True)
class Batch:
    """Images ``(N, C, H, W)`` and labels ``(N,)``."""

    x: Tensor
    y: Tensor


@final
class TaskLoss(ObjectiveTerm):
    """``L_train + lam * |L_val - L_train|``: cross entropy with the generalization gap (UNAS, equation 3).

    Args:
        supernet: Shared weights.
        gap_weight: lam, 0.5 as published; 0 leaves the validation batch unused.
        gap: ``means``: difference of the means, as the text says. ``elementwise``: mean of the differences of
            unrelated samples, as the released program does; it is positive even for equal distributions.
    """

    name = "the task loss"
    gives = frozenset({"discrete", "relaxed"})

    def __init__(self, supernet: Supernet, *, gap_weight: float, gap: Gap) -> None:
        self.supernet = supernet
        self.gap_weight = gap_weight
        self.gap = gap
        self._weights = list(supernet.parameters())
        self._batches: tuple[Batch, Batch] | None = None

    def set_batches(self, train: Batch, valid: Batch) -> None:
        """What the next values are computed on."""
        self._batches = train, valid

    @property
    def batches(self) -> tuple[Batch, Batch]:
        """Training and validation batch; ``set_batches`` comes first."""
        assert self._batches is not None
        return self._batches

    def _losses(self, path: Path, batch: Batch) -> Tensor:
        return cross_entropy(self.supernet(batch.x, path), batch.y, reduction="none")

    def _gap(self, train: Tensor, valid: Tensor) -> Tensor:
        if self.gap == "means":
            return (valid.mean() - train.mean()).abs()
        count = min(len(train), len(valid))
        return (valid[:count] - train[:count]).abs().mean()

    @torch.no_grad()
    def discrete(self, sample: ArchSample) -> Tensor:
        train_batch, valid_batch = self.batches
        costs = []
        for path in sample.paths():
            train = self._losses(path, train_batch)
            cost = train.mean()
            if self.gap_weight:
                cost = cost + self.gap_weight * self._gap(train, self._losses(path, valid_batch))
            costs.append(cost)
        return torch.stack(costs).double()

    def relaxed(self, sample: ArchSample) -> Tensor:
        """As promised, and the gradients of ``L_train`` in the weights are added to their ``.grad``.

        ``min_w L_train(w, zeta)`` needs the same pass, and the published order (alpha first, then w on the same
        batch) changes neither expectation; one backward pass serves both.
        """
        return torch.stack([self._relaxed(zeta, 1 / len(sample.relaxed)) for zeta in sample.relaxed])

    def _relaxed(self, zeta_GK: Tensor, share: float) -> Tensor:
        train_batch, valid_batch = self.batches
        leaf = zeta_GK.detach().float().requires_grad_()
        train = self._losses(leaf, train_batch)
        cost = train.mean()
        if not self.gap_weight:
            leaf_grad, *weight_grads = torch.autograd.grad(cost, [leaf, *self._weights])
        elif self.gap == "means":
            valid = self._losses(leaf, valid_batch).mean()
            lam = self.gap_weight * torch.sign(valid.detach() - cost.detach())
            train_grad, *weight_grads = torch.autograd.grad(cost, [leaf, *self._weights])
            (valid_grad,) = torch.autograd.grad(valid, leaf)
            leaf_grad = (1 - lam) * train_grad + lam * valid_grad
            cost = cost + lam * (valid - cost)
        else:
            cost = cost + self.gap_weight * self._gap(train, self._losses(leaf, valid_batch))
            (leaf_grad,) = torch.autograd.grad(cost, leaf, retain_graph=True)
            weight_grads = list(torch.autograd.grad(train.mean(), self._weights))
        self._add_to_weights(weight_grads, share)
        # The value of the cost, with its gradient in zeta: what lies between them is differentiated already.
        return cost.detach().double() + ((zeta_GK - zeta_GK.detach()) * leaf_grad).sum()

    def train_weights(self, sample: ArchSample) -> None:
        """Adds the gradients of the choices' ``L_train``; for estimators that run no relaxation."""
        for path in sample.paths():
            loss = self._losses(path, self.batches[0]).mean()
            grads = torch.autograd.grad(loss, self._weights, allow_unused=True)
            self._add_to_weights(grads, 1 / len(sample.choice))

    def _add_to_weights(self, grads: Sequence[Tensor | None], share: float) -> None:
        for weight, grad in zip(self._weights, grads, strict=True):
            if grad is not None:
                weight.grad = grad * share if weight.grad is None else weight.grad + grad * share


@final
class LatencyExcess(ObjectiveTerm):
    """``max(0, latency / T - 1)``: relative to the budget, so that one weight serves a phone and a GPU.

    Args:
        model: The table's latency of architectures.
        budget_ms: T.
        measure: Measured latency in milliseconds of a choice, at the table's speed; feeds the residual.
    """

    name = "the latency excess"
    gives = frozenset({"discrete", "expected"})

    def __init__(self, model: LatencyModel, budget_ms: float, measure: Callable[[tuple[int, ...]], float]) -> None:
        self.model = model
        self.budget_ms = budget_ms
        self.measure = measure

    def _excess(self, latencies_ms: Sequence[float]) -> Tensor:
        return (torch.tensor(latencies_ms, dtype=torch.float64) / self.budget_ms - 1).clamp_min(0)

    def discrete(self, sample: ArchSample) -> Tensor:
        return self._excess([self.measure(path) for path in sample.paths()])

    def table(self, sample: ArchSample) -> Tensor:
        return self._excess([self.model.latency_ms(path) for path in sample.paths()])

    def expected(self, distribution: ArchitectureDistribution) -> Tensor:
        return self.model.distribution(distribution.probs()).hinge(self.budget_ms)
