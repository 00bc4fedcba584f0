"""What a pruning is told. Nothing here imports PyTorch: the help of ``unas-hw prune`` is made of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from unas_hw.search.method import MethodConfig
from unas_hw.search.settings import CommonSettings, as_told, options_of, replaced
from unas_hw.settings import refuse_unknown, setting, typed_option

METHOD = "prune"


@dataclass(frozen=True, kw_only=True)
class PruneConfig(MethodConfig):
    """Hyper-parameters. Defaults suit minutes on a CPU."""

    section: ClassVar[str] = METHOD

    epochs: int = setting(24, "Epochs of training masks and weights together.", low=1, option="--epochs", metavar="N")
    resample_every: int = setting(4, "Epochs after which weights begin anew.", low=1)
    warm_share: float = setting(
        0.25,
        "Share of such a round in which only weights learn: gradients of what nobody trained mean nothing.",
        low=0,
        high=0.99,
    )
    batch_size: int = setting(64, "Images a step.", low=2, option="--batch-size", metavar="N")
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
    seed: int = 0

    def __post_init__(self) -> None:
        self.check()


@dataclass(frozen=True, kw_only=True)
class PruneSettings(CommonSettings):
    """What a pruning is told; None means that it finds out.

    Attributes:
        network: ``package.module:factory``, ``my_net.py`` or ``my_net.py:factory``.
        config: Hyper-parameters; ``seed`` in it is the one from here.
    """

    budget: str | None = setting(
        None, "80ms, 80ms@p90, or 50% of what the whole network takes.", option="--latency-budget", metavar="BUDGET"
    )
    macs_budget: str | None = setting(
        None, "20M multiply-accumulates an image, or 50% of the whole's.", option="--macs-budget", metavar="BUDGET"
    )
    params_budget: str | None = setting(
        None, "100k learned numbers, or 50% of the whole's.", option="--params-budget", metavar="BUDGET"
    )
    network: str
    carry_weights: bool = setting(
        True,
        "Keep the weights that were trained beside the masks last, and fine-tune them; by default.",
        option="--carry-weights/--no-carry-weights",
    )
    config: PruneConfig = field(default_factory=PruneConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", replace(self.config, seed=self.seed))


def prune_settings_of(network: str, **told: Any) -> PruneSettings:
    """The settings of a pruning, from options by name and ``prune={...}``; see ``unas_hw.methods.settings``.

    Raises:
        ConfigurationError: If there is no such setting, or a value is of another type.
        MethodError: If a hyper-parameter cannot be so.
    """
    inner = dict(told.pop(METHOD, None) or {})
    told.setdefault("seed", inner.pop("seed", None))
    told = {name: value for name, value in told.items() if value is not None}
    names = [*options_of(PruneSettings).values(), "fresh"]
    for name in told:
        refuse_unknown(name, [*names, *options_of(PruneConfig).values()])
    values = {name: typed_option(PruneSettings, name, told[name]) for name in told if name in names}
    config = replaced(PruneConfig(), inner, {name: value for name, value in told.items() if name not in names})
    settings = PruneSettings(network=network, config=config, **values)
    return replace(settings, told=as_told(settings, settings.config))
