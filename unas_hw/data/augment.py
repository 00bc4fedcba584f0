"""What is done to training images: whole batches at a time, on the device where they are.

Every step takes images ``(N, C, H, W)`` as networks see them and gives as many of the same size. Random numbers come
from a generator on the CPU: they are the same whatever the device.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from unas_hw.data.dataset import Form
from unas_hw.errors import AugmentationError

GREY = (0.299, 0.587, 0.114)
"""ITU-R BT.601: how bright red, green and blue are."""


class Step(ABC):
    """One thing that is done; its first field, if it has any, can follow its name: ``crop4``."""

    word: ClassVar[str]

    @abstractmethod
    def __call__(self, images: Tensor, generator: torch.Generator, form: Form | None) -> Tensor:
        """``form``: what was done to pixels, where that matters; None for images that are pixels in [0, 1]."""


@dataclass(frozen=True)
class Crop(Step):
    """Each image moved by up to so many pixels, with black around it (He et al., CVPR 2016, on CIFAR)."""

    word = "crop"
    padding: int = 4

    def __call__(self, images: Tensor, generator: torch.Generator, form: Form | None) -> Tensor:
        count, _, height, width = images.shape
        black = form.black if form else torch.zeros((), device=images.device)
        padded = pad(images - black, (self.padding,) * 4)
        top, left = torch.randint(0, 2 * self.padding + 1, (2, count), generator=generator).to(images.device)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view of every place that there is
        return windows[torch.arange(count, device=images.device), :, top, left] + black


@dataclass(frozen=True)
class Flip(Step):
    """Each image mirrored, left to right, or not."""

    word = "flip"

    def __call__(self, images: Tensor, generator: torch.Generator, form: Form | None) -> Tensor:
        turned = torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device) < 0.5
        return torch.where(turned, images.flip(-1), images)


@dataclass(frozen=True)
class Cutout(Step):
    """A square of each image becomes the mean (DeVries and Taylor, arXiv 1708.04552); its middle may be anywhere."""

    word = "cutout"
    size: int = 16

    def __call__(self, images: Tensor, generator: torch.Generator, form: Form | None) -> Tensor:
        count, _, *sides = images.shape
        inside = []
        for side in sides:
            begin = torch.randint(0, side, (count, 1), generator=generator) - self.size // 2
            places = torch.arange(side)
            inside.append((places >= begin) & (places < begin + self.size))
        hole = (inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(images.device)
        # Images without a mean that was taken off have half of all brightness instead.
        return images.masked_fill(hole, 0.0 if form else 0.5)


@dataclass(frozen=True)
class ResizedCrop(Step):
    """A part of each image, of 8 to 100% of its area and 3:4 to 4:3, enlarged (Szegedy et al., CVPR 2015).

    The part is cut from the image in the size that networks see, not from the file.
    """

    word = "resizedcrop"
    smallest: float = 0.08
    ratio: float = 4 / 3
    tries: ClassVar[int] = 10

    def __call__(self, images: Tensor, generator: torch.Generator, form: Form | None) -> Tensor:
        count = len(images)
        # As shares of the sides. What does not fit is drawn again; who has no luck in ten tries keeps all.
        area, skew = torch.rand(2, count, self.tries, generator=generator)
        area = self.smallest + (1 - self.smallest) * area
        skew = ((2 * skew - 1) * math.log(self.ratio)).exp()
        shares = torch.stack([(area * skew).sqrt(), (area / skew).sqrt()])
        fits = (shares <= 1).all(0)
        chosen = shares[:, torch.arange(count), fits.int().argmax(1)].where(fits.any(1), torch.ones(()))
        middle = (2 * torch.rand(2, count, generator=generator) - 1) * (1 - chosen)
        theta = torch.zeros(count, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1] = chosen
        theta[:, :, 2] = middle.T
        grid = affine_grid(theta.to(images), list(images.shape), align_corners=False)
        return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class Jitter(Step):
    """Brightness, contrast and saturation of each image times 1 - ``strength`` to 1 + ``strength``, in random order."""

    word = "jitter"
    strength: float = 0.4

    def __call__(self, images: Tensor, generator: torch.Generator, form: Form | None) -> Tensor:
        pixels = images * form.std + form.mean if form else images
        weights = torch.tensor(GREY if images.shape[1] == 3 else (1.0,)).to(images)
        order = torch.randperm(3, generator=generator).tolist()
        factors = 1 + self.strength * (2 * torch.rand(3, len(images), 1, 1, 1, generator=generator) - 1)
        for what in order:
            factor = factors[what].to(images)
            if what == 0:
                pixels = pixels * factor
            else:
                grey = torch.einsum("nchw,c->nhw", pixels, weights)[:, None]
                towards = grey if what == 2 else grey.mean((2, 3), keepdim=True)
                pixels = torch.addcmul(towards * (1 - factor), pixels, factor)
            pixels.clamp_(0, 1)
        return (pixels - form.mean) / form.std if form else pixels


@dataclass(frozen=True)
class Shift(Step):
    """The whole batch moved by up to so large a share of the side, the rim repeated; for characters."""

    word = "shift"
    share: float = 0.07

    def __call__(self, images: Tensor, generator: torch.Generator, form: Form | None) -> Tensor:
        reach = max(1, round(images.shape[-1] * self.share)) if self.share else 0
        top, left = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()
        padded = pad(images, (reach,) * 4, mode="replicate")
        return padded[..., top : top + images.shape[-2], left : left + images.shape[-1]]


STEPS: dict[str, type[Step]] = {step.word: step for step in (Crop, Flip, Cutout, ResizedCrop, Jitter, Shift)}


@final
@dataclass(frozen=True)
class Augmentation:
    """Steps, one after the other."""

    steps: tuple[Step, ...] = ()

    def __call__(self, images: Tensor, generator: torch.Generator, form: Form | None = None) -> Tensor:
        """Changed copies of images ``(N, C, H, W)``, by a generator on the CPU.

        ``form`` is ``Split.form`` of the images; None if they are pixels in [0, 1].
        """
        for step in self.steps:
            images = step(images, generator, form)
        return images

    def __bool__(self) -> bool:
        return bool(self.steps)

    def __str__(self) -> str:
        return ",".join(_text(step) for step in self.steps) or "none"

    @staticmethod
    def parse(text: str) -> Augmentation:
        """Steps from their names and, where one is given, their first number: ``crop4,flip,cutout16``; or ``none``.

        Raises:
            AugmentationError: If there is no such step, or it cannot have that number.
        """
        words = [word.strip() for word in text.split(",")]
        return Augmentation(() if text.strip() == "none" else tuple(map(_step, words)))


def _step(text: str) -> Step:
    match = re.fullmatch(r"([a-z]+)(\d+\.?\d*|\.\d+)?", text)
    kind = STEPS.get(match[1]) if match else None
    if match is None or kind is None:
        near = get_close_matches(text, STEPS, 1, 0.5)
        raise AugmentationError(
            f"{text!r} is no augmentation",
            mend=f"did you mean {near[0]}?" if near else f"commas between some of {', '.join(STEPS)}, or none",
        )
    if match[2] is None:
        return kind()
    numbers = fields(kind)  # type: ignore[arg-type]  # all steps are dataclasses
    whole = bool(numbers) and isinstance(numbers[0].default, int)
    if not numbers or (whole and not match[2].isdigit()) or (not whole and float(match[2]) > 1):
        takes = "no number" if not numbers else "pixels, a whole number" if whole else "a share from 0 to 1"
        raise AugmentationError(f"{match[1]} cannot be {text!r}", mend=f"{match[1]} takes {takes}")
    return kind(int(match[2]) if whole else float(match[2]))  # type: ignore[call-arg]


def _text(step: Step) -> str:
    numbers = fields(step)  # type: ignore[arg-type]
    return step.word + (f"{getattr(step, numbers[0].name):g}" if numbers else "")
