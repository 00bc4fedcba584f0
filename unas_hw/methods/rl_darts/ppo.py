"""PPO, from top to bottom: play, estimate advantages, learn from what was played in minibatches, again.

Source: Schulman et al. 2017, "Proximal Policy Optimization Algorithms" (arXiv 1707.06347), equations 7 and 9, and
2016, "High-Dimensional Continuous Control Using Generalized Advantage Estimation" (arXiv 1506.02438), equation 16.
Values are clipped like the policy; rewards are divided by the deviation of the discounted return, as is usual on
Procgen. Defaults are Procgen's but for the learning rate's decay to zero.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unas_hw.methods.rl_darts.config import PpoConfig
from unas_hw.optimizer_state import from_tensors, to_tensors, under
from unas_hw.tasks import Environments, Frames

RECENT = 100
"""Episodes over which a return is averaged."""
PART = 512
"""Frames of a minibatch that are computed at once: what they leave behind stays in a CPU's cache."""


class Actor(Protocol):
    """What PPO trains, a module."""

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(N, A)`` and values ``(N,)`` of frames ``(N, C, H, W)`` from 0 to 1."""
        ...


@final
class Ppo:
    """One training, which can be stopped after any update and go on bit for bit.

    The actor has its weights, on the CPU or a GPU; learning rates of the optimizer are those of the begin; the seed is
    of actions and of the order of minibatches. A penalty is added to the loss of every minibatch, such as one on what
    the actor would cost.
    """

    def __init__(
        self,
        actor: Actor,
        optimizer: torch.optim.Optimizer,
        environments: Environments,
        config: PpoConfig,
        seed: int,
        penalty: Callable[[], Tensor] | None = None,
    ) -> None:
        self.actor, self.optimizer, self.environments, self.config = actor, optimizer, environments, config
        self.penalty, self.update = penalty, 0
        self.weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        self.device = self.weights[0].device
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.generator = torch.Generator().manual_seed(seed)
        count = config.environments
        self.returns, self.discounted, self.scale = np.zeros(count), np.zeros(count), Spread()
        self.recent: list[float] = []

    def updates(self) -> Iterator[dict[str, Any]]:
        """Plays and learns until all steps are done; what every update says of itself."""
        while self.update < self.config.updates:
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * (1 - self.update / self.config.updates)
            begin = time.monotonic()
            played, playing_s, ended = self.play()
            middle = time.monotonic()
            losses = self.learn(*played)
            self.update += 1
            yield {
                "update": self.update,
                "steps": self.update * self.config.environments * self.config.horizon,
                "return": float(np.mean(self.recent)) if self.recent else None,
                "episodes": ended,
                **losses,
                "environment_s": playing_s,
                "acting_s": middle - begin - playing_s,
                "learning_s": time.monotonic() - middle,
            }

    @torch.no_grad()
    def play(self) -> tuple[tuple[Tensor, ...], float, int]:
        """One horizon: frames, actions, log-probabilities, values, advantages and returns, ``(T * N, ...)``."""
        T, N = self.config.horizon, self.config.environments
        frames = torch.empty((T, *self.environments.frames.shape), dtype=torch.uint8)
        actions, log_probs = torch.empty(T, N, dtype=torch.long), torch.empty(T, N)
        values, rewards = torch.empty(T + 1, N), torch.empty(T, N)
        ends, playing_s, episodes = torch.empty(T, N), 0.0, 0
        for t in range(T):
            frames[t] = torch.from_numpy(self.environments.frames)
            logits, value = (each.cpu() for each in self.actor.both(seen(self.environments.frames, self.device)))
            noise = torch.empty(logits.shape).exponential_(generator=self.generator)
            actions[t] = (logits.softmax(1) / noise).argmax(1)  # a draw: the first of so many exponential clocks
            log_probs[t] = logits.log_softmax(1).gather(1, actions[t, :, None]).squeeze(1)
            values[t] = value
            begin = time.monotonic()
            reward, ended = self.environments.step(actions[t].numpy())
            playing_s += time.monotonic() - begin
            rewards[t], ends[t] = torch.from_numpy(self._scaled(reward, ended)), torch.from_numpy(ended).float()
            episodes += int(ended.sum())
        values[T] = self.actor.both(seen(self.environments.frames, self.device))[1].cpu()
        advantages = torch.empty(T, N)
        last = torch.zeros(N)
        for t in reversed(range(T)):
            alive = 1 - ends[t]
            error = rewards[t] + self.config.gamma * alive * values[t + 1] - values[t]
            last = error + self.config.gamma * self.config.gae_lambda * alive * last
            advantages[t] = last
        played = (frames, actions, log_probs, values[:T], advantages, advantages + values[:T])
        return tuple(each.flatten(0, 1) for each in played), playing_s, episodes

    def _scaled(self, reward: NDArray[np.float32], ended: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Rewards as they are learnt from; keeps account of the returns."""
        self.returns += reward
        self.recent = [*self.recent, *self.returns[ended].tolist()][-RECENT:]
        self.returns[ended] = 0.0
        if not self.config.normalise_rewards:
            return reward
        self.discounted = self.config.gamma * self.discounted + reward
        self.scale.add(self.discounted)
        self.discounted[ended] = 0.0
        scaled: NDArray[np.float32] = np.clip(reward / self.scale.deviation, -10, 10).astype(np.float32)
        return scaled

    def learn(
        self, frames: Tensor, actions: Tensor, log_probs: Tensor, values: Tensor, advantages: Tensor, returns: Tensor
    ) -> dict[str, float]:
        """Passes of minibatches, each in parts; the means of what they said."""
        config, told = self.config, []
        for _ in range(config.passes):
            for rows in torch.randperm(len(frames), generator=self.generator).split(config.minibatch):
                if len(rows) < 2:  # an advantage alone has no deviation
                    continue
                self.optimizer.zero_grad()
                if self.penalty is not None:
                    self.penalty().backward()
                deviation, mean = torch.std_mean(advantages[rows])
                normalised = (advantages - mean) / (deviation + 1e-8)
                said = torch.zeros(4)
                for part in rows.chunk(-(-len(rows) // PART)):
                    played = (each[part].to(self.device) for each in (actions, log_probs, values, normalised, returns))
                    loss, more = self._loss(seen(frames[part], self.device), *played)
                    (loss * (len(part) / len(rows))).backward()
                    said += more.cpu() * (len(part) / len(rows))
                torch.nn.utils.clip_grad_norm_(self.weights, config.max_grad_norm)
                self.optimizer.step()
                told.append(said)
        names = ("policy_loss", "value_loss", "entropy", "clipped")
        return dict(zip(names, torch.stack(told).mean(0).tolist(), strict=True))

    def _loss(
        self, x: Tensor, actions: Tensor, old_log_probs: Tensor, old_values: Tensor, advantages: Tensor, goals: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What is to be minimised, and what ``learn`` says of it."""
        config = self.config
        logits, values = (each.float() for each in self.actor.both(x))
        log_p = logits.log_softmax(1)
        ratio = (log_p.gather(1, actions[:, None]).squeeze(1) - old_log_probs).exp()
        clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
        policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
        near = old_values + (values - old_values).clamp(-config.clip, config.clip)
        value_loss = torch.max((values - goals) ** 2, (near - goals) ** 2).mean() / 2
        entropy = -(log_p.exp() * log_p).sum(1).mean()
        loss = policy_loss + config.value_weight * value_loss - config.entropy_weight * entropy
        return loss, torch.stack([policy_loss, value_loss, entropy, (ratio != clipped).float().mean()]).detach()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All but the actor's own: tensors, and plain values."""
        tensors = {
            "generator": self.generator.get_state(),
            "returns": torch.from_numpy(self.returns),
            "discounted": torch.from_numpy(self.discounted),
            **to_tensors(self.optimizer, "optimizer"),
        }
        if self.environments.can_be_saved:
            tensors |= {
                f"environments.{name}": torch.from_numpy(each) for name, each in self.environments.state().items()
            }
        return tensors, {"update": self.update, "recent": self.recent, "scale": self.scale.numbers}

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """The inverse of ``state``; environments that cannot be saved begin new episodes."""
        self.update, self.recent, self.scale = scalars["update"], list(scalars["recent"]), Spread(*scalars["scale"])
        self.generator.set_state(tensors["generator"])
        self.returns, self.discounted = (tensors[name].numpy().copy() for name in ("returns", "discounted"))
        from_tensors(self.optimizer, "optimizer", tensors)
        if self.environments.can_be_saved:
            self.environments.restore({name: each.numpy() for name, each in under(tensors, "environments").items()})


class Spread:
    """Deviation of all numbers that were added (Chan et al. 1979)."""

    def __init__(self, count: float = 1e-4, mean: float = 0.0, squares: float = 1e-4) -> None:
        self.numbers = [count, mean, squares]

    def add(self, values: NDArray[np.float64]) -> None:
        count, mean, squares = self.numbers
        more, total = len(values), count + len(values)
        delta = float(values.mean()) - mean
        squares += float(((values - values.mean()) ** 2).sum()) + delta**2 * count * more / total
        self.numbers = [total, mean + delta * more / total, squares]

    @property
    def deviation(self) -> float:
        return math.sqrt(self.numbers[2] / self.numbers[0] + 1e-8)


def seen(frames: Frames | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Frames as networks see them: from 0 to 1, channels innermost in memory."""
    tensor = frames if isinstance(frames, Tensor) else torch.from_numpy(frames)
    return tensor.to(device).float().div(255).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def evaluate(
    actor: Actor, environments: Environments, episodes: int, seed: int, most_steps: int = 10**6
) -> list[float]:
    """Returns of the first so many episodes that are begun, by drawn actions, as it was trained.

    Every environment plays the same number, so that short episodes are not preferred.
    """
    count = len(environments.frames)
    each = math.ceil(episodes / count)
    generator, found = torch.Generator().manual_seed(seed), [list[float]() for _ in range(count)]
    running = np.zeros(count)
    for _ in range(most_steps):
        logits = actor.both(seen(environments.frames))[0].cpu()
        noise = torch.empty(logits.shape).exponential_(generator=generator)
        reward, ended = environments.step((logits.softmax(1) / noise).argmax(1).numpy())
        running += reward
        for number in np.flatnonzero(ended):
            if len(found[number]) < each:
                found[number].append(float(running[number]))
            running[number] = 0.0
        if all(len(returns) == each for returns in found):
            break
    return [value for returns in found for value in returns]
