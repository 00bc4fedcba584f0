"""UnasConfig: hyper-parameters of a search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from unas_hw.distribution import TAU
from unas_hw.errors import MethodError
from unas_hw.objectives import Gap, LossOn
from unas_hw.objectives.forms import HINGE

WeightsFrom = Literal["relaxed", "choice", "both"]


@dataclass(frozen=True, kw_only=True)
class UnasConfig:
    """Hyper-parameters. Defaults suit minutes on a CPU; ``published_*`` below are the paper's.

    Attributes:
        warmup_epochs: Epochs in which only weights learn.
        epochs: Epochs after them.
        batch_size: Images a step.
        w_lr, w_lr_min: Adam for the weights, cosine from one to the other.
        w_decay, w_clip: Weight decay and gradient norm.
        alpha_lr, alpha_lr_min: Adam for alpha.
        method: What ``unas_hw.methods.registry`` calls these settings.
        architectures: Drawn each step; each sees its part of the batch.
        tau, tau_end: Temperature of the relaxation at the begin and the end; None keeps it.
        softening: eps of the distribution.
        loss_on: Images whose loss alpha learns from; ``valid`` leaves no gap.
        gap_weight, gap: lam and the reading of the generalization gap.
        duplicates_weight: lam_a, of a node's equal edges, in the DARTS space.
        estimator: Of the task loss.
        weights_from: Weights learn from zeta (``relaxed``, as the paper has it, for hundreds of epochs), from the
            sampled network z (``choice``) or from ``both``: in few epochs of zeta alone networks on their own stay so
            bad that they cannot be told apart.
        latency_estimator: ``exact`` (table and measured residual), ``expected`` (table), ``reinforce`` (measured).
        budget_form: How the latency enters the loss, see ``unas_hw.objectives.forms``.
        measure_every: Steps between two measured networks.
        diagnose_every: Steps between two lines about the gradients.
        multiplier_rate: Of the dual ascent.
        finetune_epochs: Of the network that was found, on its own with the weights it shared, before it is reported.
        seed: Of everything random.
    """

    warmup_epochs: int = 20
    epochs: int = 6
    batch_size: int = 64
    w_lr: float = 6e-3
    w_lr_min: float = 6e-4
    w_decay: float = 3e-4
    w_clip: float = 5.0
    alpha_lr: float = 0.1
    alpha_lr_min: float = 0.02
    method: str = "unas"
    architectures: int = 1
    tau: float = TAU
    tau_end: float | None = None
    softening: float = 0.0
    loss_on: LossOn = "train"
    gap_weight: float = 0.5
    gap: Gap = "means"
    duplicates_weight: float = 0.2
    estimator: str = "rebar"
    weights_from: WeightsFrom = "both"
    latency_estimator: str = "exact"
    budget_form: str = HINGE
    measure_every: int = 10
    diagnose_every: int = 50
    multiplier_rate: float = 0.2
    finetune_epochs: int = 8
    seed: int = 0


def published_imagenet_mbconv() -> UnasConfig:
    """The paper's ProxylessNAS-space search on ImageNet (8 GPUs of 24 images each)."""
    return UnasConfig(
        warmup_epochs=20,
        epochs=15,
        batch_size=192,
        w_lr=3e-4,
        w_lr_min=1e-4,
        alpha_lr=1e-3,
        alpha_lr_min=3e-4,
        softening=0.08,
        weights_from="relaxed",
    )


def refuse_outside(section: str, config: object, limits: Mapping[str, tuple[float, float]]) -> None:
    """Raises ``MethodError`` where a hyper-parameter lies outside its limits; None lies nowhere.

    Args:
        section: Under which configuration files have it.
        config: Of the method.
        limits: Lowest and highest by name.
    """
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            span = f"{low} or more" if high == math.inf else f"{low} to {high}"
            raise MethodError(
                f"{section} cannot have {name}={value}", mend=f"--set {section}.{name}={low}; it may be {span}"
            )
