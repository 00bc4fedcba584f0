"""Batches: how many images at a time a file takes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from profilers.errors import UnitError

MOST = 1024
_DYNAMIC = re.compile(r"dynamic(?::(\d+)-(\d+))?")


@dataclass(frozen=True)
class Batches:
    """From the least to the most; one of them only where these are the same."""

    least: int
    most: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``8``, ``dynamic`` or ``dynamic:1-64``; raises ``UnitError``."""
        found = _DYNAMIC.fullmatch(text.strip())
        if text.strip().isdecimal():
            least = most = int(text)
        elif found:
            least, most = (int(found[1]), int(found[2])) if found[1] else (1, MOST)
        else:
            raise UnitError(f"{text!r} is not a batch", mend="write --batch 1, or --batch dynamic:1-64")
        if not 1 <= least <= most or (found and least == most):
            raise UnitError(f"{text!r} is no range of batches", mend="write --batch 1, or --batch dynamic:1-64")
        return cls(least, most)

    @property
    def dynamic(self) -> bool:
        """Whether there is more than one."""
        return self.least < self.most

    def takes(self, batch: int) -> bool:
        """Whether it is among them."""
        return self.least <= batch <= self.most

    def best(self, batch: int) -> int:
        """The nearest to a batch, which is the one to tune for."""
        return min(max(batch, self.least), self.most)

    def __str__(self) -> str:
        return f"dynamic:{self.least}-{self.most}" if self.dynamic else str(self.least)
