"""The latency of an artifact, measured on its device beside the anchors of the table."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from latency_tables.coverage import profiler_of
from latency_tables.published import open_device
from profilers.environment import changed
from profilers.errors import ConversionError, MissingDependencyError, MissingDeviceError, UnknownNameError
from profilers.measurement import Measurement
from profilers.profiler import Profiler
from profilers.registry import find_runtime
from profilers.timing import TimingRule
from unas_hw.budget import Budget
from unas_hw.export.manifest import loadable
from unas_hw.meter import Meter, Reading, enough_for, reading_of
from unas_hw.progress import Job, Step
from unas_hw.search.published import STANDS_IN
from unas_hw.spaces import in_precision
from unas_hw.verify import MOST_MOVED
from unas_hw.verify.subject import Subject

PAUSES_S = (5, 15, 30)
"""Before it is measured again beside anchors that are not believed: what slows a shared host passes."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """What was measured, or why it was not.

    Attributes:
        reading: Of the artifact; None where it was not measured.
        found: Its samples.
        float32_ms: Of the same network in float32, in the same session, where the artifact is in a shorter type.
        details: What the runtime says of it, such as ``peak_memory_bytes``.
        device: Where it was measured.
        by_table: Whether the table's prediction is for it: of the same device, runtime and precision.
        for_budget: Whether the budget is for it: it takes the same batch.
        why: What was not done, and why.
    """

    reading: Reading | None = None
    found: Measurement | None = None
    float32_ms: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    device: str | None = None
    by_table: bool = False
    for_budget: bool = False
    why: str = ""

    @property
    def believed(self) -> bool:
        """Whether the anchors moved by so little that they tell the speed of the machine."""
        assert self.reading is not None  # who asks has one
        return max(self.reading.anchor_scale, 1 / self.reading.anchor_scale) <= MOST_MOVED

    @property
    def judged(self) -> Reading:
        """The reading that the budget is compared with: of the clock alone where the anchors cannot be believed."""
        assert self.reading is not None
        if self.believed:
            return self.reading
        return replace(self.reading, scaled_ms=self.reading.raw_ms, anchor_scale=1.0)

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        found = self.found
        return {
            "measured_ms": self.judged.judged_ms if self.reading else None,
            "reading": asdict(self.judged) if self.reading else None,
            "raw_ms": self.reading.raw_ms if self.reading else None,
            "anchor_scale": self.reading.anchor_scale if self.reading else None,
            "p50_ms": found.raw_ms if found else None,
            "p90_ms": found.raw_percentile_ms(90) if found else None,
            "by_table": self.by_table,
            "float32_ms": self.float32_ms,
            "peak_memory_bytes": self.details.get("peak_memory_bytes"),
        }


def measure(subject: Subject, device: str | None, rule: TimingRule) -> Job[Latency]:
    """Measures the artifact; on the device of the table by default.

    Raises:
        ConversionError: If it does not load there.
        MissingDeviceError: If the device that was asked for is not there.
    """
    table = subject.context.table
    header = table.header
    if subject.runtime is None:
        return Latency(
            why=f"{subject.fmt.name} files are source; unas-hw export --format torch-export makes what is timed"
        )
    if table.is_published and device is None:
        why = f"{STANDS_IN.format(table=header['device'])}: the file was not measured on {header['device']}"
        yield Step("judge", 0, 1, why)
        return Latency(why=why)
    simulated = header["runtime"] == "simulated" and device is None
    ours = device in (None, header["device"])
    by_table = ours and (simulated or header["runtime"] == subject.runtime)
    kinds = find_runtime(subject.runtime, runs_here=False).devices
    kind = "gpu" if header["fingerprint"].get("kind") == "gpu" else "cpu"
    elsewhere = device is None and not by_table and kind not in kinds
    where = device or (kinds[0] if elsewhere else str(header["device"]))

    def opened() -> Profiler:
        if by_table:
            return profiler_of(table)
        return open_device(where, runtime=subject.runtime, threads=max(1, header["threads"]))

    try:
        profiler = opened()
    except (MissingDeviceError, MissingDependencyError, UnknownNameError) as error:
        if device is not None:
            raise
        return Latency(why=f"{error.what}; on a machine that has it: unas-hw verify {subject.path} --device {where}")
    yield Step("measure", 0, 1)
    by_table = by_table and subject.manifest.precision == header["precision"] and subject.as_priced
    why = f"the budget is for {header['device']}" if elsewhere else ""
    if not subject.as_priced:
        why = f"the budget is for a batch of {subject.context.space.input_shape[0]}"
    if by_table and (what := changed(table.environment, profiler.environment())):
        yield Step("measure", 0, 1, f"{what} since the table was measured: the anchors beside the file are the scale")
    pauses_s = iter(() if simulated else PAUSES_S)
    try:
        while not (found := _measured(subject, profiler, rule, by_table=by_table, why=why)).believed:
            if (pause_s := next(pauses_s, None)) is None:
                break
            assert found.reading is not None  # believed is asked of it
            slower = f"the anchors take {1 / found.reading.anchor_scale:.2f} times as long as in the table"
            yield Step("measure", 0, 1, f"{slower}: measuring again in {pause_s} s, in case that passes")
            time.sleep(pause_s)
            profiler = opened()
        return found
    except ConversionError as error:
        if subject.runtime != "openvino" or subject.manifest.precision not in ("float16", "bfloat16"):
            raise
        return Latency(why=error.what)  # the processor has no such arithmetic; the file is right


def _measured(subject: Subject, profiler: Profiler, rule: TimingRule, *, by_table: bool, why: str) -> Latency:
    config, table = subject.context.run.config, subject.context.table
    budget = Budget(config["budget_ms"], None, config["percentile"], config["confidence"])
    rule = enough_for(rule, budget)
    workload = subject.workload
    workloads = [workload]
    with profiler, tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
        profiler.load_artifact(workload, loadable(subject.fmt, subject.path, Path(folder)), rule)
        details = profiler.details(workload.key)
        if subject.manifest.precision != "float32" and subject.as_priced:
            plain = in_precision(subject.context.space, "float32").workload(subject.context.architecture)
            runtime = find_runtime(str(subject.runtime), runs_here=False)
            path = Path(folder) / f"float32{runtime.suffix}"
            runtime.convert(subject.network, plain.op.shape, path)
            profiler.load_artifact(plain, path, rule)
            workloads.append(plain)
        if by_table:
            meter = Meter(
                subject.context.space, table, profiler, percentile=budget.percentile, confidence=budget.confidence
            )
            readings = meter.measured(workloads, label="verify", rule=rule)
        else:
            found = profiler.measure_all(workloads, rule, label="verify")
            readings = [
                (reading_of(found[each.key], budget.percentile, budget.confidence), found[each.key])
                for each in workloads
            ]
    (reading, measurement), *others = readings
    return Latency(
        reading=reading,
        found=measurement,
        float32_ms=others[0][0].raw_ms if others else None,
        details=details,
        device=profiler.device,
        by_table=by_table,
        for_budget=not why,
        why=why,
    )
