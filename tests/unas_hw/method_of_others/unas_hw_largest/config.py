"""LargestConfig: its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from unas_hw.search.method import MethodConfig
from unas_hw.settings import setting


@dataclass(frozen=True, kw_only=True)
class LargestConfig(MethodConfig):
    """Settings."""

    section: ClassVar[str] = "largest"
    needs_budget: ClassVar[bool] = True

    tries: int = setting(32, "Networks that are drawn.", low=1, option="--tries", metavar="N")
    size: Literal["macs", "params"] = setting("macs", "By what they are ranked.")
