"""RELAX: REBAR whose control variate is a learned surrogate c_phi(zeta) of the cost, not the relaxed network; unbiased.

    g = (L(z) - c_phi(zeta)) grad log p(z) + grad c_phi(zeta) - grad c_phi(zeta_hat),    phi descends grad_phi E[|g|^2]

Source: Grathwohl et al., "Backpropagation through the Void", ICLR 2018 (arXiv 1711.00123). Only networks z are run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from unas_hw.distribution import TAU, ArchitectureDistribution, ArchSample
from unas_hw.estimators.base import Estimator
from unas_hw.estimators.rebar import rebar_loss
from unas_hw.objectives import ObjectiveTerm
from unas_hw.optimizer_state import from_tensors, to_tensors, under

WIDTH, RATE = 16, 0.01


@final
class Relax(Estimator):
    """The surrogate has one hidden layer, begins as zero (plain REINFORCE) and learns from every step."""

    name = "relax"
    needs = frozenset({"discrete"})
    coupling = "rebar"

    def __init__(self, tau: float = TAU, tau_end: float | None = None) -> None:
        super().__init__(tau, tau_end)
        self.surrogate: nn.Sequential | None = None  # until the first sample says how large it is
        self._loaded: Mapping[str, Tensor] = {}

    def _surrogate(self, inputs: int) -> nn.Sequential:
        if self.surrogate is None:
            hidden, out = nn.Linear(inputs, WIDTH, dtype=torch.float64), nn.Linear(WIDTH, 1, dtype=torch.float64)
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                hidden.weight.normal_(0, inputs**-0.5, generator=generator)
                for zero in (hidden.bias, out.weight, out.bias):
                    zero.zero_()
            self.surrogate = nn.Sequential(hidden, nn.Tanh(), out)
            self.optimizer = torch.optim.Adam(self.surrogate.parameters(), RATE)
            if self._loaded:
                self.surrogate.load_state_dict(under(self._loaded, "surrogate"))
                from_tensors(self.optimizer, "adam", self._loaded)
        return self.surrogate

    def loss(self, sample: ArchSample, term: ObjectiveTerm, distribution: ArchitectureDistribution) -> Tensor:
        surrogate = self._surrogate(distribution.alpha.numel())
        cost_B = term.discrete(sample)
        guessed_B = surrogate(sample.relaxed.flatten(1))[:, 0]
        score_GK = self._learn(sample, cost_B, guessed_B, distribution)
        # The surrogate has moved meanwhile: the value, with the gradient that was found before.
        alpha = distribution.alpha
        return rebar_loss(sample, cost_B, guessed_B).detach() + ((alpha - alpha.detach()) * score_GK).sum()

    def _learn(
        self, sample: ArchSample, cost_B: Tensor, guessed_B: Tensor, distribution: ArchitectureDistribution
    ) -> Tensor:
        """``(G, K)`` the estimate, and one step of phi down its variance."""
        assert self.surrogate is not None
        (score,) = torch.autograd.grad(
            ((cost_B - self.surrogate(sample.relaxed.detach().flatten(1))[:, 0]) * sample.log_prob).mean()
            + guessed_B.mean(),
            distribution.alpha,
            create_graph=True,
        )
        phi = list(self.surrogate.parameters())
        for parameter, slope in zip(phi, torch.autograd.grad((score**2).sum(), phi, retain_graph=True), strict=True):
            parameter.grad = slope
        self.optimizer.step()
        return score.detach()

    def state(self) -> dict[str, Tensor]:
        if self.surrogate is None:
            return dict(self._loaded)
        named = {f"surrogate.{name}": tensor for name, tensor in self.surrogate.state_dict().items()}
        return named | to_tensors(self.optimizer, "adam")

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._loaded, self.surrogate = state, None
