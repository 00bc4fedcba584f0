"""Export and verify: a run's network as a file, compared with the network and measured against the budget."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from latency_tables.coverage import profiler_of
from profilers.devices.local import LocalProfiler
from profilers.environment import changed
from profilers.registry import find_runtime
from profilers.timing import TimingRule
from unas_hw.budget import Budget
from unas_hw.data import in_order
from unas_hw.errors import ExportError
from unas_hw.export import FORMATS, Format, find_format
from unas_hw.jobs.artifact import Context, open_run
from unas_hw.jobs.proxy import STANDS_IN, latency_of
from unas_hw.meter import Meter, Reading, enough_for
from unas_hw.network import load_network
from unas_hw.progress import Job, Step
from unas_hw.training import accuracy
from unas_hw.verify import Check, Verdict, budget_missed, latency_checks, onnx_checks, parity, table_check

IMAGES = 256
CALIBRATION_IMAGES, CALIBRATION_BATCH = 256, 32
REPORT = "report.json"


def export(name: str | None, format_name: str | None, rule: TimingRule | None = None) -> Job[dict[str, Any]]:
    """Writes the network of a run (the last one by default) and verifies the file.

    Returns:
        As ``verify``.
    """
    context = open_run(name)
    fmt = find_format(format_name, None if context.table.is_published else context.table.header["runtime"])
    network = load_network(context.run, context.space)
    path = context.run.path / "export" / f"model{fmt.suffix}"
    path.parent.mkdir(exist_ok=True)
    yield Step(f"export {fmt.name}", 0, 1)
    calibration = in_order(context.data.train.first(CALIBRATION_IMAGES), CALIBRATION_BATCH)
    images = (batch.x.numpy() for batch in calibration)
    stored = find_runtime(_runs(context, fmt)).stored(context.space.precision)
    fmt.write(network, context.space.input_shape, path, stored, images)
    return (yield from _verify(context, fmt, path, network, rule or TimingRule()))


def verify(name: str | None, format_name: str | None = None, rule: TimingRule | None = None) -> Job[dict[str, Any]]:
    """Verifies what a run has exported, the last format first.

    Returns:
        ``passed``, ``format``, ``path``, ``max_abs_error``, ``top1_agreement``, ``predicted_ms``,
        ``measured_ms`` (None where only a published table knows the device, ``latency_from`` is then ``table``),
        ``budget_ms``, ``input_shape`` of the file and ``priced_input_shape`` that the latency is for, ``checks``, and
        ``budget_missed``: whether nothing else failed.
    """
    context = open_run(name)
    folder = context.run.path / "export"
    found = sorted(folder.glob("model.*"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    wanted = [path for path in found if format_name in (None, _format_of(path).name)]
    if not wanted:
        raise ExportError(f"{folder} holds no exported model", mend=f"unas-hw export --run {context.run.path.name}")
    network = load_network(context.run, context.space)
    return (yield from _verify(context, _format_of(wanted[0]), wanted[0], network, rule or TimingRule()))


def _format_of(path: Path) -> Format:
    return next(fmt for fmt in FORMATS.values() if fmt.suffix == path.suffix)


def _verify(context: Context, fmt: Format, path: Path, network: nn.Module, rule: TimingRule) -> Job[dict[str, Any]]:
    checks: list[Check] = []
    if fmt.name == "onnx":
        yield Step("check the file", 0, 1)
        with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
            profiled = Path(folder) / "profiled.onnx"
            runtime = find_runtime(_runs(context, fmt))
            runtime.convert(network, context.space.input_shape, profiled, context.space.precision)
            checks += onnx_checks(path, profiled)
    yield Step("compare outputs", 0, 1)
    checks += _parity(context, fmt, path, network)
    result = context.run.read_json("result.json")
    reading = yield from _read(context, path, rule, result["predicted_ms"])
    if context.table.is_published:
        checks.append(table_check(result["predicted_ms"], result["budget_ms"]))
    else:
        checks += latency_checks(reading.judged_ms, reading.upper_ms, result["predicted_ms"], result["budget_ms"])
    report = {
        **_report(fmt, path, Verdict(tuple(checks)), result),
        **latency_of(context.table, reading),
        "device": context.table.header["device"],
        "input_shape": list(context.space.input_shape),
        "priced_input_shape": context.run.config.get("priced_input_shape", list(context.space.input_shape)),
        "architecture": str(context.architecture),
        "test_accuracy": accuracy(network, context.data.test),
        "run": str(context.run.path),
    }
    context.run.write_json(f"export/{REPORT}", report)
    return report


def _runs(context: Context, fmt: Format) -> str:
    """The runtime of the file: the table's, or, as a simulated device runs nothing, the format's first."""
    runtime = str(context.table.header["runtime"])
    return runtime if runtime.partition("+")[0] in fmt.runtimes else fmt.runtimes[0]


def _parity(context: Context, fmt: Format, path: Path, network: nn.Module) -> Iterator[Check]:
    workload = context.space.workload(context.architecture)
    batch = context.space.input_shape[0]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4 * batch, *context.space.input_shape[1:], generator=generator)
    tests = context.data.test
    spread = torch.linspace(0, len(tests) - 1, min(IMAGES, len(tests))).long()  # files are in the order of classes
    sizes = {"real images": tests.take(spread)}
    if context.space.precision != "int8":  # whose ranges are those of real images, and noise leaves them
        sizes["random images"] = noise
    threads = max(1, context.table.header["threads"])  # a published table does not say
    with LocalProfiler(_runs(context, fmt), threads) as engine, torch.inference_mode():
        engine.load_artifact(workload, path, TimingRule())
        for where, images in sizes.items():
            images = images[: len(images) // batch * batch]
            parts = images.split(batch) if fmt.name != "onnx" else (images,)
            seen = np.concatenate([engine.run(workload.key, part.numpy()) for part in parts])
            yield from parity(network(images).numpy(), seen, where, workload.op.dtype)
        if fmt.name == "onnx":
            image = list(sizes.values())[-1][:1]
            one = engine.run(workload.key, image.numpy())
            yield from parity(network(image).numpy(), one, "batch of 1", workload.op.dtype)


def _read(context: Context, path: Path, rule: TimingRule, predicted_ms: float) -> Job[Reading]:
    """The file's own latency; what its table says where no such device is here."""
    if context.table.is_published:
        device = context.table.header["device"]
        yield Step("judge", 0, 1, f"{STANDS_IN.format(table=device)}: the file was not measured on {device}")
        return Reading(raw_ms=predicted_ms, scaled_ms=predicted_ms, margin=0.0, anchor_scale=1.0)
    yield Step("measure", 0, 1)
    workload = context.space.workload(context.architecture)
    config = context.run.config
    budget = Budget(config["budget_ms"], None, config["percentile"], config["confidence"])
    rule = enough_for(rule, budget)
    with profiler_of(context.table) as profiler:
        if what := changed(context.table.environment, profiler.environment()):
            yield Step(
                "measure", 0, 1, f"{what} since the table was measured: the anchors beside the file are the scale"
            )
        meter = Meter(
            context.space,
            context.table,
            profiler,
            percentile=budget.percentile,
            confidence=budget.confidence,
        )
        profiler.load_artifact(workload, path, rule)
        return meter.read([workload], label="verify", rule=rule)[0]


def _report(fmt: Format, path: Path, verdict: Verdict, result: dict[str, Any]) -> dict[str, Any]:
    errors = [check.seen for check in verdict.checks if check.name.startswith("max_abs_error")]
    disagreements = [check.seen for check in verdict.checks if check.name.startswith("top1_disagreement")]
    return {
        "passed": bool(verdict),
        "format": fmt.name,
        "path": str(path),
        "max_abs_error": max(errors, default=math.inf),
        "top1_agreement": 1 - max(disagreements, default=math.inf),
        "predicted_ms": result["predicted_ms"],
        "budget_ms": result["budget_ms"],
        "budget_missed": budget_missed(verdict.checks),
        "checks": [check.to_json() for check in verdict.checks],
    }
