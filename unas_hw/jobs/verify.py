"""Verify: an artifact against the network that it should be, on the device that it is for."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from profilers.errors import ConversionError, DeviceLostError, FileError
from profilers.registry import find_runtime
from profilers.runtimes.onnx_file import default_opset
from profilers.timing import TimingRule
from unas_hw.errors import ExportError
from unas_hw.export.manifest import Manifest, find_manifest, manifests
from unas_hw.progress import Job, Step
from unas_hw.runs import Run
from unas_hw.tasks import is_task
from unas_hw.training import accuracy
from unas_hw.verify import Check, Verdict, budget_check, budget_missed, published_check, table_checks
from unas_hw.verify.artifact import open_run
from unas_hw.verify.latency import Latency, measure
from unas_hw.verify.onnx_file import onnx_checks, runtime_warnings
from unas_hw.verify.outputs import accuracy_checks, output_checks, runner
from unas_hw.verify.report import write_reports
from unas_hw.verify.subject import Subject

BROKEN = "files that do not load or run"


def verify(
    artifact: str | None = None,
    *,
    run: str | None = None,
    format_name: str | None = None,
    device: str | None = None,
    rule: TimingRule | None = None,
) -> Job[dict[str, Any]]:
    """Verifies an artifact; by default what a run, the last one, has exported last.

    Args:
        artifact: Path of one of its files, with its manifest beside it.
        run: That it came from; by default the manifest's, or the last one.
        format_name: Of several artifacts of a run.
        device: Where it is run and measured; by default the device of the run's table.
        rule: When a measurement is good enough.

    Returns:
        ``passed``, ``format``, ``precision``, ``batches``, ``path``, ``bytes``, ``max_abs_error``, ``top1_agreement``,
        ``test_accuracy`` (None of a policy), ``test_return`` (of one that was trained), ``artifact_accuracy`` (of a
        shorter type), ``predicted_ms``, ``measured_ms``, ``p50_ms``, ``p90_ms``, ``float32_ms`` (of the same network
        beside a shorter type), ``peak_memory_bytes``, ``budget_ms``,
        ``device``, ``input_shape`` of the file and ``priced_input_shape`` that the budget is for, ``layers`` (the types
        that layers of an engine run in), ``checks``, ``not_checked`` and why, and ``budget_missed``: whether nothing
        else failed. It lies beside the artifact too, as ``report.json`` and ``report.md``.

    Raises:
        ExportError: If there is no such artifact, or nothing tells what it should be.
    """
    if artifact is not None:
        path, manifest = find_manifest(Path(artifact))
        around = path.resolve().parent.parent  # a run that was moved, or copied, is where its file is
        context = open_run(run or (str(around) if (around / "config.json").is_file() else manifest.run))
    else:
        context = open_run(run)
        path, manifest = _last(context.run.path / "export", format_name, context.run.path.name)
    if str(context.architecture) != manifest.architecture:
        raise ExportError(
            f"{path} is {manifest.architecture}; the network of {context.run.path} is {context.architecture} now",
            mend=f"unas-hw export --run {context.run.path.name} --format {manifest.format}",
        )
    return (yield from verified(Subject(context, manifest, path), device, rule or TimingRule()))


def _last(folder: Path, format_name: str | None, run: str) -> tuple[Path, Manifest]:
    for each in manifests(folder):
        path, manifest = find_manifest(each)
        if format_name in (None, manifest.format):
            return path, manifest
    words, kind = (f" --format {format_name}", f" of format {format_name}") if format_name else ("", "")
    raise ExportError(f"{folder} holds no exported model{kind}", mend=f"unas-hw export --run {run}{words}")


def verified(subject: Subject, device: str | None, rule: TimingRule) -> Job[dict[str, Any]]:
    """All checks of ``verify``, and its reports."""
    manifest = subject.manifest
    changed = manifest.changed(subject.path)
    checks = [Check("files changed since the export (SHA-256)", len(changed), 0, ", ".join(changed))]
    not_checked: list[str] = []
    if subject.onnx is not None:
        yield Step("check the file", 0, 1)
        checks += _file_checks(subject, subject.onnx)
    yield Step("compare outputs", 0, 1)
    try:
        with runner(subject, device, not_checked) as run:
            checks += output_checks(subject, run)
            if manifest.precision != "float32":
                yield Step("accuracy", 0, 1)
                checks += accuracy_checks(subject, run)
        latency = yield from measure(subject, device, rule)
    except (ConversionError, DeviceLostError, ExportError, FileError) as error:
        if isinstance(error, DeviceLostError) and device is not None:
            raise  # a connection that broke says nothing of the file
        checks.append(Check(BROKEN, 1, 0, error.what))
        latency = Latency(why="the file does not load or run")
    result = subject.context.run.read_json("result.json")
    checks += _promise(subject, latency, result)
    if latency.why:
        not_checked.append(f"latency: {latency.why}")
    report = _report(subject, checks, latency, result) | {"not_checked": not_checked, "repair": None}
    write_reports(subject.path.parent, report)
    return report


def _file_checks(subject: Subject, path: Path) -> Iterator[Check]:
    """Of an ONNX file, or of that of which an engine was built."""
    manifest, precision = subject.manifest, subject.stored
    with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
        profiled = Path(folder) / "profiled.onnx"
        timed = find_runtime("tensorrt" if manifest.format == "tensorrt" else "onnxruntime", runs_here=False)
        plain = "float32" if precision == "bfloat16" else precision  # which has the same nodes
        timed.convert(subject.network, tuple(manifest.input_shape), profiled, plain)
        yield from onnx_checks(
            path,
            profiled,
            opset=manifest.opset or default_opset(precision),
            batches=manifest.range,
            precision=precision,
            properties=manifest.metadata,
        )
    if precision != "bfloat16":  # which onnxruntime does not run on a CPU
        yield runtime_warnings(path)


def _promise(subject: Subject, latency: Latency, result: dict[str, Any]) -> Iterator[Check]:
    """The budget, and the types of an engine's layers."""
    if subject.fmt.name == "tensorrt":
        from unas_hw.export.tensorrt import precision_faults

        layers = latency.details.get("layers") or subject.manifest.facts.get("layers") or {}
        faults = precision_faults(layers, subject.manifest.precision) if layers else math.nan
        yield Check(f"layers of the engine not in {subject.manifest.precision}", faults, 0)
    table, reading = subject.context.table, latency.reading
    if reading is None:
        if table.is_published and subject.as_priced:
            yield published_check(result["predicted_ms"], result["budget_ms"])
    elif latency.for_budget:
        yield budget_check(latency.judged.upper_ms, result["budget_ms"])
        if latency.by_table:
            yield from table_checks(latency.judged.judged_ms, result["predicted_ms"], reading.anchor_scale)


def _report(subject: Subject, checks: list[Check], latency: Latency, result: dict[str, Any]) -> dict[str, Any]:
    context, manifest = subject.context, subject.manifest
    verdict = Verdict(tuple(checks))
    errors = [check.seen for check in checks if check.name.startswith("max_abs_error")]
    disagreements = [check.seen for check in checks if check.name.startswith("top1_disagreement")]
    shape = list(context.space.input_shape)
    table, plays = context.table, is_task(context.data.origin)
    return {
        "passed": bool(verdict),
        "format": manifest.format,
        "precision": manifest.precision,
        "batches": manifest.batches,
        "path": str(subject.path),
        "bytes": sum(each.stat().st_size for each in subject.fmt.files(subject.path) if each.is_file()),
        "max_abs_error": max(errors, default=math.inf),
        "top1_agreement": 1 - max(disagreements, default=math.inf),
        "test_accuracy": None if plays else accuracy(subject.network, context.data.test),
        "test_return": _return(context.run) if plays else None,
        "predicted_ms": result["predicted_ms"],
        **latency.to_json(),
        "latency_from": "table" if table.is_published and latency.reading is None else "measurement",
        "budget_ms": result["budget_ms"],
        "budget_missed": budget_missed(checks),
        "device": latency.device or table.header["device"],
        "runtime": subject.runtime,
        "input_shape": shape,
        "priced_input_shape": context.run.config.get("priced_input_shape", shape),
        "layers": latency.details.get("layers") or manifest.facts.get("layers"),
        "architecture": manifest.architecture,
        "run": str(context.run.path),
        "manifest": asdict(manifest),
        "checks": [check.to_json() for check in checks],
    }


def _return(run: Run) -> float | None:
    """What training found that the policy earns."""
    told = "train/result.json"
    return float(run.read_json(told)["test_return"]) if (run.path / told).is_file() else None
