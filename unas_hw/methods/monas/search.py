"""MONAS: a controller writes networks, each is trained for a while, and what it is worth teaches the controller.

Hsu et al., "MONAS: Multi-Objective Neural Architecture Search using Reinforcement Learning" (arXiv 1806.10332). What
differs from the paper (a reconstruction of which this is): the weight of accuracy and cost is drawn for every child and
told to the controller, so that one search has the whole front; a network is trained once, and the controller draws
until it has one that is not known; every softmax is mixed with a uniform one; the best known networks are imitated a
little; bounds are graded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from unas_hw.methods.monas.config import MonasConfig
from unas_hw.methods.monas.rewards import Child, Reward
from unas_hw.runs import Run
from unas_hw.search.controller import Controller, Reinforce
from unas_hw.search.front import front
from unas_hw.space import SearchSpace

CHECKPOINT = "controller.safetensors"
STALLED = 20
"""Batches in a row without a network that is not known, after which a search has them all."""
Path = tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """Networks that the controller asks for, by their choices, and the weight a of each."""

    paths: tuple[Path, ...]
    weights: Tensor


@final
class MonasSearch:
    """The state of one search: the controller, and what is known.

    ``propose`` gives the same batch until ``learn`` was told of all of it: everything random follows from the seed and
    the number of the batch. A run keeps a checkpoint after every batch.

    Attributes:
        batches: How many the controller has learnt from.
        known: Children by what runs of them.
    """

    def __init__(
        self, space: SearchSpace, reward: Reward, config: MonasConfig, seed: int, run: Run | None = None
    ) -> None:
        config.check()
        self.space, self.reward, self.config, self.seed, self.run = space, reward, config, seed, run
        self.swept = reward.kind == "mixed" and config.weight is None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.controller = Controller(
                [len(decision.choices) for decision in space.decisions],
                hidden=config.hidden, condition=int(self.swept), softening=config.softening,
            )  # fmt: skip
        self.teacher = Reinforce(self.controller, lr=config.lr, decay=config.decay, entropy=config.entropy)
        self.batches = self.stalled = 0
        self.known: dict[Path, Child] = {}

    @property
    def is_done(self) -> bool:
        """Whether all children are known, or all networks."""
        return len(self.known) >= self.config.children or self.stalled >= STALLED

    def resume(self, children: Sequence[tuple[int, Child]]) -> None:
        """Goes back to the last checkpoint, with all children that were ever finished, each with its batch."""
        saved = self.run.load_tensors(CHECKPOINT) if self.run else None
        if saved is None:
            return
        tensors, scalars = saved
        self.teacher.load(tensors)
        self.batches, self.stalled = scalars["batches"], scalars["stalled"]
        self._take(child for number, child in children if number < self.batches)

    def _take(self, children: Iterable[Child]) -> int:
        """Remembers children; how many of them are new."""
        new = {self.space.running(child.path): child for child in children}
        new = {running: child for running, child in new.items() if running not in self.known}
        self.known |= new
        self.reward.see(new.values())
        return len(new)

    @torch.no_grad()
    def propose(self) -> Batch:
        """The next batch: of each place's draws the first network that is not known, or else the first that is.

        Draws come from ever more uniform softmaxes, so there is one that is not known while the space has one.
        """
        config = self.config
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.batches)
        if self.swept:
            weights = torch.rand(config.batch, generator=generator, dtype=torch.float64)
        else:
            weights = torch.full((config.batch,), 1.0 if config.weight is None else config.weight, dtype=torch.float64)
        condition = weights.repeat_interleave(config.draws)[:, None] if self.swept else None
        uniform = torch.linspace(0, 1, config.draws + 1, dtype=torch.float64)[:-1] ** 2
        softening = (config.softening + (1 - config.softening) * uniform).repeat(config.batch)
        drawn = self.controller.sample(
            config.batch * config.draws, generator, condition, softening=softening
        ).choice.numpy()
        usable, running = self.space.usable(drawn), np.where(self.space.live(drawn), drawn, -1).tolist()
        kinds = list(map(tuple, running if self.space.has_dead_operations else drawn.tolist()))
        left, chosen, asked = config.children - len(self.known), dict[int, int](), set[Path]()
        for place in range(config.batch):
            rows = [row for row in range(place * config.draws, (place + 1) * config.draws) if usable[row]]
            new = [row for row in rows if kinds[row] not in self.known and kinds[row] not in asked]
            if new and len(asked) < left:
                chosen[place] = new[0]
                asked.add(kinds[new[0]])
            elif again := [row for row in rows if kinds[row] in self.known or kinds[row] in asked]:
                chosen[place] = again[0]
        return Batch(tuple(tuple(drawn[row].tolist()) for row in chosen.values()), weights[list(chosen)])

    def learn(self, batch: Batch, children: Sequence[Child]) -> None:
        """Teaches the controller what the networks of the last proposal are worth, one child for each, and saves."""
        self.stalled = 0 if self._take(children) else self.stalled + 1
        if batch.paths:
            condition = batch.weights[:, None] if self.swept else None
            log_prob, entropy = self.controller.log_prob(torch.tensor(batch.paths), condition)
            parts = torch.tensor([self.reward.parts(child) for child in children], dtype=torch.float64)
            weights = [self.reward.weights(weight) for weight in batch.weights.tolist()]
            self.teacher.step(
                log_prob, entropy, parts, torch.tensor(weights, dtype=torch.float64), further=self._imitation()
            )
        self.batches += 1
        if self.run:
            self.run.save_tensors(CHECKPOINT, self.teacher.state(), {"batches": self.batches, "stalled": self.stalled})

    def _imitation(self) -> Tensor | float:
        """``-imitation * mean(log p)`` of the best that are known, each with the weight of its place on the front."""
        if not self.config.imitation:
            return 0.0
        best = self.front() if self.swept else self.ranked()[: self.config.batch]
        places = torch.linspace(0, 1, len(best), dtype=torch.float64)[:, None] if self.swept else None
        log_prob, _ = self.controller.log_prob(torch.tensor([child.path for child in best]), places)
        return -self.config.imitation * log_prob.mean()

    def front(self) -> list[Child]:
        """The children that none beats in accuracy and cost, the least costly first."""
        children = self.ordered()
        points = np.array([(child.accuracy, -self.reward.cost(child)) for child in children]).reshape(-1, 2)
        return sorted((children[number] for number in front(points)), key=self.reward.cost)

    def ordered(self) -> list[Child]:
        """All children, by their choices: in whichever order they were finished."""
        return sorted(self.known.values(), key=lambda child: child.path)

    def ranked(self) -> list[Child]:
        """All children, the best first: those that keep all bounds, by reward; of a swept weight, by accuracy."""
        weight = 1.0 if self.config.weight is None else self.config.weight

        def rank(child: Child) -> tuple[bool, float, float]:
            kept = self.reward.keeps(child)
            worth = child.accuracy if kept and self.swept else self.reward.value(child, weight)
            return not kept, -worth, self.reward.cost(child)

        return sorted(self.ordered(), key=rank)
