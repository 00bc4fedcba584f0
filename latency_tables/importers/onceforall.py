"""Once-for-All: as ProxylessNAS, with ``se`` and ``hs``, ``expand`` in channels, and ``std`` instead of ``var``."""

from __future__ import annotations

from typing import final

from latency_tables.importers.mobile_rows import Block, MobileRows, fixed_key, residual_key, row_of
from profilers.opspec import Attribute

HARD_SWISH: dict[str, Attribute] = {"act": "hswish"}
"""Of the convolutions at both ends, in MobileNetV3 and so in Once-for-All."""
ACTIVATIONS = {0: "relu", 1: "hswish"}


@final
class OnceForAll(MobileRows):
    """Blocks of MobileNetV3: ``act``, ``mid`` (hidden channels) and ``se`` are attributes of their keys."""

    name = "onceforall"
    summary = "Once-for-All yaml: blocks with count, mean and std, in ms"

    line = row_of(r"-idskip:\d-se:\d-hs:\d")

    @staticmethod
    def key(block: Block) -> str | None:
        numbers = block.numbers
        if block.kind != "expanded_conv":
            return None if numbers else fixed_key(block, HARD_SWISH)
        wanted = {"expand", "kernel", "stride", "idskip", "se", "hs"}
        if numbers.keys() != wanted or not block.has_stride(numbers["stride"]) or numbers["hs"] not in ACTIVATIONS:
            return None
        attrs: dict[str, Attribute] = {name: numbers[name] for name in ("kernel", "stride", "se")}
        return residual_key(
            block, {**attrs, "act": ACTIVATIONS[numbers["hs"]], "mid": numbers["expand"], "out": block.out[2]}
        )
