"""ProxylessNAS: ``expanded_conv-input:HxWxC-output:HxWxC-expand:3-kernel:5-stride:1-idskip:1: {count, mean, var}``."""

from __future__ import annotations

from typing import final

from latency_tables.importers.mobile_rows import Block, MobileRows, fixed_key, residual_key, row_of
from profilers.opspec import Attribute


@final
class ProxylessNas(MobileRows):
    """Blocks with ReLU6; ``expand`` is the ratio of hidden to input channels."""

    name = "proxylessnas"
    summary = "ProxylessNAS yaml: blocks with count, mean and var, in ms"

    line = row_of(r"-idskip:\d")

    @staticmethod
    def key(block: Block) -> str | None:
        if block.kind != "expanded_conv":
            return None if block.numbers else fixed_key(block, {})
        if block.numbers.keys() != {"expand", "kernel", "stride", "idskip"} or not block.has_stride(
            block.numbers["stride"]
        ):
            return None
        attrs: dict[str, Attribute] = {name: block.numbers[name] for name in ("expand", "kernel", "stride")}
        return residual_key(block, {**attrs, "out": block.out[2]})
