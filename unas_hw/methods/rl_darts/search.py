"""RL-DARTS: a DARTS supernet is the encoder of an agent that plays; alpha learns from its loss like the weights.

Source: RL-DARTS (arXiv 2106.02229). There is no bilevel split and no validation part: one optimiser, one loss. Then
``zero`` is forbidden, an edge's operation is its most probable one, and a node keeps the two edges that are most
probable by it: the most probable network of the space, if a node's choices are as probable as their edges together.
Under a latency budget it is the most probable one within it, and while searching a hinge on the exact expectation of
the table latency, with a dual variable, is added to the loss; both are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, final

import torch
from torch import Tensor

from unas_hw.budget import Multiplier
from unas_hw.latency_model import LatencyModel
from unas_hw.methods.rl_darts.config import RlDartsConfig
from unas_hw.methods.rl_darts.ppo import Ppo
from unas_hw.optimizer_state import under
from unas_hw.spaces.impala import Edge, ImpalaSpace
from unas_hw.tasks import Environments


@final
class RlDarts:
    """One search, which can be stopped after any update and go on bit for bit.

    Args:
        space: Of the cells.
        environments: That the supernet plays in.
        config: Hyper-parameters.
        seed: Of everything random.
        model: Prices the cells.
        aim_ms: Latency that their expectation is to stay below; any by default.
        device: Of the supernet.
    """

    def __init__(
        self,
        space: ImpalaSpace,
        environments: Environments,
        config: RlDartsConfig,
        seed: int,
        model: LatencyModel,
        aim_ms: float | None = None,
        device: str = "cpu",
    ) -> None:
        self.model, self.aim_ms = model, aim_ms
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor, self.alpha = space.mixed()
        self.actor.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
        self.multiplier = Multiplier(config.multiplier_rate)
        self.space = space
        weights = [weight for weight in self.actor.parameters() if weight is not self.alpha]
        groups = [{"params": weights, "lr": config.lr}, {"params": [self.alpha], "lr": config.alpha_lr}]
        optimizer = torch.optim.Adam(groups, eps=1e-5)
        penalty = self._penalty if aim_ms is not None else None
        self.ppo = Ppo(self.actor, optimizer, environments, config, seed, penalty)

    def log_probs(self) -> list[Tensor]:
        """Of each node's choices, see ``choice_log_probs``."""
        return choice_log_probs(self.space, self.alpha)

    def _penalty(self) -> Tensor:
        """The multiplier times the expected excess over the budget, as a share of it; then a step of dual ascent."""
        assert self.aim_ms is not None
        latency = self.model.distribution([each.exp().double().cpu() for each in self.log_probs()])
        excess: Tensor = self.multiplier.value * latency.hinge(self.aim_ms)
        self.multiplier.step(float(latency.expectation().detach()), self.aim_ms)
        return excess.float().to(self.alpha.device)

    def updates(self) -> Iterator[dict[str, Any]]:
        """As ``Ppo.updates``, with ``alpha_entropy`` (1 for uniform, of all edges), ``multiplier``, ``expected_ms``."""
        for told in self.ppo.updates():
            with torch.no_grad():
                p_EO = self.alpha.softmax(1)
                entropy = -(p_EO * p_EO.clamp_min(1e-12).log()).sum(1).mean() / math.log(p_EO.shape[1])
                expected_ms = self.model.distribution([each.exp().double().cpu() for each in self.log_probs()])
            yield {
                **told,
                "alpha_entropy": float(entropy),
                "multiplier": self.multiplier.value,
                "expected_ms": float(expected_ms.expectation()),
            }

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain values."""
        tensors, scalars = self.ppo.state()
        tensors |= {f"actor.{name}": each for name, each in self.actor.state_dict().items()}
        return tensors, {**scalars, "multiplier": self.multiplier.value}

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """The inverse of ``state``."""
        self.actor.load_state_dict(under(tensors, "actor"))
        self.multiplier.value = scalars["multiplier"]
        self.ppo.restore(tensors, scalars)


def choice_log_probs(space: ImpalaSpace, alpha_EO: Tensor) -> list[Tensor]:
    """Of each node's choices ``(K,)``: the product of their edges' probabilities, made to sum to one."""
    log_p = alpha_EO.log_softmax(1).flatten()
    return [log_p[_edges(choices, space.ops)].sum(1).log_softmax(0) for choices in space.edges]


@cache
def _edges(choices: tuple[tuple[Edge, ...], ...], ops: tuple[str, ...]) -> Tensor:
    """``(K, 1 or 2)``: of each choice of a node where its edges are among all logits, one after another."""
    node = len({source for choice in choices for _, source in choice})
    first, width = node * (node - 1) // 2, len(ops) + 1
    return torch.tensor([[(first + source) * width + ops.index(op) for op, source in choice] for choice in choices])
