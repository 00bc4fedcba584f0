"""PpoConfig and RlDartsConfig: hyper-parameters of playing, and of searching while playing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, TypeVar

from unas_hw.search.method import MethodConfig
from unas_hw.settings import setting

if TYPE_CHECKING:
    from unas_hw.search.settings import SearchSettings
    from unas_hw.tasks import Task

Config = TypeVar("Config", bound="PpoConfig")


@dataclass(frozen=True, kw_only=True)
class PpoConfig(MethodConfig):
    """Hyper-parameters of PPO (arXiv 1707.06347); defaults are Procgen's."""

    section: ClassVar[str] = "ppo"

    steps: int = setting(
        1_000_000,
        "Of all environments together, such as 500k.",
        low=1,
        option="--steps",
        metavar="N",
        read="profilers.units:parse_count",
    )
    environments: int = setting(64, "That play side by side.", low=1, high=4096)
    horizon: int = setting(256, "Steps of each between two updates.", low=2, high=65536)
    passes: int = setting(3, "Through what was played.", low=1, high=100)
    minibatch: int = setting(2048, "Steps a gradient.", low=2)
    lr: float = setting(5e-4, "Of Adam; falls to zero over the steps.", low=1e-9)
    gamma: float = setting(0.999, "Discount of rewards.", low=0.0, high=1.0)
    gae_lambda: float = setting(0.95, "Of the advantage estimate (arXiv 1506.02438).", low=0.0, high=1.0)
    clip: float = setting(0.2, "Of the probability ratio, and of values.", low=1e-9)
    entropy_weight: float = setting(0.01, "Of the policy's entropy.", low=0)
    value_weight: float = setting(0.5, "Of the value's loss.", low=0)
    max_grad_norm: float = setting(0.5, "Of all gradients together.", low=1e-9)
    normalise_rewards: bool = setting(True, "Divide rewards by the deviation of the return.")

    @property
    def updates(self) -> int:
        """How often it plays and learns."""
        return math.ceil(self.steps / (self.environments * self.horizon))


@dataclass(frozen=True, kw_only=True)
class RlDartsConfig(PpoConfig):
    """Hyper-parameters of RL-DARTS (arXiv 2106.02229): those of PPO, and of alpha."""

    section: ClassVar[str] = "rl_darts"
    plays: ClassVar[bool] = True

    alpha_lr: float = setting(
        0.02,
        "Of the logits, by the same optimiser. Published is that of the weights, for 25 million steps; in fewer alpha "
        "would not move.",
        low=1e-9,
    )
    multiplier_rate: float = setting(0.02, "Of the dual ascent on the latency budget.", low=0)

    def suited(self, settings: SearchSettings) -> RlDartsConfig:
        from unas_hw.tasks import find_task, is_task

        return ppo_for(find_task(settings.dataset), self) if is_task(settings.dataset) else self


def ppo_for(task: Task, config: Config) -> Config:
    """The configuration with what suits a task instead of Procgen's: small frames are played in minutes on a CPU."""
    if task.image_shape[1] >= 32:
        return config
    return replace(config, steps=500_000, horizon=64, minibatch=512, lr=2.5e-3, gamma=0.99)
