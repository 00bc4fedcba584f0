"""Precisions: in what type a network is computed, the last part of every key."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from profilers.errors import UnknownNameError

PRECISIONS: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "float32": ("fp32", 4),
        "tf32": ("tf32", 4),
        "bfloat16": ("bf16", 2),
        "float16": ("fp16", 2),
        "int8": ("int8", 1),
    }
)
"""The short name, and the bytes of an element. ``tf32`` is float32 whose products are of 19 bits, on NVIDIA GPUs;
``int8`` is 8 bits where a runtime has them, and float32 between."""


def parse_precision(text: str) -> str:
    """The precision of a short or long name; raises ``UnknownNameError``."""
    for name, (short, _) in PRECISIONS.items():
        if text.lower() in (name, short):
            return name
    shorts = ", ".join(short for short, _ in PRECISIONS.values())
    raise UnknownNameError(f"no precision is called {text!r}", mend=f"choose one of {shorts}")
