"""How networks are trained: the published recipes of UNAS (arXiv 1912.07651) and two of our own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from profilers.errors import did_you_mean
from unas_hw.data.augment import Augmentation
from unas_hw.errors import RecipeError

OPTIMIZERS = ("adamw", "sgd")
OF_DATASET = "dataset"
"""The augmentation that suits the data set."""

_LIMITS: dict[str, tuple[float, float]] = {
    "epochs": (0, math.inf),
    "batch_size": (2, math.inf),
    "lr": (0, math.inf),
    "momentum": (0, 1),
    "decay": (0, math.inf),
    "warmup": (0, 1),
    "clip": (0, math.inf),
    "smoothing": (0, 1),
    "mixup": (0, math.inf),
    "drop_path": (0, 1),
    "auxiliary": (0, math.inf),
    "average": (0, 1),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what training makes of a network, but the hardware; the defaults are those of ``short``.

    The learning rate rises from 0 and falls to 0 on a cosine, at every step.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images a step.
        optimizer: ``adamw`` or ``sgd``.
        lr: Highest learning rate.
        momentum: Of ``sgd``.
        decay: Weight decay, of all parameters.
        warmup: Share of the steps until ``lr`` is reached.
        clip: Largest norm of the gradient of all parameters together; 0 for none.
        smoothing: Of the labels.
        mixup: Alpha of mixup (Zhang et al., arXiv 1710.09412); 0 for none.
        augmentation: As ``Augmentation.parse`` takes it, or ``dataset``: what suits the data set.
        drop_path: Its highest rate, reached linearly, epoch by epoch, as in DARTS.
        auxiliary: Weight of the loss of the auxiliary head; 0 for none.
        average: Decay of the moving average of the weights, which then is what training ends with; 0 for none.
        seed: Of everything random.
    """

    epochs: int = 30
    batch_size: int = 64
    optimizer: str = "adamw"
    lr: float = 4e-3
    momentum: float = 0.9
    decay: float = 0.02
    warmup: float = 0.1
    clip: float = 0.0
    smoothing: float = 0.1
    mixup: float = 0.0
    augmentation: str = "shift"
    drop_path: float = 0.0
    auxiliary: float = 0.0
    average: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise RecipeError(f"no optimizer is called {self.optimizer!r}", mend=f"one of {', '.join(OPTIMIZERS)}")
        for name, (low, high) in _LIMITS.items():
            if not low <= (value := getattr(self, name)) < high:
                mend = f"{name} is {low} or more" + (f" and below {high}" if high < math.inf else "")
                raise RecipeError(f"a recipe cannot have {name}={value}", mend=mend)
        if self.augmentation != OF_DATASET:
            Augmentation.parse(self.augmentation)


# UNAS does not say which momentum, and whether gradients are clipped: both are our choice.
_PUBLISHED = Recipe(optimizer="sgd", momentum=0.9, clip=5.0, smoothing=0.0)
_CIFAR = replace(
    _PUBLISHED, epochs=600, batch_size=128, lr=0.05, decay=3e-4, warmup=30 / 600, augmentation="crop4,flip,cutout16",
    drop_path=0.2, auxiliary=0.4,
)  # fmt: skip
# Without the change of hue.
_IMAGENET = replace(_PUBLISHED, smoothing=0.1, augmentation="resizedcrop,flip,jitter0.4")

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "short": Recipe(),
        "modern": Recipe(
            epochs=100, batch_size=128, lr=2e-3, decay=0.05, warmup=0.05, clip=1.0, mixup=0.2, augmentation=OF_DATASET,
            drop_path=0.1, auxiliary=0.4, average=0.999,
        ),
        "cifar": _CIFAR,
        "cifar100": replace(_CIFAR, drop_path=0.3),
        "imagenet-darts": replace(
            _IMAGENET, epochs=250, batch_size=1024, lr=0.8, decay=3e-5, warmup=5 / 250, auxiliary=0.4
        ),
        "imagenet-mbconv": replace(_IMAGENET, epochs=300, batch_size=512, lr=0.2, decay=5e-5, warmup=5 / 300),
    }
)  # fmt: skip
"""``short`` for the digits and their like, ``modern`` for photographs, both ours; the others as published by UNAS."""


def find_recipe(name: str, **changes: Any) -> Recipe:
    """The recipe of that name, with changes; those that are None change nothing.

    Raises:
        RecipeError: If no recipe is called that, or a change is impossible.
        AugmentationError: If there is no such augmentation.
    """
    if name not in RECIPES:
        raise RecipeError(f"no recipe is called {name!r}", mend=did_you_mean(name, RECIPES))
    return replace(RECIPES[name], **{field: value for field, value in changes.items() if value is not None})
