"""What a table consists of: rows that were measured, and values that come from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from latency_tables import storage

OP, ANCHOR, NETWORK = "op", "anchor", "network"
MEASURED, PUBLISHED, ADAPTED, REGRESSED = "measured", "published", "adapted", "regressed"


@dataclass(frozen=True)
class Row:
    """One operation or network, before any statistics.

    The role is ``op``, ``anchor`` or ``network``; so many calls were averaged into each sample; parts are the keys of
    the operations of a network. ``details`` are what the device said: ``peak_memory_bytes``, ``clock``, ``provider``,
    ``statistic``.
    """

    key: str
    role: str
    calls: int
    macs: int
    params: int
    parts: tuple[str, ...]
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_record(self) -> storage.Record:
        """As a line of the file."""
        return {"record": "row", **self.__dict__, "parts": list(self.parts)}


@dataclass(frozen=True, kw_only=True)
class EnergyRow:
    """One window of an energy meter: so many calls, each of so much energy above the idle power that was subtracted."""

    key: str
    energy_mj: float
    calls: int
    window_s: float
    idle_w: float
    meter: str

    def to_record(self) -> storage.Record:
        """As a line of the file."""
        return {"record": "energy", **self.__dict__}

    @classmethod
    def from_record(cls, record: storage.Record) -> Self:
        """The inverse of ``to_record``."""
        return cls(**{each.name: record[each.name] for each in fields(cls)})


@dataclass(frozen=True, kw_only=True)
class Value:
    """The latency of an operation that was not measured here; a measurement of the same key replaces it.

    Attributes:
        key: Of its OpSpec.
        ms: The value.
        sd_ms: Standard deviation of the value itself (not of single calls); NaN where nothing is known of it.
        origin: ``published`` (another's table), ``adapted`` (from tables of other devices) or ``regressed`` (from
            the other rows of this table; never written to a file).
        source: What the origin calls it, word for word.
        params: Learned numbers of the operation, 0 where unknown.
    """

    key: str
    ms: float
    sd_ms: float
    origin: str
    source: str = ""
    params: int = 0

    def to_record(self) -> storage.Record:
        """As a line of the file; JSON has no NaN."""
        return {"record": "value", **self.__dict__, "sd_ms": None if math.isnan(self.sd_ms) else self.sd_ms}

    @classmethod
    def from_record(cls, record: storage.Record) -> Self:
        """The inverse of ``to_record``."""
        sd_ms = math.nan if record["sd_ms"] is None else record["sd_ms"]
        words = {name: record[name] for name in ("key", "ms", "origin", "source")}
        return cls(**words, sd_ms=sd_ms, params=record.get("params", 0))
