"""LatencyTable: what a device takes for each operation, and how far that can be trusted."""

from __future__ import annotations

import hashlib
import math
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from latency_tables import reading, storage
from latency_tables.calibration import Calibration, Observed, noise_floor
from latency_tables.errors import ForeignTableError, MissingEntryError, NoisyTableError
from latency_tables.frame import frame_of
from latency_tables.rows import ANCHOR, MEASURED, NETWORK, OP, PUBLISHED, REGRESSED, EnergyRow, Row, Value
from latency_tables.sessions import merged, moved, reference_of, session_scale
from profilers.measurement import Measurement
from profilers.opspec import OpSpec
from profilers.timing import Sample, odd_even_ms

MAX_NOISE_FLOOR = 3.0
"""Percent; above it a table is refused."""


class LatencyTable:
    """The rows of one device, runtime and number of threads.

    Long, as it is one subject: what can be asked of these rows, each question in a few lines.

    Attributes:
        path: Where it came from.
        header: Its first line.
        rows: Of what was measured, by key.
        samples: Per session, in the order in which they were taken.
        values: Of what was not, by key.
        energies: Windows of an energy meter, in the order in which they were measured.
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
        values: Iterable[Value] = (),
        energies: Iterable[EnergyRow] = (),
    ) -> None:
        self.path = path
        self.header = header
        self.rows = rows
        self.samples = samples
        self.sessions = tuple(sessions)
        self.calibration = calibration or Calibration()
        self.values = {value.key: value for value in values}
        self.energies = tuple(energies)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a table; raises ``FileError`` or ``DamagedTableError``."""
        return cls(path, **reading.read(path))

    def with_values(self, values: Iterable[Value], calibration: Calibration | None = None) -> Self:
        """The same table with these values too."""
        return type(self)(
            self.path,
            self.header,
            self.rows,
            self.samples,
            self.sessions,
            calibration or self.calibration,
            (*self.values.values(), *values),
            self.energies,
        )

    def rescale(self, factor: float) -> None:
        """Brings along what no sample holds, where the measured rows are brought to another speed of the machine."""
        self.values = {
            key: replace(value, ms=value.ms * factor, sd_ms=value.sd_ms * factor) for key, value in self.values.items()
        }
        self.calibration = self.calibration.rescaled(factor)

    def save(self) -> None:
        """Writes the table whole."""
        storage.write(self.path, self.header, self.records())

    def records(self) -> tuple[storage.Record, ...]:
        """All lines of a finished table but the header, each row with its samples."""
        where: dict[str, list[list[Any]]] = {key: [] for key in self.rows}
        for session, taken in self.samples.items():
            for sample in taken:
                where[sample.key].append([session, sample.tick, sample.ms, sample.drifted])
        rows = ({**row.to_record(), "samples": where[row.key]} for row in self.rows.values())
        values = (value.to_record() for value in self.values.values() if value.origin != REGRESSED)
        energies = (energy.to_record() for energy in self.energies)
        return (*self.sessions, *rows, *energies, *values, self.calibration.to_record())

    @property
    def is_published(self) -> bool:
        """Whether the table is a publisher's: no device is there to measure."""
        return bool(self.header["fingerprint"].get("kind") == PUBLISHED)

    def mend(self, words: str) -> str:
        """How the table could get a row that it lacks."""
        if self.is_published:
            return "a published table has what was published: unas-hw tables show lists it; unas-hw profile measures"
        return f"unas-hw profile --device {shlex.quote(self.header['device'])} {words}"

    @cached_property
    def hash(self) -> str:
        """Of the content that predictions depend on: device, rows and calibration."""
        values = {value.key: round(value.ms, 9) for value in self.values.values()}
        values |= {key: round(found.median_ms, 9) for key, found in self.measurements.items()}
        text = repr((self.header["fingerprint"], sorted(values.items()), self.calibration))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def environment(self) -> dict[str, Any]:
        """The machine at the time of the table; empty where nothing was measured."""
        known: dict[int, dict[str, Any]] = {record["session"]: record["environment"] for record in self.sessions}
        return known.get(reference_of(self.samples, self.sessions), {}) if self.samples else {}

    @cached_property
    def measurements(self) -> dict[str, Measurement]:
        """Every row that has enough samples; the anchors bring sessions to the speed of the longest one, or of the last
        that was taken to refresh the table.
        """
        return merged(self.samples, self.sessions, self.rows)

    @cached_property
    def energy_mj(self) -> dict[str, float]:
        """Of one call above idle: the median of the row's windows."""
        windows: dict[str, list[float]] = {}
        for energy in self.energies:
            windows.setdefault(energy.key, []).append(energy.energy_mj)
        return {key: float(np.median(values)) for key, values in windows.items()}

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One line a row: role, latency, origin, statistics (``_ms``), samples, flags, arithmetic.

        What was not measured has a latency, its ``sd_ms`` and its source; the statistics of samples are NaN.
        """
        return frame_of(self.measurements, self.rows, self.values, self.energy_mj)

    def keys(self, role: str) -> tuple[str, ...]:
        """Keys of one role: what was measured, and of operations what has another value."""
        measured = tuple(key for key in self.measurements if self.rows[key].role == role)
        return (*measured, *(key for key in self.values if key not in self.measurements)) if role == OP else measured

    def origin(self, key: str) -> str:
        """Where the row's value comes from; ``measured`` comes first."""
        return MEASURED if key in self.measurements else self.values[key].origin

    def deviation(self, key: str) -> float:
        """Standard deviation of the row's value as a share of it; 0 where nothing is known of it."""
        if key in self.measurements:
            return self.measurements[key].deviation
        sd_ms = self.values[key].sd_ms
        return 0.0 if math.isnan(sd_ms) else sd_ms / self.values[key].ms

    def latency_ms(self, key: str) -> float:
        """The row's value, uncalibrated; raises ``MissingEntryError`` naming the nearest row."""
        if key in self.values and key not in self.measurements:
            return self.values[key].ms
        if key not in self.measurements:
            near = get_close_matches(key, self.keys(OP), n=1, cutoff=0)
            raise MissingEntryError(
                f"{self.path.name} has no row for {key}" + (f"; the nearest is {near[0]}" if near else ""),
                mend=self.mend("for the space that has this operation"),
            )
        return self.measurements[key].median_ms

    def observed(
        self, networks: Iterable[tuple[str, Sequence[str]]], measured: dict[str, Measurement], scale: float = 1.0
    ) -> Observed:
        """Networks (key and keys of their parts) with their measurements, against the rows of this table."""
        pairs = [(key, Counter(parts)) for key, parts in networks]
        keys = tuple(dict.fromkeys(part for _, parts in pairs for part in parts))
        halves = [odd_even_ms(measured[key].corrected_ms) for key, _ in pairs]
        sizes = [self._size(key) for key in keys]
        return Observed(
            keys=keys,
            rows_ms=np.array([self.latency_ms(key) for key in keys]),
            inputs=np.array([inputs for inputs, _ in sizes]),
            weights=np.array([weights for _, weights in sizes]),
            deviations=np.array([self.deviation(key) for key in keys]),
            counts=np.array([[float(parts[key]) for key in keys] for _, parts in pairs]),
            measured_ms=np.array([measured[key].median_ms * scale for key, _ in pairs]),
            odd_ms=np.array([odd for odd, _ in halves]),
            even_ms=np.array([even for _, even in halves]),
        )

    def _size(self, key: str) -> tuple[float, float]:
        """Elements of the input and learned numbers of an operation, in millions."""
        params = self.rows[key].params if key in self.rows else self.values[key].params
        return OpSpec.from_key(key).numel / 1e6, params / 1e6

    def price_ms(self, key: str) -> float:
        """What an operation adds to the latency of a network; raises ``MissingEntryError`` naming the nearest row."""
        row_ms = self.latency_ms(key)
        return self.calibration.price_ms(key, row_ms, *self._size(key))

    def sum_ms(self, keys: Iterable[str]) -> float:
        """The sum that ``Calibration.bend`` makes a latency of: all operations of a network, and the intercept."""
        return sum(map(self.price_ms, keys)) + self.calibration.intercept_ms

    def predict_ms(self, keys: Iterable[str]) -> float:
        """The latency of a network of these operations."""
        return float(self.calibration.bend(self.sum_ms(keys)))

    def row_deviation(self, keys: Iterable[str]) -> float:
        """What the rows of a network leave open: a standard deviation as a share of their sum."""
        counts = Counter(keys)
        open_ms = [count * self.latency_ms(key) * self.deviation(key) for key, count in counts.items()]
        return math.hypot(*open_ms) / sum(count * self.latency_ms(key) for key, count in counts.items())

    @property
    def noise_floor(self) -> float:
        """Percent; NaN where no whole network was measured."""
        keys = (*self.keys(ANCHOR), *self.keys(NETWORK))
        halves = [odd_even_ms(self.measurements[key].corrected_ms) for key in keys]
        return noise_floor(*np.array(halves).T) if keys else math.nan

    def anchor_scale(self, measured: dict[str, Measurement]) -> float:
        """Factor that brings measurements of another session to the time of this table; 1 without anchors."""
        times = {key: np.array(found.corrected_ms) for key, found in measured.items()}
        reference = {key: np.array(found.corrected_ms) for key, found in self.measurements.items()}
        anchors = set(self.keys(ANCHOR))
        return session_scale(reference, times, anchors) if anchors & measured.keys() else 1.0

    @cached_property
    def session_scales(self) -> tuple[float, ...]:
        """The same of the table's own sessions but the one whose speed is the table's: how far the device drifted."""
        return moved(self.samples, self.sessions, self.rows)

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
        """Raises ``NoisyTableError`` above ``MAX_NOISE_FLOOR``, and where something was measured, but no network."""
        if math.isnan(self.noise_floor) and self.samples:
            raise NoisyTableError(
                f"{self.path.name} has no whole network, so nothing tells how noisy its rows are",
                mend=f"unas-hw tables calibrate {self.path}",
            )
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
