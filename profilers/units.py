"""Quantities with a unit, as users write them; inside, times are milliseconds."""

from __future__ import annotations

import math
import re

from profilers.errors import UnitError

_MS_PER_UNIT = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "min": 6e4, "h": 3.6e6}
_QUANTITY = re.compile(r"\s*([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|[+-]?\.\d+)\s*([a-zµ]*)\s*")


def parse_ms(text: str) -> float:
    """Milliseconds of ``80ms``, ``1.2s``, ``500us``; raises ``UnitError`` without a unit, or if not positive."""
    match = _QUANTITY.fullmatch(text.lower().replace("μ", "µ"))  # Greek mu for the micro sign
    if match is None:
        raise UnitError(f"{text!r} is not a time", mend="write a number and a unit, such as 80ms, 1.2s or 500us")
    number, unit = match.groups()
    if not unit and float(number) > 0:
        raise UnitError(f"{text!r} has no unit", mend=f"write {number}ms, {number}us or {number}s")
    if unit and unit not in _MS_PER_UNIT:
        raise UnitError(f"{text!r} has the unknown unit {unit!r}", mend=f"use one of {', '.join(_MS_PER_UNIT)}")
    value = float(number) * _MS_PER_UNIT.get(unit, 1.0)
    if not 0 < value < math.inf:
        raise UnitError(f"{text!r} is not a positive time", mend="write a positive number, such as 80ms")
    return value


def format_ms(ms: float) -> str:
    """Three digits and the unit that reads best: ``0.412 ms``, ``80.0 ms``, ``1.20 s``."""
    if ms >= 1000:
        return f"{ms / 1000:.2f} s"
    digits = 1 if ms >= 10 else 2 if ms >= 1 else 3
    return f"{ms:.{digits}f} ms" if ms >= 0.01 else f"{ms * 1000:.2f} us"
