"""MonasConfig: settings of MONAS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from unas_hw.search.method import MethodConfig
from unas_hw.settings import setting

Cost = Literal["auto", "energy", "latency", "macs", "params"]
RewardKind = Literal["mixed", "constraint"]
Penalty = Literal["graded", "hard"]


@dataclass(frozen=True, kw_only=True)
class MonasConfig(MethodConfig):
    """Settings of MONAS (arXiv 1806.10332). Defaults suit minutes on a CPU."""

    section: ClassVar[str] = "monas"
    has_finals: ClassVar[bool] = True

    children: int = setting(64, "Networks that are trained, or priced.", low=1, option="--children", metavar="N")
    batch: int = setting(8, "Of them between two steps of the controller.", low=1)
    child_epochs: int = setting(5, "How long a child is trained.", low=0)
    child_batch_size: int = setting(64, "Images a step of a child.", low=2)
    reward: RewardKind = setting("mixed", "What a network is worth: docs/monas.md.", option="--reward")
    weight: float | None = setting(
        None,
        "Of the accuracy in a mixed reward; none draws one for every child, so that the whole front is searched.",
        low=0,
        high=1,
    )
    cost: Cost = setting(
        "auto", "What stands beside the accuracy: auto is energy where the table has it, else latency."
    )
    min_accuracy: float | None = setting(None, "Bound on the accuracy.", low=0, high=1)
    max_power_w: float | None = setting(None, "Bound on the peak power, in watts.")
    penalty: Penalty = setting("graded", "What becomes of a network that breaks a bound.")
    lr: float = setting(1e-2, "Learning rate of the controller, by Adam.")
    entropy: float = setting(1e-3, "Weight of its entropy.")
    decay: float = setting(0.9, "Of the baseline, a moving average.", low=0, high=0.999)
    imitation: float = setting(
        0.1, "Weight of the log-probability of the networks of the front, or of the best, beside the reward."
    )
    hidden: int = setting(64, "Width of the controller.", low=1)
    softening: float = setting(0.1, "Share of every softmax that is uniform.", low=0, high=0.999)
    draws: int = setting(64, "Networks that are drawn to find one that is not known.", low=1)
    accuracies: str | None = setting(
        None,
        "A CSV or parquet FILE[:COLUMN] of accuracies, instead of training.",
        option="--accuracies",
        metavar="FILE",
    )
    measure: bool = setting(False, "Measure the energy of every child as a whole, by the meter of the table's device.")
