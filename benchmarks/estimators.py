"""Bias and variance of the estimators on spaces small enough to enumerate, with a cost that is not additive.

    python -m benchmarks.estimators

Per estimator: the largest deviation from the exact gradient in standard errors (below about 4 for an unbiased one),
and the total variance of the gradient of one sample.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.report import keep
from unas_hw.distribution import ArchitectureDistribution, ArchSample, Coupling
from unas_hw.estimators.base import exact_gradient
from unas_hw.estimators.rebar import rebar_loss
from unas_hw.estimators.reinforce import reinforce_loss
from unas_hw.estimators.table import exact_residual_loss

SAMPLES, CHUNK = 200_000, 2_000
SPACES = {"2 x 3": (3, 3), "3 x (2, 4, 3)": (2, 4, 3), "5 x 4": (4, 4, 4, 4, 4)}
EXPLAINED = 0.95


class Cost:
    """``table(z) + interaction(z)``; the table explains ``EXPLAINED`` of the variance under the distribution."""

    def __init__(self, choices: tuple[int, ...], distribution: ArchitectureDistribution, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        width = max(choices)
        self.table_GK = torch.rand(len(choices), width, generator=generator, dtype=torch.float64) * 3
        self.pair_GKK = torch.randn(len(choices) - 1, width, width, generator=generator, dtype=torch.float64)
        everything = torch.cartesian_prod(*(torch.arange(count) for count in choices))
        probs = distribution.log_prob(everything).exp().detach()
        onehot = torch.nn.functional.one_hot(everything, width).double()
        tables, pairs = self._table(onehot), self._pairs(onehot)

        def variance(x: Tensor) -> float:
            return float(probs @ (x - probs @ x) ** 2)

        self.pair_GKK *= (variance(tables) / variance(pairs) * (1 - EXPLAINED) / EXPLAINED) ** 0.5

    def _table(self, x_BGK: Tensor) -> Tensor:
        return (x_BGK * self.table_GK).sum((1, 2))

    def _pairs(self, x_BGK: Tensor) -> Tensor:
        return torch.einsum("bgk,gkl,bgl->b", x_BGK[:, :-1], self.pair_GKK, x_BGK[:, 1:])

    def __call__(self, x_BGK: Tensor) -> Tensor:
        """Cost of one-hot or relaxed architectures."""
        return self._table(x_BGK) + self._pairs(x_BGK)

    def of_choice(self, choice_BG: Tensor) -> Tensor:
        """Cost of choices."""
        return self(torch.nn.functional.one_hot(choice_BG, self.table_GK.shape[1]).double())

    def table_of_choice(self, choice_BG: Tensor) -> Tensor:
        """What the table knows of it."""
        return self._table(torch.nn.functional.one_hot(choice_BG, self.table_GK.shape[1]).double())


def loss(name: str, sample: ArchSample, cost: Cost, distribution: ArchitectureDistribution, mean: float) -> Tensor:
    """The estimator's loss, times the number of samples: gradients of single samples add up."""
    discrete = cost.of_choice(sample.choice)
    if name == "reinforce":
        return reinforce_loss(sample, discrete)
    if name == "reinforce + mean":
        return reinforce_loss(sample, discrete, mean)
    if name == "gumbel":
        return cost(sample.relaxed).mean()
    if name == "rebar":
        return rebar_loss(sample, discrete, cost(sample.relaxed))
    expected = sum((p @ t[: len(p)] for p, t in zip(distribution.probs(), cost.table_GK, strict=True)), torch.zeros(()))
    return exact_residual_loss(sample, expected, discrete, cost.table_of_choice(sample.choice))


def main() -> None:
    """All spaces, all estimators."""
    rows: list[dict[str, Any]] = []
    for space, choices in SPACES.items():
        distribution = ArchitectureDistribution(choices)
        with torch.no_grad():
            distribution.alpha.copy_(
                0.7 * torch.randn(distribution.alpha.shape, generator=torch.Generator().manual_seed(3))
            )
        cost = Cost(choices, distribution, seed=1)
        exact = exact_gradient(distribution, cost.of_choice)
        everything = torch.cartesian_prod(*(torch.arange(count) for count in choices))
        mean = float(distribution.log_prob(everything).exp().detach() @ cost.of_choice(everything))
        for name in ("reinforce", "reinforce + mean", "gumbel", "rebar", "exact + residual"):
            bias, variance = measure(name, cost, distribution, exact, mean)
            rows.append({"space": space, "estimator": name, "deviation_in_standard_errors": bias, "variance": variance})
            print(f"{space:<16} {name:<18} {bias:8.2f} standard errors off   variance {variance:10.4f}", flush=True)
    for space in SPACES:
        of = {row["estimator"]: row["variance"] for row in rows if row["space"] == space}
        print(f"{space:<16} rebar / (exact + residual) variance: {of['rebar'] / of['exact + residual']:.1f}")
    keep("estimators", {"samples": SAMPLES, "explained_by_table": EXPLAINED, "rows": rows})


def measure(
    name: str, cost: Cost, distribution: ArchitectureDistribution, exact: Tensor, mean: float
) -> tuple[float, float]:
    """Largest deviation of the mean gradient in standard errors, and the summed variance of one sample's gradient."""
    generator = torch.Generator().manual_seed(0)
    total, squares, count = torch.zeros_like(exact), torch.zeros_like(exact), 0
    coupling: Coupling = "rebar" if name == "rebar" else "gumbel"
    # Single samples for the variance, in as many passes as an interval of a few percent needs ...
    for _ in range(4_000):
        sample = distribution.sample(1, generator=generator, coupling=coupling)
        (gradient,) = torch.autograd.grad(loss(name, sample, cost, distribution, mean), distribution.alpha)
        total, squares, count = total + gradient, squares + gradient**2, count + 1
    variance = (squares / count - (total / count) ** 2) * count / (count - 1)
    # ... and chunks for the mean.
    chunks = []
    for _ in range(SAMPLES // CHUNK):
        sample = distribution.sample(CHUNK, generator=generator, coupling=coupling)
        chunks.append(torch.autograd.grad(loss(name, sample, cost, distribution, mean), distribution.alpha)[0])
    stack = torch.stack(chunks)
    error = stack.std(0) / len(chunks) ** 0.5
    real = distribution.mask & (error > 0)
    deviation = ((stack.mean(0) - exact).abs() / error)[real].max() if bool(real.any()) else torch.zeros(())
    return float(deviation), float(variance[distribution.mask].sum())


if __name__ == "__main__":
    main()
