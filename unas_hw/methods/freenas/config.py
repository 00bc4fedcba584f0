"""FreenasConfig: hyper-parameters of FreeNAS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unas_hw.search.method import MethodConfig
from unas_hw.settings import setting


@dataclass(frozen=True, kw_only=True)
class FreenasConfig(MethodConfig):
    """Hyper-parameters."""

    section: ClassVar[str] = "freenas"
    has_finals: ClassVar[bool] = True

    iterative: bool = setting(False, "Drop candidates in rounds.")
    keep: int = setting(2, "Candidates of each decision at which the rounds end.", low=1)
