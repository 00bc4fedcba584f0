"""TaskLoss: cross entropy of the networks on training and validation images, with the generalization gap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Literal, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from unas_hw.data import Batch
from unas_hw.distributed import ALONE, Ranks
from unas_hw.distribution import ArchSample
from unas_hw.objectives.base import ObjectiveTerm
from unas_hw.supernet import Path, Supernet

Gap = Literal["means", "elementwise"]
LossOn = Literal["train", "valid"]
PERTURBATION = 0.01
"""Norm of the change of the weights by which second-order DARTS takes a finite difference (its section 2.3)."""
SMALLEST = 0.5
"""Chance of a step to teach the smallest network too: at every step it would take more time, and rank no better."""


@final
class TaskLoss(ObjectiveTerm):
    """``L_train + lam * |L_val - L_train|`` (UNAS, equation 3), or ``L_val`` alone (DARTS and its kin).

    B architectures share a step: each sees its part of the batch, one B-th. UNAS has one per minibatch for ImageNet and
    one per image for CIFAR; B is between.

    Args:
        supernet: Shared weights.
        gap_weight: lam, 0.5 as published; 0 leaves the validation batch unused.
        gap: ``means``: difference of the means, as the text says. ``elementwise``: mean of the differences of
            unrelated samples, as the released program does; it is positive even for equal distributions.
        loss_on: ``valid``: ``L_val`` is the cost, and weights still learn from ``L_train``; there is no gap then.
        duplicates: ``(G, K)`` relaxation to the number of pairs of equal edges, R(z); None where the space has none.
        duplicates_weight: lam_a, 0.2 as published for the DARTS space.
        before_pass: Called with a sample's place before its networks run: what is random in them follows from it.
        ends: The largest and the smallest network, where weights learn by the sandwich rule; else None.
        ranks: Processes that share the B architectures among them.

    Attributes:
        value: Mean cost of the last step, relaxed where that was computed.
        w_lr: Rate of the weights' step that second-order DARTS looks through.
    """

    name = "the task loss"
    gives = frozenset({"discrete", "relaxed", "unrolled"})

    def __init__(
        self,
        supernet: Supernet,
        *,
        gap_weight: float,
        gap: Gap,
        loss_on: LossOn = "train",
        duplicates: Callable[[Tensor], Tensor] | None = None,
        duplicates_weight: float = 0.0,
        before_pass: Callable[[int], None] = lambda place: None,
        ends: tuple[Path, Path] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.supernet = supernet
        self.gap_weight = gap_weight if loss_on == "train" else 0.0
        self.gap = gap
        self.loss_on = loss_on
        self.duplicates = duplicates if duplicates_weight else None
        self.duplicates_weight = duplicates_weight
        self.before_pass = before_pass
        self.ends = ends
        self.ranks = ranks
        self.value = 0.0
        self.w_lr = 0.0
        self._weights = list(supernet.parameters())
        self._batches: tuple[Batch, Batch] | None = None
        self._taught: ArchSample | None = None
        self._known: dict[int, Tensor] = {}

    def set_batches(self, train: Batch, valid: Batch) -> None:
        """What the next values are computed on."""
        self._batches = train, valid
        self._taught = None

    def batches(self, place: int, count: int) -> tuple[Batch, Batch]:
        """Training and validation images of sample ``place`` of ``count``; ``set_batches`` comes first."""
        assert self._batches is not None
        train, valid = self._batches
        return _part(train, place, count), _part(valid, place, count)

    def _losses(self, path: Path, batch: Batch) -> Tensor:
        return cross_entropy(self.supernet(batch.x, path), batch.y, reduction="none")

    def _gap(self, train: Tensor, valid: Tensor) -> Tensor:
        if self.gap == "means":
            return (valid.mean() - train.mean()).abs()
        count = min(len(train), len(valid))
        return (valid[:count] - train[:count]).abs().mean()

    def _duplicates(self, path_GK: Tensor) -> Tensor:
        return self.duplicates_weight * self.duplicates(path_GK) if self.duplicates else path_GK.new_zeros(())

    @torch.no_grad()
    def discrete(self, sample: ArchSample) -> Tensor:
        paths, cost_B = sample.paths(), torch.zeros(len(sample.choice), dtype=torch.float64)
        for place in self.ranks.mine(len(paths)):
            path = paths[place]
            self.before_pass(place)
            train_batch, valid_batch = self.batches(place, len(paths))
            if self.loss_on == "valid":
                cost = self._losses(path, valid_batch).mean()
            else:
                known = self._known.pop(place, None) if sample is self._taught else None
                train = self._losses(path, train_batch) if known is None else known
                cost = train.mean()
                if self.gap_weight:
                    cost = cost + self.gap_weight * self._gap(train, self._losses(path, valid_batch))
            onehot = one_hot(sample.choice[place], sample.relaxed.shape[-1]).double()
            cost_B[place] = cost.double() + self._duplicates(onehot)
        self.ranks.sum_([cost_B])
        self.value = float(cost_B.mean())
        return cost_B

    def relaxed(self, sample: ArchSample) -> Tensor:
        """As promised, and the gradients of ``L_train`` in the weights are added to their ``.grad``.

        ``min_w L_train(w, zeta)`` needs the same pass, and the published order (alpha first, then w on the same
        batch) changes neither expectation; one backward pass serves both.
        """
        return self._each(sample, self._relaxed)

    def unrolled(self, sample: ArchSample) -> Tensor:
        """``L_val(w - xi grad_w L_train(w, zeta), zeta)``, the weights as in ``relaxed``; xi is ``w_lr``.

        The second derivative is a finite difference of gradients, as published.
        """
        return self._each(sample, self._unrolled)

    def _each(self, sample: ArchSample, cost_of: Callable[[Tensor, int, int], tuple[Tensor, Tensor]]) -> Tensor:
        zeta_BGK = sample.relaxed
        cost_B, grad_BGK = zeta_BGK.new_zeros(len(zeta_BGK)), torch.zeros_like(zeta_BGK)
        for place in self.ranks.mine(len(zeta_BGK)):
            leaf = zeta_BGK[place].detach().to(self._weights[0]).requires_grad_()
            cost, leaf_grad = cost_of(leaf, place, len(zeta_BGK))
            cost_B[place], grad_BGK[place] = cost.detach(), leaf_grad
        self.ranks.sum_([cost_B, grad_BGK])
        # The value of the cost, with its gradient in zeta: what lies between them is differentiated already.
        cost_B = cost_B + ((zeta_BGK - zeta_BGK.detach()) * grad_BGK).sum((1, 2))
        cost_B = cost_B + torch.stack([self._duplicates(zeta_GK) for zeta_GK in zeta_BGK])
        self.value = float(cost_B.detach().mean())
        return cost_B

    def _relaxed(self, leaf: Tensor, place: int, count: int) -> tuple[Tensor, Tensor]:
        train_batch, valid_batch = self.batches(place, count)
        self.before_pass(place)
        if self.loss_on == "train" and self.gap == "elementwise" and self.gap_weight:
            train = self._losses(leaf, train_batch)
            cost = train.mean() + self.gap_weight * self._gap(train, self._losses(leaf, valid_batch))
            (leaf_grad,) = torch.autograd.grad(cost, leaf, retain_graph=True)
            if self.ends is None:
                self._add_to_weights(torch.autograd.grad(train.mean(), self._weights, allow_unused=True), 1 / count)
            return cost, leaf_grad
        # Each backward pass ends before the next forward pass begins: only one of them is in memory. Weights go unused
        # where fewer candidates than all are run; by the sandwich rule they learn from networks only.
        learning = self._weights if self.ends is None else []
        with nullcontext() if learning else self.supernet.frozen():
            cost = self._losses(leaf, train_batch).mean()
            leaf_grad, *weight_grads = torch.autograd.grad(cost, [leaf, *learning], allow_unused=True)
        if learning:
            self._add_to_weights(weight_grads, 1 / count)
        if self.loss_on == "train" and not self.gap_weight:
            return cost, leaf_grad
        with self.supernet.frozen():
            valid = self._losses(leaf, valid_batch).mean()
            (valid_grad,) = torch.autograd.grad(valid, leaf)
        lam = self.gap_weight * torch.sign(valid.detach() - cost.detach()) if self.loss_on == "train" else 1.0
        return cost + lam * (valid - cost), (1 - lam) * leaf_grad + lam * valid_grad

    def _unrolled(self, leaf: Tensor, place: int, count: int) -> tuple[Tensor, Tensor]:
        train_batch, valid_batch = self.batches(place, count)
        self.before_pass(place)

        def zeta_gradient() -> Tensor:
            self.before_pass(place)  # another dropout would drown the difference
            (found,) = torch.autograd.grad(self._losses(leaf, train_batch).mean(), leaf)
            return found

        weight_grads = torch.autograd.grad(
            self._losses(leaf, train_batch).mean(), self._weights, materialize_grads=True
        )
        if self.ends is None:
            self._add_to_weights(weight_grads, 1 / count)
        kept = [weight.detach().clone() for weight in self._weights]
        try:
            self._move(kept, weight_grads, -self.w_lr)
            cost = self._losses(leaf, valid_batch).mean()
            leaf_grad, *slopes = torch.autograd.grad(cost, [leaf, *self._weights], materialize_grads=True)
            norm = torch.stack([slope.square().sum() for slope in slopes]).sum().sqrt()
            step = float(PERTURBATION / norm.clamp_min(1e-12))
            self._move(kept, slopes, step)
            above = zeta_gradient()
            self._move(kept, slopes, -step)
            below = zeta_gradient()
        finally:
            self._move(kept, slopes=kept, step=0.0)
        return cost, leaf_grad - self.w_lr * (above - below) / (2 * step)

    @torch.no_grad()
    def _move(self, kept: Sequence[Tensor], slopes: Sequence[Tensor], step: float) -> None:
        for weight, old, slope in zip(self._weights, kept, slopes, strict=True):
            weight.copy_(old + step * slope)

    def train_weights(self, sample: ArchSample, *, relaxed: bool = False) -> None:
        """Adds the gradients of the choices' ``L_train``, or of their relaxations'; where no estimator does.

        The sandwich rule knows no relaxations. It comes to know ``L_train`` of the choices, which ``discrete`` of the
        same sample and images then does not compute again: the weights are not to change in between.
        """
        zeta_BGK = sample.relaxed.detach().to(self._weights[0])
        paths = zeta_BGK.unbind() if relaxed and self.ends is None else sample.paths()
        self._taught, self._known = sample, {}
        for place in self.ranks.mine(len(paths)):
            for loss in self._network_losses(paths[place], self.batches(place, len(paths))[0], place):
                self._add_to_weights(torch.autograd.grad(loss, self._weights, allow_unused=True), 1 / len(paths))

    def _network_losses(self, path: Path, batch: Batch, place: int) -> Iterator[Tensor]:
        """Of a network; by the sandwich rule first of the largest, whose softmax teaches the smallest and this one.

        Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques" (arXiv 1903.05134), but for the
        smallest, which is taught now and then only.
        """
        self.before_pass(place)
        if self.ends is None:
            yield self._losses(path, batch).mean()
            return
        largest, smallest = self.ends
        logits = self.supernet(batch.x, largest)
        taught = logits.detach().softmax(1)
        yield cross_entropy(logits, batch.y)
        if float(torch.rand(())) < SMALLEST:
            yield cross_entropy(self.supernet(batch.x, smallest), taught)
        self.before_pass(place)  # as ``discrete`` runs it
        logits = self.supernet(batch.x, path)
        self._known[place] = cross_entropy(logits.detach(), batch.y, reduction="none")
        yield cross_entropy(logits, taught)

    def _add_to_weights(self, grads: Sequence[Tensor | None], share: float) -> None:
        for weight, grad in zip(self._weights, grads, strict=True):
            if grad is not None:
                if weight.grad is None:
                    weight.grad = grad if share == 1 else grad * share
                else:
                    weight.grad.add_(grad, alpha=share)


def _part(batch: Batch, place: int, count: int) -> Batch:
    if count == 1:
        return batch
    return Batch(batch.x.tensor_split(count)[place], batch.y.tensor_split(count)[place])
