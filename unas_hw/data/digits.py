"""The digits that come with scikit-learn: 1,797 of 8 by 8 pixels."""

from __future__ import annotations

from typing import Any

import torch

from unas_hw.data.dataset import Source
from unas_hw.data.pixels import Memory

DIGITS = "digits"


def read() -> Source:
    """All of them, as one part."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / 16
    names = tuple(map(str, digits.target_names))
    return Source(Memory(images), torch.from_numpy(digits.target).long(), (len(images), 0, 0), names)
