"""Where the pixels of a data set are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, final

from torch import Tensor


class Pixels(ABC):
    """Images of one size that are read by their numbers."""

    in_memory: ClassVar[bool]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int, int]:
        """``(N, C, H, W)``."""

    @abstractmethod
    def read(self, rows: Tensor) -> Tensor:
        """``(len(rows), C, H, W)`` on the CPU: bytes, or floats in [0, 1]."""


@final
class Memory(Pixels):
    """A tensor; a file that is mapped into memory is one too."""

    in_memory = True

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        count, channels, height, width = self.tensor.shape
        return count, channels, height, width

    def read(self, rows: Tensor) -> Tensor:
        return self.tensor[rows]
