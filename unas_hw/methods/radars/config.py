"""RadarsConfig: hyper-parameters of RADARS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from unas_hw.search.method import MethodConfig
from unas_hw.settings import setting

Reading = Literal["children", "subspaces"]


@dataclass(frozen=True, kw_only=True)
class RadarsConfig(MethodConfig):
    """Hyper-parameters; the defaults suit minutes on a CPU. UNAS in the subspace has its own."""

    section: ClassVar[str] = "radars"
    shares_weights: ClassVar[bool] = True
    ends_with: ClassVar[str | None] = "unas"

    reading: Reading = setting(
        "children",
        "children: the controller draws single networks, and what their rewards say of each candidate decides which "
        "are pruned. subspaces: the controller decides which candidates are pruned.",
    )
    warmup_episodes: int = setting(
        30, "Episodes from which the controller does not learn, as the weights know nothing yet.", low=0
    )
    episodes: int = setting(120, "All, with those.", low=1)
    prune_every: int = setting(15, "Episodes between two prunings.", low=1)
    episode_children: int = setting(4, "Drawn in an episode: networks, or subspaces.", low=1)
    networks: int = setting(2, "Drawn uniformly of each subspace.", low=1)
    steps: int = setting(2, "Of training a network before its reward.", low=1)
    batch_size: int = setting(
        64, "Images a step, fewer where a single network would exceed the memory bound.", low=2, option="--batch-size"
    )
    valid_images: int = setting(128, "That a reward is taken on; others in each episode.", low=1)
    w_lr: float = setting(
        0.1,
        "Learning rate of the weights, by SGD, at first. It keeps nothing beside them, and momentum of weights that "
        "are drawn now and then would be stale. A cosine falls ...",
    )
    w_lr_min: float = setting(0.01, "... to this.")
    w_clip: float = setting(5.0, "Largest norm of the weights' gradient.")
    controller_lr: float = setting(3e-3, "Learning rate of the controller, by Adam.")
    decay: float = setting(0.9, "Share of the moving average of rewards that stays.", low=0, high=1)
    entropy: float = setting(1e-3, "Weight of the controller's entropy.")
    hidden: int = setting(64, "Width of the controller.", low=1)
    penalty_rate: float = setting(0.05, "Of the dual ascent on the weight of what exceeds a budget, in the reward.")
    headroom: float = setting(0.05, "Share of the memory bound that predictions leave.", low=0, high=1)
    save_every: int = setting(5, "Episodes between two checkpoints.", low=1)
    warm_start: bool = setting(
        True,
        "Begin UNAS with what the pruning learnt: its weights, and for alpha the logarithms of the candidates' worth.",
    )
