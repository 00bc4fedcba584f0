"""How far a search is, and the rates and the temperature that follow from it."""

from __future__ import annotations

import math

import torch

from unas_hw.methods.unas.config import UnasConfig


def set_rates(
    config: UnasConfig, weights: torch.optim.Optimizer, alpha: torch.optim.Optimizer, step: int, steps: int
) -> None:
    """Sets the rates of both optimisers for a step of all ``steps``.

    The weights learn in all of them, alpha in those after the warm-up: there its rate begins.
    """
    begin = round(steps * config.warmup_epochs / max(config.warmup_epochs + config.epochs, 1))
    for optimizer, high, low, done, count in (
        (weights, config.w_lr, config.w_lr_min, step, steps),
        (alpha, config.alpha_lr, config.alpha_lr_min, max(step - begin, 0), steps - begin),
    ):
        # The last step has the lowest rate; a schedule that divides by `count` never gets there.
        share = (1 + math.cos(math.pi * done / max(count - 1, 1))) / 2
        optimizer.param_groups[0]["lr"] = low + share * (high - low)


def progress_of(config: UnasConfig, images: int, number: int) -> float:
    """Share of the search, 0 to 1, at its step ``number``; 0 while warming up, where numbers are negative."""
    steps = config.epochs * (images // min(config.batch_size, images))
    return max(number, 0) / max(steps - 1, 1)
