"""Quantities with a unit, as users write them; inside, times are milliseconds, energies millijoules."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from profilers.errors import UnitError

_QUANTITY = re.compile(r"\s*([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|[+-]?\.\d+)\s*([a-zA-Zµ]*)\s*")


@dataclass(frozen=True, kw_only=True)
class _Quantity:
    """How a quantity is written.

    Attributes:
        name: For messages, with its article.
        units: What one of each is, the spelling of messages; told apart without their case.
        examples: Texts that can be read, the first for short messages.
        usual: Units to offer where there is none.
        words: Other spellings of units, in lower case.
        others: Spellings, in their case, that are symbols of something a thousand times or an eighth as large.
    """

    name: str
    units: Mapping[str, float]
    examples: tuple[str, ...]
    usual: tuple[str, ...]
    words: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)

    def parse(self, text: str) -> float:
        """The quantity; raises ``UnitError`` without a unit unless it is counted, or if not positive."""
        match = _QUANTITY.fullmatch(_with_micro_sign(text))
        if match is None:
            raise UnitError(
                f"{text!r} is not {self.name}", mend=f"write a number and a unit, such as {_listed(self.examples)}"
            )
        number, unit = match.groups()
        scales = {name.lower(): scale for name, scale in self.units.items()}
        if unit in self.others:
            usual = next(name for name in self.units if name.lower() == unit.lower())
            raise UnitError(f"{text!r} is in {self.others[unit]}", mend=f"write {number}{usual}, if that is meant")
        unit = self.words.get(unit.lower(), unit.lower())
        scale = scales.get(unit)
        if not unit and scale is None and float(number) > 0:
            raise UnitError(f"{text!r} has no unit", mend=f"write {_listed([number + usual for usual in self.usual])}")
        if unit and scale is None:
            raise UnitError(
                f"{text!r} has the unknown unit {unit!r}",
                mend=f"use one of {', '.join(filter(None, self.units))}",
            )
        value = float(number) * (1.0 if scale is None else scale)
        if not 0 < value < math.inf:
            noun = self.name.partition(" ")[2]
            raise UnitError(
                f"{text!r} is not a positive {noun}", mend=f"write a positive number, such as {self.examples[0]}"
            )
        return value


def _listed(texts: tuple[str, ...] | list[str]) -> str:
    return f"{', '.join(texts[:-1])} or {texts[-1]}"


def _with_micro_sign(text: str) -> str:
    return text.replace("μ", "µ").replace("Μ", "µ")  # Greek mu, small and capital, for the micro sign


UNITS = ("ms", "us", "ns", "s")
"""Of latencies in files."""
_SPELLINGS = {
    "ns": "nsec nsecs nanos nanosec nanosecs nanosecond nanoseconds",
    "us": "µs usec usecs µsec micros microsec microsecs microsecond microseconds",
    "ms": "msec msecs millis millisec millisecs millisecond milliseconds",
    "s": "sec secs second seconds",
    "min": "mins minute minutes",
    "h": "hr hrs hour hours",
}
TIME_UNITS: Mapping[str, str] = MappingProxyType(
    {word: unit for unit, words in _SPELLINGS.items() for word in (unit, *words.split())}
)
"""Every spelling of a unit of time, in lower case, with the usual one."""
_TIME = _Quantity(
    name="a time",
    units={"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "min": 6e4, "h": 3.6e6},
    examples=("80ms", "1.2s", "500us"),
    usual=("ms", "us", "s"),
    words=TIME_UNITS,
)
_ENERGY = _Quantity(
    name="an energy",
    units={"nJ": 1e-6, "uJ": 1e-3, "µJ": 1e-3, "mJ": 1.0, "J": 1e3, "kJ": 1e6},
    examples=("40mJ", "0.04J", "40uJ"),
    usual=("mJ", "uJ", "J"),
    words={"joule": "j", "joules": "j", "millijoule": "mj", "millijoules": "mj"},
    others={"MJ": "megajoules"},
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
    others={"Kb": "kilobits", "Mb": "megabits", "Gb": "gigabits", "Tb": "terabits"},
)


parse_ms = _TIME.parse
"""Milliseconds of ``80ms``, ``1.2s``, ``500us``; raises ``UnitError`` without a unit, or if not positive."""
parse_energy_mj = _ENERGY.parse
"""Millijoules of ``40mJ``, ``0.04J``, ``40uJ``; raises ``UnitError`` without a unit, or if not positive."""
parse_count = _COUNT.parse
"""The number in ``4M``, ``600M``, ``1.2G``, ``430k`` or ``430000``; raises ``UnitError`` if not positive."""
parse_bytes = _BYTES.parse
"""Bytes of ``64MB``, ``512kB`` (powers of 1000), ``1.5GiB`` (of 1024); raises ``UnitError`` like ``parse_ms``."""


def time_unit(text: str) -> str:
    """That of ``UNITS`` which people write ``µs``, ``msec`` or ``seconds``; raises ``UnitError``."""
    found = TIME_UNITS.get(_with_micro_sign(text).strip().lower())
    if found not in UNITS:
        raise UnitError(f"{text!r} is no unit of latencies", mend=f"write one of {', '.join(UNITS)}")
    return found


def to_ms(time: float, unit: str) -> float:
    """Milliseconds of a time in one of ``UNITS``, rounded once."""
    scale = _TIME.units[unit]
    return time * scale if scale >= 1 else time / round(1 / scale)


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
