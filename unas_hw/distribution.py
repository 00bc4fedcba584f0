"""The distribution over architectures, and samples whose choice, relaxation and log-probability belong together.

Shape letters: B samples, G decisions, K choices (padded to the longest decision).
Source: UNAS (arXiv 1912.07651), section 3; REBAR (Tucker et al. 2017), appendix C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

TAU = 0.4
"""Temperature of the relaxation, as published; fixed."""
CLAMP = 1e-6
"""Keeps uniform numbers off 0 and 1. Published is 1e-3, which moves probabilities by as much; doubles need no more."""
Coupling = Literal["gumbel", "rebar"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchSample:
    """B architectures.

    Attributes:
        choice: ``(B, G)``, index of the choice of every decision: z.
        relaxed: ``(B, G, K)``, on the simplex: zeta; differentiable in the logits, zero where a decision has no
            such choice.
        log_prob: ``(B,)``, of ``choice`` under the logits it was drawn from; differentiable.
    """

    choice: Tensor
    relaxed: Tensor
    log_prob: Tensor

    def paths(self) -> list[tuple[int, ...]]:
        """The choices as tuples of indices, one per sample."""
        return [tuple(row) for row in self.choice.tolist()]


@final
class ArchitectureDistribution(nn.Module):
    """Independent categorical decisions, ``z_g ~ Cat(q_g)`` with ``q_g = softmax(alpha_g)``, alpha = 0 at first.

    Args:
        choices: Number of choices per decision.
        softening: eps of ``a = log(softmax(alpha) + eps)``; keeps every choice alive while searching.

    Attributes:
        tilts: ``(G, K)`` by name, which are taken from alpha: what budgets ask for. No parameters.
    """

    mask: Tensor

    def __init__(self, choices: Sequence[int], *, softening: float = 0.0) -> None:
        super().__init__()
        self.choices = tuple(choices)
        self.softening = softening
        self.tilts: dict[str, Tensor] = {}
        self.alpha = nn.Parameter(torch.zeros(len(choices), max(choices), dtype=torch.float64))
        self.register_buffer("mask", torch.arange(max(choices)) < torch.tensor(self.choices)[:, None], persistent=False)

    def log_q(self) -> Tensor:
        """``(G, K)`` log-probabilities; minus infinity where a decision has no such choice."""
        alpha = self.alpha - sum(self.tilts.values()) if self.tilts else self.alpha
        alpha = alpha.masked_fill(~self.mask, -torch.inf)
        if self.softening == 0:
            return torch.log_softmax(alpha, 1)
        softened = torch.softmax(alpha, 1) + self.softening
        return torch.log_softmax(torch.log(softened).masked_fill(~self.mask, -torch.inf), 1)

    def probs(self) -> list[Tensor]:
        """One ``(K,)`` tensor per decision, without padding; differentiable."""
        q = self.log_q().exp()
        return [row[:count] for row, count in zip(q, self.choices, strict=True)]

    def mode(self) -> tuple[int, ...]:
        """The most probable architecture."""
        return tuple(self.log_q().argmax(1).tolist())

    def entropy(self) -> Tensor:
        """In nats, of the whole architecture."""
        log_q = self.log_q()
        return -(log_q.exp() * log_q.masked_fill(~self.mask, 0.0)).sum()

    def log_prob(self, choice_BG: Tensor) -> Tensor:
        """``(B,)`` log-probability of architectures."""
        return self.log_q().expand(len(choice_BG), -1, -1).gather(2, choice_BG[:, :, None]).sum((1, 2))

    def sample(
        self, count: int, *, generator: torch.Generator | None = None, tau: float = TAU, coupling: Coupling = "rebar"
    ) -> ArchSample:
        """Independent architectures, each with a relaxation that shares its noise.

        Args:
            count: B.
            generator: Source of the noise; torch's own by default.
            tau: Temperature.
            coupling: ``gumbel``: zeta = softmax(g / tau), reparametrised. ``rebar``: the same value; its gradient
                has the correction ``- grad E[c(z)]`` of the control variate added (UNAS, equation (ii) + (iii)).
        """
        u = torch.rand(count, *self.alpha.shape, dtype=torch.float64, generator=generator).clamp(CLAMP, 1 - CLAMP)
        log_q = self.log_q().masked_fill(~self.mask, -1e9)  # finite, so that no gradient is NaN
        g = log_q - torch.log(-torch.log(u))
        choice = g.argmax(2)
        zeta = torch.softmax(g / tau, 2)
        if coupling == "rebar":
            zeta_hat = torch.softmax(self._conditional(log_q, u, choice) / tau, 2)
            zeta = zeta - zeta_hat + zeta_hat.detach()
        return ArchSample(choice=choice, relaxed=zeta, log_prob=self.log_prob(choice))

    def _conditional(self, log_q_GK: Tensor, u_BGK: Tensor, choice_BG: Tensor) -> Tensor:
        """Gumbels given the choice, equal in value to those it was drawn with; the gradient flows through q only."""
        q = log_q_GK.exp().clamp_min(1e-30)
        chosen = torch.nn.functional.one_hot(choice_BG, q.shape[1]).bool()
        k = choice_BG[:, :, None]
        with torch.no_grad():
            log_v_k = u_BGK.gather(2, k).log() / q.expand_as(u_BGK).gather(2, k)
            log_v = u_BGK.log() - q * log_v_k
        others = -torch.log((-log_v / q - log_v_k).clamp_min(1e-300))
        h = torch.where(chosen, -torch.log(-log_v_k), others)
        return h.masked_fill(~self.mask, -1e9)
