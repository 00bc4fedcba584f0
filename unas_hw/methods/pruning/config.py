"""What a pruning is told. Nothing here imports PyTorch: the help of ``unas-hw prune`` is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unas_hw.budget import CONFIDENCE
from unas_hw.settings import check, setting

if TYPE_CHECKING:
    from latency_tables.home import Target
    from unas_hw.training import Hardware

METHOD = "prune"


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """Hyper-parameters. Defaults suit minutes on a CPU."""

    epochs: int = setting(24, "Epochs of training masks and weights together.", low=1)
    resample_every: int = setting(4, "Epochs after which weights begin anew.", low=1)
    warm_share: float = setting(
        0.25,
        "Share of such a round in which only weights learn: gradients of what nobody trained mean nothing.",
        low=0,
        high=0.99,
    )
    batch_size: int = setting(64, "Images a step.", low=2)
    w_lr: float = setting(4e-3, "Learning rate of the weights, by AdamW.", low=0)
    w_decay: float = setting(1e-2, "Weight decay.", low=0)
    w_clip: float = setting(5.0, "Largest norm of the weights' gradient.", low=1e-6)
    travel: float = setting(
        4.0, "How far Adam could move theta in all steps together; its rate follows from that.", low=0
    )
    start: float = setting(1.0, "Of theta at first: start * (1 + U(-spread, spread)).", low=1e-3)
    spread: float = setting(1.0, "See start.", low=0, high=1)
    low: float = setting(0.1, "Temperature forward at first, falling geometrically ...", low=1e-6, high=10)
    low_end: float = setting(1e-6, "... to this.", low=1e-9, high=10)
    high: float = setting(1.0, "Temperature backward.", low=1e-3, high=100)
    dither: float = setting(
        1.0,
        "Logistic noise forward, in times high, falling linearly to none: units that are off are tried.",
        low=0,
        high=10,
    )
    ramp: float = setting(
        0.6,
        "Share of the epochs in which what is aimed at falls from the whole network to the budget: what is given up "
        "in a hurry is given up in whole layers.",
        low=0,
        high=1,
    )
    multiplier: float = setting(0.0, "Weight lambda of each complexity at first.", low=0)
    ascent: float = setting(
        300.0, "Of lambda in all steps together, for a relative excess of 1; 0 keeps lambda as it is.", low=0
    )
    multiple: int | None = setting(
        None,
        "Channels that are kept or given up together; by default 8, as runtimes compute them.",
        low=1,
        high=1024,
    )
    finetune_epochs: int = setting(
        8, "Of the network that was found, with the weights that it is carried along with.", low=0
    )
    seed: int = setting(0, "Of everything random.")

    def __post_init__(self) -> None:
        check(METHOD, self)


def _any_target() -> Target:
    from latency_tables.home import ANY

    return ANY


def _plain_hardware() -> Hardware:
    from unas_hw.training import Hardware

    return Hardware()


@dataclass(frozen=True, kw_only=True)
class PruneSettings:
    """What a pruning is told; None means that it finds out.

    Attributes:
        network: ``package.module:factory``, ``my_net.py`` or ``my_net.py:factory``.
        budget: Of the latency: ``80ms``, ``80ms@p90``, or ``50%`` of what the whole network takes.
        limits: Of ``macs`` and ``params``: ``20M``, or ``50%`` of the whole network's.
        confidence: With which the network has to be within the latency budget.
        dataset, image_size, batch: As in ``SearchSettings``.
        table: Path or name; by default the one for this network, made where there is none.
        target: Device, runtime, threads and precision; any by default.
        run: Name of the run folder; by default made of the settings.
        carry: Whether the network keeps the weights that were trained beside the masks last, and is fine-tuned.
        config: Hyper-parameters.
        hardware: What is trained on.
        told: All of this as the command line had it; lies in the run folder as ``config.yaml``.
    """

    network: str
    budget: str | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    confidence: float = CONFIDENCE
    dataset: str = "digits"
    image_size: int | None = None
    batch: int = 1
    table: str | None = None
    target: Target = field(default_factory=_any_target)
    run: str | None = None
    carry: bool = True
    config: PruneConfig = field(default_factory=PruneConfig)
    hardware: Hardware = field(default_factory=_plain_hardware)
    told: Mapping[str, Any] = field(default_factory=dict)
