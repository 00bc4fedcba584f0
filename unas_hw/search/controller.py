"""An LSTM that writes architectures choice by choice, and REINFORCE that teaches it.

Hsu et al., "MONAS: Multi-Objective Neural Architecture Search using Reinforcement Learning" (arXiv 1806.10332): the
first input is a zero vector, each further one the choice before it, one-hot. A softmax of its own per decision, pruned
choices and a condition are ours. Shape letters: B samples, G decisions, K choices (padded to the longest decision).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from unas_hw.optimizer_state import from_tensors, to_tensors, under

SPREAD = 4.0
"""Conditions go from minus to plus this: beside what the LSTM says, numbers from 0 to 1 would be learnt last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSample:
    """B architectures.

    Attributes:
        choice: ``(B, G)``, index of the choice of every decision.
        log_prob: ``(B,)``, of ``choice``; differentiable.
        entropy: ``(B,)`` in nats, the sum of the entropies of the softmaxes on the way; differentiable.
    """

    choice: Tensor
    log_prob: Tensor
    entropy: Tensor

    def paths(self) -> list[tuple[int, ...]]:
        """The choices as tuples of indices, one per sample."""
        return [tuple(row) for row in self.choice.tolist()]


@final
class Controller(nn.Module):
    """An autoregressive distribution over architectures; uniform at first.

    Weights are drawn with torch's own random numbers: seed those to repeat them.

    Args:
        choices: Number of choices per decision.
        hidden: Width of the LSTM.
        condition: Numbers from 0 to 1 that every step sees beside the last choice, and every softmax itself, such as
            the weight of an objective.
        softening: Share of every softmax that is uniform over the allowed choices, so that none dies out.
    """

    there: Tensor

    def __init__(self, choices: Sequence[int], *, hidden: int = 64, condition: int = 0, softening: float = 0.0) -> None:
        super().__init__()
        self.choices, self.condition, self.softening = tuple(choices), condition, softening
        longest = max(choices)
        self.cell = nn.LSTMCell(longest + condition, hidden, dtype=torch.float64)
        self.heads = nn.ModuleList(nn.Linear(hidden + condition, longest, dtype=torch.float64) for _ in choices)
        for parameter in self.heads.parameters():
            nn.init.zeros_(parameter)
        self.register_buffer("there", torch.arange(longest) < torch.tensor(self.choices)[:, None], persistent=False)

    def sample(
        self,
        count: int,
        generator: torch.Generator | None = None,
        condition: Tensor | None = None,
        masks: Sequence[Tensor] | None = None,
        softening: Tensor | None = None,
    ) -> ControllerSample:
        """Draws architectures.

        Args:
            count: B.
            generator: Source of randomness; torch's own by default.
            condition: ``(B, condition)``.
            masks: Per decision which of its choices are allowed, ``(K,)`` or without the padding; all by default.
                The others have probability 0.
            softening: ``(B,)``, in the place of the controller's own.
        """

        def choose(g: int, log_q: Tensor) -> Tensor:
            return torch.multinomial(log_q.exp(), 1, generator=generator)[:, 0]

        return self._write(count, choose, condition, masks, softening)

    def log_prob(
        self, choice_BG: Tensor, condition: Tensor | None = None, masks: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """``(B,)`` log-probabilities of architectures and ``(B,)`` entropies on the way, as of a sample of them."""
        found = self._write(len(choice_BG), lambda g, log_q: choice_BG[:, g], condition, masks)
        return found.log_prob, found.entropy

    @torch.no_grad()
    def mode(self, condition: Tensor | None = None, masks: Sequence[Tensor] | None = None) -> tuple[int, ...]:
        """The most probable choice at every step; ``condition``: ``(1, condition)``."""
        return self._write(1, lambda g, log_q: log_q.argmax(1), condition, masks).paths()[0]

    def _write(
        self,
        count: int,
        choose: Callable[[int, Tensor], Tensor],
        condition: Tensor | None,
        masks: Sequence[Tensor] | None,
        softening: Tensor | None = None,
    ) -> ControllerSample:
        """Decision by decision, from what ``choose`` makes of its number and its ``(B, K)`` log-probabilities."""
        longest = self.there.shape[1]
        given = torch.zeros(count, 0) if condition is None else condition
        assert given.shape == (count, self.condition)
        given = SPREAD * (2 * given.to(torch.float64) - 1)
        soft = torch.tensor([self.softening], dtype=torch.float64) if softening is None else softening
        last, state, chosen = torch.zeros(count, longest, dtype=torch.float64), None, list[Tensor]()
        log_prob, entropy = torch.zeros(2, count, dtype=torch.float64)
        for g, head in enumerate(self.heads):
            hidden, memory = self.cell(torch.cat([last, given], 1), state)
            allowed = self.there[g].clone()
            if masks is not None:
                allowed[: len(masks[g])] &= masks[g]
            log_q = torch.log_softmax(head(torch.cat([hidden, given], 1)).masked_fill(~allowed, -torch.inf), 1)
            if soft.any():
                q = (1 - soft[:, None]) * log_q.exp() + soft[:, None] * (allowed / allowed.sum())
                log_q = torch.where(allowed, q, 1.0).log().masked_fill(~allowed, -torch.inf)
            choice = choose(g, log_q.detach())
            log_prob = log_prob + log_q.gather(1, choice[:, None])[:, 0]
            entropy = entropy - (log_q.exp() * log_q.masked_fill(~allowed, 0.0)).sum(1)
            chosen.append(choice)
            last, state = one_hot(choice, longest).double(), (hidden, memory)
        return ControllerSample(choice=torch.stack(chosen, 1), log_prob=log_prob, entropy=entropy)


@final
class Reinforce:
    """Adam on ``-mean((r - b) log p) - entropy H``; b is a moving average of the rewards before this sample.

    A reward may be a weighted sum of parts, such as accuracy and energy, whose weights differ among samples: each part
    then has an average of its own, so that b fits the weights of every sample.

    Args:
        controller: What learns.
        lr: Of Adam.
        decay: Share of the old average that stays: ``b <- decay b + (1 - decay) r``. The first sample, before which
            there is nothing, has its own mean.
        entropy: Weight of the entropy, in units of the reward per nat.

    Attributes:
        baseline: ``(parts,)``, b; empty before the first step.
    """

    def __init__(self, controller: Controller, *, lr: float = 3e-3, decay: float = 0.9, entropy: float = 1e-3) -> None:
        self.controller, self.decay, self.entropy = controller, decay, entropy
        self.optimizer = torch.optim.Adam(controller.parameters(), lr)
        self.baseline = torch.zeros(0, dtype=torch.float64)

    def step(
        self,
        log_prob: Tensor,
        entropy: Tensor,
        reward: Tensor,
        weights: Tensor | None = None,
        *,
        further: Tensor | float = 0.0,
    ) -> None:
        """Learns from a sample.

        Args:
            log_prob: ``(B,)``, of the controller; differentiable, as the next.
            entropy: ``(B,)``.
            reward: ``(B,)``, higher is better; or its parts, ``(B, parts)`` ...
            weights: ... with the weights that they are summed with, ``(B, parts)``.
            further: A loss that is added.
        """
        parts = reward.detach().double().reshape(len(log_prob), -1)
        weights = torch.ones_like(parts) if weights is None else weights.double()
        mean = parts.mean(0)
        baseline = self.baseline if len(self.baseline) else mean
        advantage = ((parts - baseline) * weights).sum(1)
        loss = -(advantage * log_prob).mean() - self.entropy * entropy.mean() + further
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.baseline = self.decay * baseline + (1 - self.decay) * mean

    def state(self) -> dict[str, Tensor]:
        """All that changes, the controller's weights too, for checkpoints."""
        named = {f"controller.{name}": tensor for name, tensor in self.controller.state_dict().items()}
        return {**named, **to_tensors(self.optimizer, "adam"), "baseline": self.baseline}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of ``state``."""
        self.controller.load_state_dict(under(state, "controller"))
        from_tensors(self.optimizer, "adam", state)
        self.baseline = state["baseline"]
