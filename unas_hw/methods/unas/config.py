"""UnasConfig: hyper-parameters of UNAS, and what the methods of the field are in its terms.

=================  ====================  ==============  =======================  ==============================
``--method``       estimator             alpha learns    weights learn from       latency
=================  ====================  ==============  =======================  ==============================
``unas``           rebar                 L_train + gap   zeta (and z: see below)  exact + residual, mu solved
``darts``          darts                 L_val           softmax(alpha)           expected, mu solved
``snas``           gumbel, tau annealed  L_train         zeta                     expected, mu solved
``gdas``           straight-through      L_val           z                        expected, mu solved
``reinforce``      reinforce             L_val           z                        measured, mu by ascent
``proxylessnas``   binary-gates          L_val           z                        expected, its published form
``fbnet``          gumbel, tau annealed  L_val           zeta                     expected, its published form
=================  ====================  ==============  =======================  ==============================

DARTS, SNAS and GDAS know no latency as published; the budget is ours. The table is our reading of these methods in the
terms of UNAS (Vahdat et al., CVPR 2020, arXiv 1912.07651). Annealing goes exponentially from 5 to 0.5, that of GDAS
linearly from 10 to 0.1, as published.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from unas_hw.errors import MethodError
from unas_hw.search.method import MethodConfig
from unas_hw.settings import AS_BEFORE, COMMON, setting

if TYPE_CHECKING:
    from unas_hw.search.settings import SearchSettings

WeightsFrom = Literal["relaxed", "choice", "both"]
PHONES = "mbconv-mobile"
"""21 layers as wide as a phone's take longer an epoch than nine."""


@dataclass(frozen=True, kw_only=True)
class UnasConfig(MethodConfig):
    """Hyper-parameters. Defaults suit minutes on a CPU; ``presets.py`` has the paper's."""

    section: ClassVar[str] = "unas"
    needs_budget: ClassVar[bool] = True
    shares_weights: ClassVar[bool] = True
    many_processes: ClassVar[bool] = True
    has_finals: ClassVar[bool] = True

    warmup_epochs: int = setting(
        10, "Epochs before the search, in which only weights learn.", low=0, option="--warmup-epochs"
    )
    epochs: int = setting(6, "Epochs of search.", low=0, option="--epochs", group=COMMON)
    batch_size: int = setting(64, "Images a step.", low=1, option="--batch-size")
    w_optimizer: Literal["sgd", "adam"] = setting(
        "sgd", "Of the weights: sgd, with a momentum of 0.9 (Nesterov), or adam."
    )
    w_lr: float = setting(0.05, "Learning rate of the weights at first: a cosine falls ...")
    w_lr_min: float = setting(1e-3, "... to this.")
    w_decay: float = setting(5e-4, "Weight decay.")
    w_clip: float = setting(5.0, "Largest norm of the weights' gradient.")
    alpha_lr: float = setting(0.1, "Learning rate of alpha, by Adam, at first: a cosine falls ...")
    alpha_lr_min: float = setting(0.02, "... to this.")
    method: str = "unas"
    architectures: int = setting(
        1, "Networks drawn each step; each sees its part of the batch.", low=1, option="--architectures", metavar="N"
    )
    tau: float = setting(0.4, "Temperature of the relaxation; paper, section 4.")
    tau_end: float | None = setting(None, "Temperature at the end; none keeps it.")
    softening: float = setting(0.0, "eps of the distribution, log(softmax(alpha) + eps).")
    loss_on: Literal["train", "valid"] = setting("train", "Images whose loss alpha learns from; valid leaves no gap.")
    gap_weight: float = setting(
        0.0,
        "lam, weight of the generalization gap, 0.5 in the paper (equation 2); in few epochs it is mostly noise.",
    )
    gap: Literal["means", "elementwise"] = setting(
        "means", "The gap as the paper has it, of means, or element by element, as its program."
    )
    duplicates_weight: float = setting(0.2, "lam_a, of a node's equal edges, in the DARTS space.")
    estimator: str = setting("rebar", "Of the task loss: docs/unas.md.", option="--estimator", metavar="NAME")
    weights_from: WeightsFrom = setting(
        "both",
        "Weights learn from zeta (relaxed, as the paper has it, for hundreds of epochs), from the sampled network z "
        "(choice) or from both: in few epochs of zeta alone networks on their own stay so bad that they cannot be told "
        "apart.",
    )
    supernet: Literal["auto", "separate", "entangled"] = setting(
        "auto",
        "separate: every candidate has weights of its own, as in UNAS; entangled: candidates that nest share them, a "
        "relaxed layer is one block, and the largest network teaches the others: docs/unas.md; auto: entangled where "
        "candidates nest.",
        option="--supernet",
    )
    latency_estimator: str = setting(
        "exact", "exact (table and measured residual), expected (table), reinforce (measured)."
    )
    budget_form: str = setting(
        "hinge", "How latency enters the loss: hinge, mnasnet, fbnet, ...", option="--budget-form", metavar="NAME"
    )
    measure_every: int = setting(
        10, "Steps between two measured networks.", low=1, option="--measure-every", metavar="STEPS"
    )
    diagnose_every: int = setting(50, "Steps between two lines about the gradients.", low=1)
    multiplier: Literal["solved", "ascent"] = setting(
        "solved",
        "mu of the budget: solved, so that the expected latency is the target at every step; or found by dual ascent "
        "on the expected excess.",
    )
    multiplier_rate: float = setting(0.2, "Step of the dual ascent, for each unit of relative violation.")
    compared: int = setting(
        48,
        "Networks that are compared at the end, the most probable ones within the budget; the best six of them are "
        "measured.",
        low=1,
    )
    ranked_by: Literal["loss", "loss+macs", "evidence"] = setting(
        "loss+macs",
        "What they are compared by: the loss with shared weights; or that and, a third as much, multiply-accumulates; "
        "or evidence: that, multiply-accumulates and NASWOT alike.",
    )
    compared_on: Literal["valid", "both"] = setting(
        "both", "Images of that loss: those of validation, or as many of training beside them."
    )
    finetune_epochs: int = setting(
        8, "Of the network that was found, on its own with the weights it shared, before it is reported.", low=0
    )
    tau_falls: Literal["exponentially", "linearly"] = setting("exponentially", "How tau gets to tau_end.")
    warmup_from: Literal["choice", "relaxed"] = setting(
        "choice", "While warming up weights learn from the sampled network z, or from zeta, as the paper has it."
    )
    seed: int = 0

    def suited(self, settings: SearchSettings) -> UnasConfig:
        # Nothing nests in the cells of DARTS, and RADARS counts the bytes of each candidate's own weights.
        separate = (settings.space or "").partition("?")[0] == "darts" or settings.config.ends_with is not None
        found = replace(self, **SEPARATE) if separate else self
        return replace(found, warmup_epochs=8, epochs=4, multiplier_rate=0.5) if settings.space == PHONES else found

    def check(self) -> None:
        super().check()
        measured = self.latency_estimator not in ("exact", "expected")
        if self.multiplier == "solved" and self.budget_form == "hinge" and measured:
            raise MethodError(
                f"mu is solved over the table's expectation, and {self.latency_estimator!r} estimates without it",
                mend="add --set unas.multiplier=ascent, or leave out unas.latency_estimator",
            )

    def before(self) -> UnasConfig:
        now = {"unas": UnasConfig, "darts": darts, "gdas": gdas, "snas": snas}.get(self.method, UnasConfig)()
        then: dict[str, Any] = {**SEPARATE, **{name: AS_BEFORE[name] for name in AS_BEFORE if hasattr(self, name)}}
        if self.method == "gdas":
            then |= {"tau": 0.4, "tau_end": None}
        if self.method != "snas":
            then |= {"gap_weight": 0.5}
        unsaid = {name: value for name, value in then.items() if getattr(self, name) == getattr(now, name)}
        return replace(self, **unsaid)


SEPARATE: dict[str, Any] = {
    "supernet": "separate",
    "warmup_epochs": 20,
    "w_optimizer": "adam",
    "w_lr": 6e-3,
    "w_lr_min": 6e-4,
    "w_decay": 3e-4,
    "ranked_by": "loss",
    "compared_on": "valid",
}
"""How methods train that have weights for each candidate: only one of them learns at a time."""


def darts() -> UnasConfig:
    """DARTS (Liu et al., arXiv 1806.09055), first order."""
    return UnasConfig(
        **SEPARATE,
        estimator="darts",
        loss_on="valid",
        weights_from="relaxed",
        latency_estimator="expected",
    )


def snas() -> UnasConfig:
    """SNAS (Xie et al., arXiv 1812.09926)."""
    return UnasConfig(
        **SEPARATE,
        estimator="gumbel",
        tau=5.0,
        tau_end=0.5,
        gap_weight=0.0,
        weights_from="relaxed",
        latency_estimator="expected",
    )


def gdas() -> UnasConfig:
    """GDAS (Dong and Yang, arXiv 1910.04465), tau as in its section 4."""
    return UnasConfig(
        **SEPARATE,
        estimator="straight-through",
        tau=10.0,
        tau_end=0.1,
        tau_falls="linearly",
        loss_on="valid",
        weights_from="choice",
        latency_estimator="expected",
    )


def reinforce() -> UnasConfig:
    """The measured branch alone."""
    return UnasConfig(
        **SEPARATE,
        estimator="reinforce",
        loss_on="valid",
        weights_from="choice",
        latency_estimator="reinforce",
        multiplier="ascent",
    )


def proxylessnas() -> UnasConfig:
    """ProxylessNAS (Cai et al., arXiv 1812.00332); its gates have no temperature."""
    return replace(reinforce(), estimator="binary-gates", latency_estimator="expected", budget_form="proxylessnas")


def fbnet() -> UnasConfig:
    """FBNet (Wu et al., arXiv 1812.03443)."""
    return replace(snas(), loss_on="valid", budget_form="fbnet")
