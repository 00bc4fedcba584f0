"""The unit that the name of a column says: ``latency_us``, ``Latency [µs]``, ``t/ms``; and whether it is of times."""

from __future__ import annotations

import re
import unicodedata

from profilers.errors import UnitError
from profilers.units import TIME_UNITS, UNITS

_WORD = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_BRACKETS = re.compile(r"[(\[{<]([^)\]}>]*)[)\]}>]")
_RATIO = re.compile(r"([^\W_]*)[\s_)\]]*(/|(?<![^\W_])per(?![^\W_]))[\s_(\[]*([^\W_]+)")
_SPELLINGS = frozenset(word for word, unit in TIME_UNITS.items() if unit in UNITS)
_WEAK = frozenset({"ns", "us", "s", "sec", "second"})
"""Words that are a unit only where units stand: in brackets, beside a stroke, or last."""
_STATISTIC = re.compile(
    r"mean|median|avg|average|min|minimum|max|maximum|std|sd|stdev|stddev|deviation|sem|err|error|total|sum|p\d+"
)
_OF_TIME = re.compile(
    rf"{_STATISTIC.pattern}|latency|latencies|lat|times?|t|duration|runtime|delay|elapsed|wall|cpu|gpu|npu"
)
_OTHER_UNIT = re.compile(
    r"fps|[kmg]?hz|qps|rps|ips|throughput|bandwidth|[nuµmk]j|[mk]w|[kmgt]i?b|[mgt]?flops|[mg]?macs|var|variance"
    r"|(ms|us|ns|s)2|percent|pct|cv"
)
_OTHER_QUANTITY = re.compile(
    r"rate|energy|joules?|power|watts?|memory|bytes?|accuracy|params|parameters|cycles|ticks|speed|speedup"
)
"""What numbers are of unless a unit of time stands there, longer than an ``s``."""
_NO_TIME = re.compile(
    r"%|(?<![^\W_])(s|sec|ms)\s*\^?\s*[-−]\s*1(?!\d)"
    r"|(images|imgs|samples|inferences|frames|tokens|items|queries|requests)[\W_]+(s|sec|second)[\W_]*$"
)


def unit_of_column(name: str) -> str | None:
    """The unit, one of ``UNITS``, that the name of a column of times says; None where it says none.

    Raises:
        UnitError: If it says two, or is of something else: ``images/s``.
    """
    text = _CAMEL.sub(" ", unicodedata.normalize("NFKC", name)).lower().replace("μ", "µ")
    words = _WORD.findall(text)
    last, outside = _last(words), _last(_WORD.findall(re.sub(r"['’]s\b", "", _BRACKETS.sub(" ", text))))
    inside = {word for part in _BRACKETS.findall(text) for word in _WORD.findall(part)}
    over, by, under = ratio.groups() if (ratio := _RATIO.search(text)) else ("", "", "")
    said = ({*words} - _WEAK | {last, outside, over, under} | inside) & _SPELLINGS
    units = sorted({TIME_UNITS[word] for word in said})
    rate = under in _SPELLINGS and not (by == "/" and _OF_TIME.fullmatch(over))
    other = any(map(_OTHER_UNIT.fullmatch, words)) or {"w", "j", "b"} & inside
    quantity = units in ([], ["s"]) and any(map(_OTHER_QUANTITY.fullmatch, words))
    if rate or other or quantity or _NO_TIME.search(text):
        raise UnitError(f"{name!r} is no column of times", mend=f"name one of latencies, in {', '.join(UNITS)}")
    if len(units) > 1:
        raise UnitError(f"{name!r} says two units, {' and '.join(units)}", mend="rename it in a copy of the file")
    return units[0] if units else None


def _last(words: list[str]) -> str:
    return next((word for word in reversed(words) if not (_STATISTIC.fullmatch(word) or word.isdigit())), "")
