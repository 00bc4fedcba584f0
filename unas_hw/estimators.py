"""Estimators of ``grad E[cost(z)]`` in the logits; each returns a scalar whose gradient is the estimate.

=============  ===========================================  =========================================
name           needs of the cost                            formula (UNAS, section 3; z choice, zeta relaxed)
=============  ===========================================  =========================================
``reinforce``  discrete                                     (L(z) - b) grad log p(z)
``gumbel``     relaxed                                      grad L(zeta); biased
``rebar``      discrete, relaxed (coupling ``rebar``)       (L(z) - L(zeta)) grad log p(z) + grad L(zeta) - grad c(z)
``exact``      discrete, expected                           grad E[f(table)] + (f(meas) - f(table) - b) grad log p(z)
=============  ===========================================  =========================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unas_hw.distribution import ArchitectureDistribution, ArchSample, Coupling
from unas_hw.errors import EstimatorError
from unas_hw.objectives import ObjectiveTerm


def reinforce_loss(sample: ArchSample, cost_B: Tensor, baseline: float | Tensor = 0.0) -> Tensor:
    """Score function; any baseline that does not depend on the sample leaves it unbiased (Williams 1992)."""
    return ((cost_B - baseline).detach() * sample.log_prob).mean()


def gumbel_loss(sample: ArchSample, relaxed_cost_B: Tensor) -> Tensor:
    """Reparametrised relaxation (SNAS); its expectation is the gradient of ``E[L(zeta)]``, not of ``E[L(z)]``."""
    del sample  # the cost carries its graph
    return relaxed_cost_B.mean()


def rebar_loss(sample: ArchSample, cost_B: Tensor, relaxed_cost_B: Tensor) -> Tensor:
    """UNAS: parts (i), (ii) and (iii) of its equation; the sample has to be drawn with coupling ``rebar``."""
    return reinforce_loss(sample, cost_B, relaxed_cost_B) + relaxed_cost_B.mean()


def exact_residual_loss(
    sample: ArchSample, expected: Tensor, cost_B: Tensor, table_cost_B: Tensor, baseline: float | Tensor = 0.0
) -> Tensor:
    """The table's expectation exactly, and REINFORCE for what it does not know; unbiased for any table."""
    return expected + reinforce_loss(sample, cost_B - table_cost_B, baseline)


class MovingAverage:
    """REINFORCE's baseline: a moving average of the costs before this sample.

    Attributes:
        value: The average; zero at first.
        keep: Share of the old value that stays.
    """

    def __init__(self, value: float = 0.0, keep: float = 0.9) -> None:
        self.value = value
        self.keep = keep

    def loss(self, sample: ArchSample, cost_B: Tensor) -> Tensor:
        """REINFORCE with the average of earlier samples, which then learns of this one."""
        loss = reinforce_loss(sample, cost_B, self.value)
        self.value = self.keep * self.value + (1 - self.keep) * float(cost_B.detach().mean())
        return loss


@dataclass(frozen=True)
class Estimator:
    """A named estimator.

    Attributes:
        name: As in ``--estimator``.
        needs: What it asks of an objective: ``discrete``, ``relaxed``, ``expected``.
        coupling: How its samples are drawn.
        loss: Scalar whose gradient is the estimate.
    """

    name: str
    needs: frozenset[str]
    coupling: Coupling
    loss: Callable[[ArchSample, ObjectiveTerm, ArchitectureDistribution, MovingAverage], Tensor]


def _reinforce(sample: ArchSample, term: ObjectiveTerm, _: ArchitectureDistribution, baseline: MovingAverage) -> Tensor:
    return baseline.loss(sample, term.discrete(sample))


def _gumbel(sample: ArchSample, term: ObjectiveTerm, _: ArchitectureDistribution, __: MovingAverage) -> Tensor:
    return gumbel_loss(sample, term.relaxed(sample))


def _rebar(sample: ArchSample, term: ObjectiveTerm, _: ArchitectureDistribution, __: MovingAverage) -> Tensor:
    return rebar_loss(sample, term.discrete(sample), term.relaxed(sample))


def _exact(
    sample: ArchSample, term: ObjectiveTerm, distribution: ArchitectureDistribution, baseline: MovingAverage
) -> Tensor:
    residual = term.discrete(sample) - term.table(sample)
    return term.expected(distribution) + baseline.loss(sample, residual)


ESTIMATORS = {
    estimator.name: estimator
    for estimator in (
        Estimator("reinforce", frozenset({"discrete"}), "gumbel", _reinforce),
        Estimator("gumbel", frozenset({"relaxed"}), "gumbel", _gumbel),
        Estimator("rebar", frozenset({"discrete", "relaxed"}), "rebar", _rebar),
        Estimator("exact", frozenset({"discrete", "expected"}), "gumbel", _exact),
    )
}


def find_estimator(name: str, term: ObjectiveTerm) -> Estimator:
    """The estimator of that name; raises ``EstimatorError`` if it cannot work with this objective."""
    able = [estimator.name for estimator in ESTIMATORS.values() if estimator.needs <= term.gives]
    if name not in ESTIMATORS:
        raise EstimatorError(f"no estimator is called {name!r}", mend=f"choose one of {', '.join(able)}")
    lacking = ESTIMATORS[name].needs - term.gives
    if lacking:
        raise EstimatorError(
            f"estimator {name!r} needs the {', '.join(sorted(lacking))} value of {term.name}, which does not exist",
            mend=f"for {term.name} choose one of {', '.join(able)}",
        )
    return ESTIMATORS[name]


def exact_gradient(distribution: ArchitectureDistribution, cost: Callable[[Tensor], Tensor]) -> Tensor:
    """``(G, K)`` gradient of ``E[cost(z)]`` by enumeration, for spaces small enough; what estimators are held to.

    Args:
        distribution: Over at most some thousand architectures.
        cost: From choices ``(B, G)`` to costs ``(B,)``.
    """
    choices = torch.cartesian_prod(*(torch.arange(count) for count in distribution.choices))
    choices = choices.reshape(-1, len(distribution.choices))
    expected = (distribution.log_prob(choices).exp() * cost(choices)).sum()
    (gradient,) = torch.autograd.grad(expected, distribution.alpha)
    return gradient
