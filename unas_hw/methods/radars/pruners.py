"""Pruner: learns by REINFORCE which candidates are worth their memory, in the two readings of RADARS."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from unas_hw.methods.radars.config import RadarsConfig
from unas_hw.methods.radars.footprint import Numbers
from unas_hw.search.controller import Controller, ControllerSample, Reinforce
from unas_hw.search.selection import Path
from unas_hw.spaces.subspace import Kept

DRAWS = 256
"""Random draws that a candidate's worth is counted in."""
Fit = Callable[[Kept, Numbers], Kept]
"""From what is left and the worth of candidates to a part of it within the memory bound."""


class Pruner(ABC):
    """Learns which candidates are worth their memory.

    Args:
        choices: Of each decision of the whole space.
        config: Hyper-parameters.
        seed: Of the controller's weights.
    """

    def __init__(self, choices: Sequence[int], config: RadarsConfig, seed: int) -> None:
        self.choices, self.config = tuple(choices), config
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            controller = Controller(self._actions(), hidden=config.hidden)
        self.reinforce = Reinforce(controller, lr=config.controller_lr, decay=config.decay, entropy=config.entropy)
        self._sample: ControllerSample | None = None

    @property
    def controller(self) -> Controller:
        return self.reinforce.controller

    @abstractmethod
    def _actions(self) -> Sequence[int]:
        """Choices of each of the controller's decisions."""

    @abstractmethod
    def draw(self, kept: Kept, generator: torch.Generator) -> list[list[Path]]:
        """Networks of what is left for each child of an episode, whose mean reward is its own."""

    def learn(self, rewards: Sequence[float]) -> None:
        """Takes up the rewards of the children that were drawn last."""
        assert self._sample is not None
        reward = torch.tensor(rewards, dtype=torch.float64)
        self.reinforce.step(self._sample.log_prob, self._sample.entropy, reward)

    @abstractmethod
    def worth(self, kept: Kept, episodes: Sequence[Mapping[str, Any]], generator: torch.Generator) -> Numbers:
        """``(G, K)``, 0 to 1: how likely each candidate is wanted; ``episodes`` are all so far, as in the journal."""

    def _masks(self, kept: Kept) -> list[Tensor]:
        masks = [torch.zeros(count, dtype=torch.bool) for count in self.choices]
        for mask, each in zip(masks, kept, strict=True):
            mask[list(each)] = True
        return masks


@final
class ChildPruner(Pruner):
    """Children are networks; a candidate is worth the chance that it is the best of its decision.

    What children of so many episodes tell: a linear regression of ``reward - baseline`` on the choices, Bayesian, as if
    chance explained half of what is seen; of draws of its coefficients it is counted which candidate is the best.
    """

    def _actions(self) -> Sequence[int]:
        return self.choices

    def draw(self, kept: Kept, generator: torch.Generator) -> list[list[Path]]:
        self._sample = self.controller.sample(self.config.episode_children, generator, masks=self._masks(kept))
        return [[path] for path in self._sample.paths()]

    def worth(self, kept: Kept, episodes: Sequence[Mapping[str, Any]], generator: torch.Generator) -> Numbers:
        count, longest = len(self.choices), max(self.choices)
        paths = torch.tensor([path for line in episodes for paths in line["paths"] for path in paths])
        y = torch.tensor([r - line["baseline"] for line in episodes for r in line["rewards"]], dtype=torch.float64)
        effects = torch.zeros(DRAWS, count, longest, dtype=torch.float64)
        if len(y) > 1:
            x = one_hot(paths.reshape(len(y), count), longest).double().flatten(1)
            y = (y - y.mean()) / y.std().clamp_min(1e-9)
            root = torch.linalg.cholesky(x.T @ x + count * torch.eye(x.shape[1], dtype=torch.float64))
            mean = torch.cholesky_solve((x.T @ y)[:, None], root)
            noise = torch.randn(x.shape[1], DRAWS, generator=generator, dtype=torch.float64)
            draws = mean + torch.linalg.solve_triangular(root.T, noise, upper=True)
            effects = draws.T.reshape(DRAWS, count, longest)
        left = torch.zeros(count, longest, dtype=torch.bool)
        for row, each in zip(left, kept, strict=True):
            row[list(each)] = True
        best = effects.masked_fill(~left, -torch.inf).argmax(2)
        return one_hot(best, longest).double().mean(0).numpy()


@final
class SubspacePruner(Pruner):
    """Children are subspaces within the bound; a candidate is worth the chance that the controller keeps it.

    The controller decides of every candidate in turn whether it is kept. What it gives up goes first, the candidates of
    the most bytes of it first, until the bound is kept; if that is not enough others go, and what did not have to go
    stays: so children use the bound.
    """

    def __init__(self, choices: Sequence[int], config: RadarsConfig, seed: int, fit: Fit) -> None:
        super().__init__(choices, config, seed)
        self.fit = fit

    def _actions(self) -> Sequence[int]:
        return [2] * sum(self.choices)

    def _keep_or_not(self, kept: Kept) -> list[Tensor]:
        """Masks of ``[prune, keep]`` for every candidate."""
        masks = []
        for count, each in zip(self.choices, kept, strict=True):
            masks += [torch.tensor([j not in each or len(each) > 1, j in each]) for j in range(count)]
        return masks

    def _kept_of(self, choice: Tensor) -> Numbers:
        """``(G, K)``: 1 for what an action keeps."""
        found = np.zeros((len(self.choices), max(self.choices)))
        for row, part in zip(found, choice.split(self.choices), strict=True):
            row[: len(part)] = part.numpy()
        return found

    def draw(self, kept: Kept, generator: torch.Generator) -> list[list[Path]]:
        self._sample = self.controller.sample(self.config.episode_children, generator, masks=self._keep_or_not(kept))
        drawn = []
        for choice in self._sample.choice:
            subspace = self.fit(kept, self._kept_of(choice))
            places = [
                [int(torch.randint(len(each), (), generator=generator)) for each in subspace]
                for _ in range(self.config.networks)
            ]
            drawn.append([tuple(each[j] for each, j in zip(subspace, place, strict=True)) for place in places])
        return drawn

    def worth(self, kept: Kept, episodes: Sequence[Mapping[str, Any]], generator: torch.Generator) -> Numbers:
        with torch.no_grad():
            sample = self.controller.sample(DRAWS, generator, masks=self._keep_or_not(kept))
        return np.asarray(np.mean([self._kept_of(choice) for choice in sample.choice], 0))
