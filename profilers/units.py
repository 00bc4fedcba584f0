"""Quantities with a unit, as users write them; inside, times are milliseconds, energies millijoules."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from profilers.errors import UnitError

_QUANTITY = re.compile(r"\s*([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|[+-]?\.\d+)\s*([a-zµ]*)\s*")


@dataclass(frozen=True, kw_only=True)
class _Quantity:
    """How a quantity is written.

    Attributes:
        name: For messages, with its article.
        units: What one of each is, the spelling of messages; told apart without their case.
        examples: Texts that can be read, the first for short messages.
        usual: Units to offer where there is none.
    """

    name: str
    units: Mapping[str, float]
    examples: tuple[str, ...]
    usual: tuple[str, ...]

    def parse(self, text: str) -> float:
        """The quantity; raises ``UnitError`` without a unit unless it is counted, or if not positive."""
        match = _QUANTITY.fullmatch(text.lower().replace("μ", "µ"))  # Greek mu for the micro sign
        if match is None:
            raise UnitError(
                f"{text!r} is not {self.name}", mend=f"write a number and a unit, such as {_listed(self.examples)}"
            )
        number, unit = match.groups()
        scales = {name.lower(): scale for name, scale in self.units.items()}
        if not unit and "" not in scales and float(number) > 0:
            raise UnitError(f"{text!r} has no unit", mend=f"write {_listed([number + usual for usual in self.usual])}")
        if unit and unit not in scales:
            raise UnitError(
                f"{text!r} has the unknown unit {unit!r}", mend=f"use one of {', '.join(filter(None, self.units))}"
            )
        value = float(number) * scales.get(unit, 1.0)
        if not 0 < value < math.inf:
            noun = self.name.partition(" ")[2]
            raise UnitError(
                f"{text!r} is not a positive {noun}", mend=f"write a positive number, such as {self.examples[0]}"
            )
        return value


def _listed(texts: tuple[str, ...] | list[str]) -> str:
    return f"{', '.join(texts[:-1])} or {texts[-1]}"


_TIME = _Quantity(
    name="a time",
    units={"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "min": 6e4, "h": 3.6e6},
    examples=("80ms", "1.2s", "500us"),
    usual=("ms", "us", "s"),
)
_ENERGY = _Quantity(
    name="an energy",
    units={"nJ": 1e-6, "uJ": 1e-3, "µJ": 1e-3, "mJ": 1.0, "J": 1e3, "kJ": 1e6},
    examples=("40mJ", "0.04J", "40uJ"),
    usual=("mJ", "uJ", "J"),
)
_COUNT = _Quantity(
    name="a number",
    units={"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12},
    examples=("600M", "1.2G", "430k"),
    usual=(),
)
_BYTES = _Quantity(
    name="a size",
    units={
        "B": 1.0,
        **{f"{letter}B": 1e3**power for power, letter in enumerate("kMGT", 1)},
        **{f"{letter}iB": 1024.0**power for power, letter in enumerate("KMGT", 1)},
    },
    examples=("64MB", "1.5GiB", "512kB"),
    usual=("MB", "MiB", "kB"),
)


parse_ms = _TIME.parse
"""Milliseconds of ``80ms``, ``1.2s``, ``500us``; raises ``UnitError`` without a unit, or if not positive."""
parse_energy_mj = _ENERGY.parse
"""Millijoules of ``40mJ``, ``0.04J``, ``40uJ``; raises ``UnitError`` without a unit, or if not positive."""
parse_count = _COUNT.parse
"""The number in ``4M``, ``600M``, ``1.2G``, ``430k`` or ``430000``; raises ``UnitError`` if not positive."""
parse_bytes = _BYTES.parse
"""Bytes of ``64MB``, ``512kB`` (powers of 1000), ``1.5GiB`` (of 1024); raises ``UnitError`` like ``parse_ms``."""


def format_ms(ms: float) -> str:
    """Three digits and the unit that reads best: ``0.412 ms``, ``80.0 ms``, ``1.20 s``."""
    if ms >= 1000:
        return f"{ms / 1000:.2f} s"
    if ms < 1e-4:
        return f"{ms * 1e6:.2f} ns"
    digits = 1 if ms >= 10 else 2 if ms >= 1 else 3
    return f"{ms:.{digits}f} ms" if ms >= 0.01 else f"{ms * 1000:.2f} us"


def format_energy_mj(mj: float) -> str:
    """Up to three digits and the unit that reads best: ``412 uJ``, ``40 mJ``, ``1.2 J``."""
    return " ".join(_scaled(mj, {"nJ": 1e-6, "uJ": 1e-3, "mJ": 1.0, "J": 1e3}))


def format_count(number: float) -> str:
    """Up to three digits and the unit that reads best: ``96``, ``430k``, ``4.27M``, ``1.2G``."""
    return "".join(_scaled(number, {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}))


def format_bytes(size: float) -> str:
    """Up to three digits and the unit that reads best, of powers of 1000: ``512 kB``, ``64 MB``."""
    return " ".join(_scaled(size, {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}))


def _scaled(value: float, units: Mapping[str, float]) -> tuple[str, str]:
    """The number and the largest unit of which there is one or more, or else the smallest; ``units`` ascend."""
    rounded = float(f"{value:.3g}")  # or else 999.9 kB would be 1000 kB
    unit = [unit for unit, scale in units.items() if scale <= abs(rounded)][-1:] or list(units)[:1]
    return f"{rounded / units[unit[0]]:.3g}", unit[0]
