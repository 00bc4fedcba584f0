"""RADARS: candidates are given up by reinforcement learning until a step of DNAS keeps a memory bound.

"RADARS: Memory Efficient Reinforcement Learning Aided Differentiable Neural Architecture Search" (arXiv 2109.05691).
What we know of it says what it does, not how: this is a reconstruction,
in two readings (``unas_hw.methods.radars.pruners``).
Both draw networks with shared weights, which are trained along them meanwhile: only one path is ever in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, final

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from unas_hw.budget import Multiplier
from unas_hw.data import Batch, Dataset, Split
from unas_hw.methods.radars.config import RadarsConfig
from unas_hw.methods.radars.footprint import Footprint, Numbers, Rank, Reach, narrowed
from unas_hw.methods.radars.pruners import ChildPruner, Pruner, SubspacePruner
from unas_hw.optimizer_state import under
from unas_hw.runs import Run
from unas_hw.search.selection import Path
from unas_hw.spaces.subspace import Kept, everything, prune
from unas_hw.supernet import Supernet
from unas_hw.training.hardware import Hardware

CHECKPOINT, JOURNAL = "radars.safetensors", "radars.jsonl"
LEAST = 1e-4
"""What a candidate is worth that nothing speaks for: of such the largest goes first."""


def by_worth(worth: Numbers) -> Rank:
    """What is worth least for its bytes is given up first."""
    return lambda kept, shares: (worth + LEAST) / np.maximum(shares, 1e-9)


@final
class RadarsSearch:
    """The state of the pruning: everything that changes, and nothing that does not.

    Args:
        supernet: Of the whole space; what is given up is taken out of it.
        footprint: Whose M_w and scale are known.
        reach: Knows the budgets.
        data: Training and validation images.
        bound_bytes: Of a step.
        config: Hyper-parameters.
        seed: Of everything random.
        run: Keeps checkpoint and journal.
        hardware: What the supernet is trained on.

    Attributes:
        kept: What is left.
        witness: A network of it that is within all budgets.
        episode: Done so far.
    """

    def __init__(
        self,
        supernet: Supernet,
        footprint: Footprint,
        reach: Reach,
        data: Dataset,
        bound_bytes: float,
        config: RadarsConfig,
        seed: int,
        run: Run,
        hardware: Hardware | None = None,
    ) -> None:
        space = reach.model.space
        self.supernet, self.footprint, self.reach, self.data = supernet, footprint, reach, data
        self.target_bytes = bound_bytes * (1 - config.headroom)
        self.config, self.seed, self.run, self.hardware = config, seed, run, hardware or Hardware()
        self.kept, self.witness, self.episode = everything(space), reach.witness(), 0
        self.multiplier = Multiplier(config.penalty_rate)
        self.optimizer = self._sgd()
        choices = [len(decision.choices) for decision in space.decisions]
        self.pruner: Pruner = (
            ChildPruner(choices, config, seed)
            if config.reading == "children"
            else SubspacePruner(choices, config, seed, self._fitted)
        )
        self.lines: list[dict[str, Any]] = []
        self._first_bytes = footprint.bytes(self.kept)

    def _sgd(self) -> torch.optim.SGD:
        return torch.optim.SGD(self.supernet.parameters(), self.config.w_lr)

    def _fitted(self, kept: Kept, worth: Numbers) -> Kept:
        return narrowed(kept, self.witness, self.target_bytes, self.footprint, self.reach, by_worth(worth))[0]

    def resume(self) -> None:
        """Goes back to the last checkpoint, if there is one; what came after it is forgotten."""
        saved = self.run.load_tensors(CHECKPOINT)
        if saved is not None:
            tensors, scalars = saved
            self._take_out(tuple(map(tuple, scalars["kept"])))
            self.supernet.load_state_dict(under(tensors, "supernet"))
            self.pruner.reinforce.load(under(tensors, "reinforce"))
            self.witness, self.episode = tuple(scalars["witness"]), scalars["episode"]
            self.multiplier.value = scalars["multiplier"]
        self.run.keep_lines(JOURNAL, self.episode)
        self.lines = self.run.lines(JOURNAL)

    def _save(self) -> None:
        tensors = {f"supernet.{name}": tensor for name, tensor in self.supernet.state_dict().items()}
        tensors |= {f"reinforce.{name}": tensor for name, tensor in self.pruner.reinforce.state().items()}
        scalars = {
            "kept": self.kept,
            "witness": self.witness,
            "episode": self.episode,
            "multiplier": self.multiplier.value,
        }
        self.run.save_tensors(CHECKPOINT, tensors, scalars)

    def episodes(self) -> Iterator[dict[str, Any]]:
        """Prunes to the end; yields the journal's line of each episode."""
        config = self.config
        while self.episode < config.episodes:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.episode)
            with self.hardware.seeded(hash((self.seed, self.episode)) % 2**63):
                line = self._episode(generator)
            self.episode += 1
            self.lines.append(line)
            if self.episode > config.warmup_episodes and self._prunes(self.episode):
                line |= self._prune(generator)
            self.run.append(JOURNAL, line)
            if self.episode % config.save_every == 0 or self.episode == config.episodes:
                self._save()
            yield line

    def rehearse(self) -> None:
        """A child's training and its reward, of the largest network; not of a search that counts: weights change."""
        generator = torch.Generator().manual_seed(self.seed)
        with self.hardware.seeded(self.seed):
            valid = self._batch(self.data.valid, self.config.valid_images, generator)
            self._trained(self.reach.model.largest, valid, generator)

    def _prunes(self, episode: int) -> bool:
        return episode % self.config.prune_every == 0 or episode == self.config.episodes

    def worth(self) -> Numbers:
        """``(G, K)``: of each candidate, by all that was seen."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.config.episodes)
        return self.pruner.worth(self.kept, self.lines, generator)

    def _episode(self, generator: torch.Generator) -> dict[str, Any]:
        config, data = self.config, self.data
        progress = self.episode / max(config.episodes - 1, 1)
        share = (1 + math.cos(math.pi * progress)) / 2
        self.optimizer.param_groups[0]["lr"] = config.w_lr_min + share * (config.w_lr - config.w_lr_min)
        valid = self._batch(data.valid, config.valid_images, generator)
        children = self.pruner.draw(self.kept, generator)
        accuracies = [[self._trained(path, valid, generator) for path in child] for child in children]
        excesses = [[self.reach.excess(path) for path in child] for child in children]
        penalty = self.multiplier.value
        rewards = [
            float(np.mean([accuracy - penalty * max(excess, 0.0) for accuracy, excess in zip(*pairs, strict=True)]))
            for pairs in zip(accuracies, excesses, strict=True)
        ]
        baseline = self.pruner.reinforce.baseline
        learns = self.episode >= config.warmup_episodes
        if learns:
            self.pruner.learn(rewards)
            self.multiplier.step(1 + float(np.mean(excesses)), 1.0)
        return {
            "episode": self.episode + 1,
            "paths": children,
            "accuracies": accuracies,
            "rewards": rewards,
            "baseline": float(baseline[0]) if len(baseline) else float(np.mean(rewards)),
            "penalty": penalty,
            "excess": float(np.mean(excesses)),
        }

    def _batch(self, split: Split, count: int, generator: torch.Generator) -> Batch:
        rows = torch.randperm(len(split), generator=generator)[:count]
        on = split.on(self.hardware.device)
        return Batch(on.take(rows), on.y[rows].to(self.hardware.device))

    def _trained(self, path: Path, valid: Batch, generator: torch.Generator) -> float:
        """Trains along the network, and says how many validation images it gets right then."""
        for _ in range(self.config.steps):
            images = self._batch(self.data.train, self.config.batch_size, generator)
            self.optimizer.zero_grad(set_to_none=True)
            cross_entropy(self.supernet(images.x, path), images.y).backward()
            torch.nn.utils.clip_grad_norm_(self.supernet.parameters(), self.config.w_clip)
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.supernet.eval()
        with torch.no_grad():
            right = [
                (self.supernet(x, path).argmax(1) == y).sum()
                for x, y in zip(
                    valid.x.split(self.config.batch_size), valid.y.split(self.config.batch_size), strict=True
                )
            ]
        self.supernet.train()
        return float(torch.stack(right).sum()) / len(valid)

    def _prune(self, generator: torch.Generator) -> dict[str, Any]:
        """Gives up so many candidates that memory falls in equal ratios from pruning to pruning."""
        config = self.config
        first, last = config.warmup_episodes // config.prune_every, -(-config.episodes // config.prune_every)
        done = (-(-self.episode // config.prune_every) - first) / max(last - first, 1)
        before = self.footprint.bytes(self.kept)
        target = self._first_bytes * (self.target_bytes / self._first_bytes) ** done
        worth = self.pruner.worth(self.kept, self.lines, generator)
        kept, self.witness = narrowed(
            self.kept, self.witness, max(target, self.target_bytes), self.footprint, self.reach, by_worth(worth)
        )
        self._take_out(kept)
        return {
            "bytes_before": before,
            "bytes": self.footprint.bytes(kept),
            "kept": kept,
            "worth": [[round(float(worth[g, j]), 4) for j in each] for g, each in enumerate(kept)],
        }

    def _take_out(self, kept: Kept) -> None:
        self.kept = kept
        prune(self.supernet, self.footprint.structure.used(kept))
        self.optimizer = self._sgd()
