"""LatencyTable: what a device takes for each operation, and how far that can be trusted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from latency_tables import storage
from latency_tables.calibration import Calibration, Observed
from latency_tables.errors import DamagedTableError, ForeignTableError, MissingEntryError, NoisyTableError
from profilers.measurement import MIN_SAMPLES, Measurement
from profilers.profiler import SENTINEL
from profilers.timing import Floats, Sample, corrected_ms, odd_even_ms

OP, ANCHOR, NETWORK = "op", "anchor", "network"
MAX_NOISE_FLOOR = 3.0
"""Percent; above it a table is refused."""


@dataclass(frozen=True)
class Row:
    """One operation or network, before any statistics.

    Attributes:
        key: Of its OpSpec.
        role: ``op``, ``anchor`` or ``network``.
        calls: Averaged into each sample.
        macs, params: By arithmetic.
        parts: Keys of the operations of a network.
    """

    key: str
    role: str
    calls: int
    macs: int
    params: int
    parts: tuple[str, ...]

    def to_record(self) -> storage.Record:
        """As a line of the file."""
        return {"record": "row", **self.__dict__, "parts": list(self.parts)}


class LatencyTable:
    """The rows of one device, runtime and number of threads.

    Attributes:
        path: Where it came from.
        header: Its first line.
        rows: By key.
        samples: Per session, in the order in which they were taken.
        calibration: The last one; identity if there is none.
    """

    def __init__(
        self,
        path: Path,
        header: storage.Record,
        rows: dict[str, Row],
        samples: dict[int, list[Sample]],
        sessions: Sequence[storage.Record] = (),
        calibration: Calibration | None = None,
    ) -> None:
        self.path = path
        self.header = header
        self.rows = rows
        self.samples = samples
        self.sessions = tuple(sessions)
        self.calibration = calibration or Calibration()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a table; raises ``FileError`` or ``DamagedTableError``."""
        content = storage.read(path)
        rows: dict[str, Row] = {}
        samples: dict[int, list[Sample]] = {}
        sessions, calibration = [], None
        for record in content.records:
            kind = record["record"]
            if kind == "row":
                names = ("key", "role", "calls", "macs", "params")
                row = Row(**{name: record[name] for name in names}, parts=tuple(record["parts"]))
                rows[row.key] = row
                for session, tick, ms, drifted in record.get("samples", ()):
                    samples.setdefault(session, []).append(Sample(row.key, ms, row.calls, tick, drifted))
            elif kind == "sample":
                if record["key"] not in rows:
                    raise DamagedTableError(
                        f"{path} has a sample of {record['key']} but no row before it",
                        mend=f"measure a new one: unas-hw profile --table {path.with_name('new.jsonl')}",
                    )
                calls = rows[record["key"]].calls
                sample = Sample(record["key"], record["ms"], calls, record["tick"], record["drifted"])
                samples.setdefault(record["session"], []).append(sample)
            elif kind == "session":
                sessions.append(record)
            elif kind == "calibration":
                calibration = Calibration.from_record(record)
        for taken in samples.values():
            taken.sort(key=lambda sample: sample.tick)
        # In the order of the sessions, not of the rows: values must not change when a table is saved.
        return cls(path, content.header, rows, dict(sorted(samples.items())), sessions, calibration)

    def save(self) -> None:
        """Writes the table whole, each row with its samples."""
        where: dict[str, list[list[Any]]] = {key: [] for key in self.rows}
        for session, taken in self.samples.items():
            for sample in taken:
                where[sample.key].append([session, sample.tick, sample.ms, sample.drifted])
        rows = ({**row.to_record(), "samples": where[row.key]} for row in self.rows.values())
        storage.write(self.path, self.header, (*self.sessions, *rows, self.calibration.to_record()))

    @cached_property
    def hash(self) -> str:
        """Of the content that predictions depend on: device, rows and calibration."""
        values = {key: round(found.median_ms, 9) for key, found in self.measurements.items()}
        text = repr((self.header["fingerprint"], sorted(values.items()), self.calibration))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def measurements(self) -> dict[str, Measurement]:
        """Every row that has enough samples; sessions are brought to the speed of the longest by the anchors."""
        corrected = {session: corrected_ms(taken) for session, taken in self.samples.items()}
        if not corrected:
            return {}
        reference = max(self.samples, key=lambda session: len(self.samples[session]))
        fixed = {SENTINEL.key, *(row.key for row in self.rows.values() if row.role == ANCHOR)}
        scaled: dict[str, list[float]] = {}
        raw: dict[str, list[float]] = {}
        for session, times in corrected.items():
            scale = _session_scale(corrected[reference], times, fixed)
            for key, values in times.items():
                scaled.setdefault(key, []).extend((values * scale).tolist())
            for sample in self.samples[session]:
                raw.setdefault(sample.key, []).append(sample.ms)
        return {
            key: Measurement(
                key=key, samples_ms=tuple(raw[key]), corrected_ms=tuple(values), calls=self.rows[key].calls
            )
            for key, values in scaled.items()
            if key in self.rows and len(values) >= MIN_SAMPLES
        }

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One line a row: role, latency and its statistics (``_ms``), samples, flags, arithmetic."""
        lines = []
        for key, found in self.measurements.items():
            row = self.rows[key]
            raw = np.percentile(found.samples_ms, [10, 90])
            lines.append(
                {
                    "key": key,
                    "role": row.role,
                    "latency_ms": found.median_ms,
                    "raw_ms": found.raw_ms,
                    "p10_ms": float(raw[0]),
                    "p90_ms": float(raw[1]),
                    "min_ms": min(found.samples_ms),
                    "spread": found.spread,
                    "half_width": found.half_width,
                    "samples": len(found.samples_ms),
                    "calls": row.calls,
                    "flags": ",".join(found.flags),
                    "macs": row.macs,
                    "params": row.params,
                }
            )
        return pd.DataFrame(lines).set_index("key") if lines else pd.DataFrame({"key": []}).set_index("key")

    def keys(self, role: str) -> tuple[str, ...]:
        """Keys of the measured rows of one role."""
        return tuple(key for key in self.measurements if self.rows[key].role == role)

    def latency_ms(self, key: str) -> float:
        """The row's value, uncalibrated; raises ``MissingEntryError`` naming the nearest row."""
        if key not in self.measurements:
            near = get_close_matches(key, self.keys(OP), n=1, cutoff=0)
            raise MissingEntryError(
                f"{self.path.name} has no row for {key}" + (f"; the nearest is {near[0]}" if near else ""),
                mend=f"unas-hw profile --device {self.header['device']} for the space that has this operation",
            )
        return self.measurements[key].median_ms

    def observed(
        self, networks: Iterable[tuple[str, Sequence[str]]], measured: dict[str, Measurement], scale: float = 1.0
    ) -> Observed:
        """Networks (key and keys of their parts) with their measurements, against the rows of this table."""
        pairs = list(networks)
        halves = [odd_even_ms(measured[key].corrected_ms) for key, _ in pairs]
        return Observed(
            sums_ms=np.array([sum(self.latency_ms(part) for part in parts) for _, parts in pairs]),
            operations=np.array([float(len(parts)) for _, parts in pairs]),
            measured_ms=np.array([measured[key].median_ms * scale for key, _ in pairs]),
            odd_ms=np.array([odd for odd, _ in halves]),
            even_ms=np.array([even for _, even in halves]),
        )

    @property
    def noise_floor(self) -> float:
        """Percent; NaN where no whole network was measured."""
        keys = (*self.keys(ANCHOR), *self.keys(NETWORK))
        if not keys:
            return float("nan")
        return self.observed([(key, self.rows[key].parts) for key in keys], self.measurements).noise_floor

    def anchor_scale(self, measured: dict[str, Measurement]) -> float:
        """Factor that brings measurements of another session to the time of this table; 1 without anchors."""
        times = {key: np.array(found.corrected_ms) for key, found in measured.items()}
        reference = {key: np.array(found.corrected_ms) for key, found in self.measurements.items()}
        anchors = set(self.keys(ANCHOR))
        return _session_scale(reference, times, anchors) if anchors & measured.keys() else 1.0

    def tail_ratio(self, percent: float) -> float:
        """What that percentile of a whole network is to its median, over the networks of the table; as clocked."""
        if percent == 50:
            return 1.0
        keys = (*self.keys(ANCHOR), *self.keys(NETWORK)) or self.keys(OP)
        return float(
            np.median(
                [self.measurements[key].raw_percentile_ms(percent) / self.measurements[key].raw_ms for key in keys]
            )
        )

    def refuse_noise(self) -> None:
        """Raises ``NoisyTableError`` above ``MAX_NOISE_FLOOR``."""
        if self.noise_floor > MAX_NOISE_FLOOR:
            raise NoisyTableError(
                f"{self.path.name}: two halves of the same measurements differ by {self.noise_floor:.1f}%, "
                f"more than {MAX_NOISE_FLOOR:g}%: no budget can be kept with it",
                mend=f"close other programs and measure on: unas-hw profile --table {self.path} --more",
            )

    def refuse_foreign(self, fingerprint: dict[str, str | int], runtime: str, threads: int) -> None:
        """Raises ``ForeignTableError`` unless the table is of this device, runtime and number of threads."""
        ours = {
            "device": self.header["fingerprint"],
            "runtime": self.header["runtime"],
            "threads": self.header["threads"],
        }
        for name, seen in {"device": fingerprint, "runtime": runtime, "threads": threads}.items():
            if ours[name] != seen:
                raise ForeignTableError(
                    f"{self.path.name} is a table of another {name}: {_words(ours[name])}, not {_words(seen)}",
                    mend="unas-hw tables list names the tables there are; unas-hw profile measures this device",
                )


def _words(value: Any) -> str:
    return ", ".join(str(part) for part in value.values()) if isinstance(value, dict) else str(value)


def _session_scale(reference: dict[str, Floats], times: dict[str, Floats], fixed: set[str]) -> float:
    shared = [key for key in times if key in reference and len(times[key]) and len(reference[key])]
    anchors = [key for key in shared if key in fixed] or shared
    if reference is times or not anchors:
        return 1.0
    return float(np.median([np.median(reference[key]) / np.median(times[key]) for key in anchors]))
