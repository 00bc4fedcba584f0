"""Export: a run's network as a file, verified; where it misses its budget, a neighbour that does not."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from profilers.agent.engine import Array
from profilers.agent.engines import version
from profilers.precision import PRECISIONS
from profilers.runtimes.onnx_file import default_opset
from profilers.timing import TimingRule
from unas_hw.data import in_order
from unas_hw.export import Format, Options, find_format
from unas_hw.export.batches import MOST, Batches
from unas_hw.export.manifest import Manifest, digest
from unas_hw.jobs.verify import verified
from unas_hw.meter import Reading
from unas_hw.network import WEIGHTS
from unas_hw.progress import Job, Step
from unas_hw.repair.adoption import adopt
from unas_hw.repair.job import Repaired, forget, known, repair, repaired_scale
from unas_hw.space import Architecture
from unas_hw.verify.artifact import Context, open_run
from unas_hw.verify.card import write_model_card
from unas_hw.verify.latency import measure
from unas_hw.verify.report import write_reports
from unas_hw.verify.subject import Subject

FOLDER = "export"
CALIBRATION_IMAGES, CALIBRATION_BATCH = 256, 32
REPAIRS = 2
"""Networks that are adopted at most: the file of one that was fine-tuned is measured once more."""


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What an export is told; None means that it finds out.

    Attributes:
        run: Name of the run; the last one by default.
        format: Of ``unas_hw.export.FORMATS``; by default what the table's runtime runs.
        precision: As in ``profilers.precision``; by default the one that was searched for.
        batches: Such as ``dynamic:1-64``; by default what is usual for the format.
        opset: Of ONNX.
        preprocess: Whether the file is to take pixels from 0 to 255.
        capabilities: Of GPUs that TensorRT-RTX builds for.
        repair: Whether a missed budget is mended by another network; by default only where that costs no training and
            the file is what the budget was searched for: of the table's runtime and precision.
        device: Where the file is verified; by default the device of the table.
    """

    run: str | None = None
    format: str | None = None
    precision: str | None = None
    batches: str | None = None
    opset: int | None = None
    preprocess: bool = False
    capabilities: tuple[str, ...] = ()
    repair: bool | None = None
    device: str | None = None


def export(settings: ExportSettings, rule: TimingRule | None = None) -> Job[dict[str, Any]]:
    """Writes the network of a run and verifies the file.

    Where only the budget is missed, neighbours of the network are exported and measured until one keeps it; that is
    the run's network then.

    Returns:
        As ``verify``, with ``repair``: None where nothing had to be mended, else ``from`` (the architecture that
        missed), ``scale`` (of the table, by what was measured), ``rounds`` (``architecture``, ``predicted_ms``,
        ``measured_ms``, ...) and ``reason`` (why none was found, or None).

    Raises:
        ExportError: If the format has not what is asked for.
        MissingDependencyError: If a library is missing; the mend installs it.
    """
    rule = rule or TimingRule()
    context = open_run(settings.run)
    fmt, options = _told(context, settings)
    with context.run.alone():
        report = yield from _exported(context, fmt, options, settings.device, rule)
        trained = (context.run.path / WEIGHTS[0]).is_file()
        mends = (report["by_table"] and not trained) if settings.repair is None else settings.repair
        rounds: list[dict[str, Any]] = []
        history: dict[str, Any] | None = None
        for _ in range(REPAIRS):
            if not (report["budget_missed"] and report["measured_ms"] is not None and mends):
                break
            before = known(context.run)
            found = yield from _repaired(context, fmt, options, settings.device, rule, report)
            rounds += [each.to_json() for each in found.rounds]
            history = {
                "from": str(context.architecture) if history is None else history["from"],
                "scale": found.scale,
                "rounds": rounds,
                "reason": found.reason,
            }
            if found.architecture is None or found.reading is None:
                break
            if report["anchor_scale"] != report["reading"]["anchor_scale"]:
                # Judged by the clock while the machine was not what it was: that may have passed.
                report = yield from _exported(context, fmt, options, settings.device, rule)
                if not report["budget_missed"]:
                    forget(context.run, before)
                    history["reason"] = "not needed: the machine was slow for a while"
                    history["scale"] = repaired_scale(context.run)
                    break
            yield from adopt(context, found.architecture, found.reading, found.scale)
            context = open_run(str(context.run.path))
            options = replace(options, metadata=_provenance(context, options))
            report = yield from _exported(context, fmt, options, settings.device, rule)
    if history:
        report["repair"] = history
        write_reports(context.run.path / FOLDER, report)
    return report


def _told(context: Context, settings: ExportSettings) -> tuple[Format, Options]:
    """The format and all that it needs; raises ``ExportError`` before anything is written."""
    table = context.table
    fmt = find_format(settings.format, None if table.is_published else table.header["runtime"])
    searched = context.space.precision
    precision = settings.precision or (searched if searched in fmt.precisions else "float32")
    batch = context.space.input_shape[0]
    usual = Batches(1, MOST) if fmt.any_batch_by_default else Batches(batch, batch)
    data = context.data
    options = Options(
        precision=precision,
        batches=Batches.parse(settings.batches) if settings.batches else usual,
        images=lambda: _images(context),
        opset=settings.opset,
        normalise=(data.mean.flatten().tolist(), data.std.flatten().tolist()) if settings.preprocess else None,
        capabilities=settings.capabilities,
    )
    fmt.refuse(options)
    return fmt, replace(options, metadata=_provenance(context, options))


def _images(context: Context) -> Iterator[Array]:
    """For calibration: training images, as chance put them there."""
    size = max(CALIBRATION_BATCH, context.space.input_shape[0])
    return (batch.x.numpy() for batch in in_order(context.data.train.first(CALIBRATION_IMAGES), size))


def _provenance(context: Context, options: Options) -> dict[str, str]:
    """Where a network comes from and what it takes, for files that hold such words."""
    data, table, result = context.data, context.table, context.run.read_json("result.json")
    normalised = "the file does this by itself" if options.normalise else "done before"
    return {
        "architecture": str(context.architecture),
        "space": context.space.origin,
        "dataset": data.name,
        "input": "x".join(map(str, context.space.input_shape[1:])),
        "preprocessing": json.dumps(
            {
                "formula": "(pixels / 255 - mean) / std",
                "mean": [round(each, 6) for each in data.mean.flatten().tolist()],
                "std": [round(each, 6) for each in data.std.flatten().tolist()],
                "done": normalised,
            }
        ),
        "labels": json.dumps(list(data.class_names) or [str(label) for label in range(data.classes)]),
        "table": table.path.name,
        "table_hash": table.hash,
        "device": str(table.header["device"]),
        "runtime": str(table.header["runtime"]),
        "budget_ms": f"{result['budget_ms']:.6g}",
        "predicted_ms": f"{result['predicted_ms']:.6g}",
        "precision": options.precision,
        "batches": str(options.batches),
        "versions": json.dumps({name: version(name) for name in ("unas-hw", "torch", "onnx")}),
    }


def _exported(
    context: Context, fmt: Format, options: Options, device: str | None, rule: TimingRule
) -> Job[dict[str, Any]]:
    """Writes and verifies the file of the run's own network."""
    joint = "_" if fmt.name == "torch" else "."  # a file that is imported has no dots in its name
    short = "" if options.precision == context.space.precision else joint + PRECISIONS[options.precision][0]
    path = context.run.path / FOLDER / f"model{short}{fmt.suffix}"
    path.parent.mkdir(exist_ok=True)
    yield Step(f"export {fmt.name}", 0, 1)
    subject = _written(context, fmt, options, path)
    report = yield from verified(subject, device, rule)
    if fmt.name == "torch":
        write_model_card(subject, report)
    return report


def _written(context: Context, fmt: Format, options: Options, path: Path, network: nn.Module | None = None) -> Subject:
    """The files at ``path``, with their manifest."""
    manifest = Manifest(
        format=fmt.name,
        precision=options.precision,
        batches=str(options.batches),
        opset=(options.opset or default_opset(options.precision)) if fmt.from_onnx else None,
        input_shape=list(context.space.input_shape),
        normalised_inside=options.normalise is not None,
        files={},
        run=str(context.run.path.resolve()),
        architecture=str(context.architecture),
        metadata=dict(options.metadata),
    )
    subject = Subject(context, manifest, path, network)
    facts = fmt.write(subject.network, context.space.input_shape, path, options)
    files = {each.name: digest(each) or "" for each in fmt.files(path)}
    subject = replace(subject, manifest=replace(manifest, files=files, facts=facts))
    subject.manifest.save(path)
    return subject


def _repaired(
    context: Context, fmt: Format, options: Options, device: str | None, rule: TimingRule, report: dict[str, Any]
) -> Job[Repaired]:
    """Searches around the run's network; files of neighbours are written elsewhere, and measured there."""

    def measured(architecture: Architecture, network: nn.Module) -> Job[Reading]:
        with tempfile.TemporaryDirectory(prefix="unas-hw-") as folder:
            other = replace(context, architecture=architecture)
            subject = _written(other, fmt, options, Path(folder) / f"model{fmt.suffix}", network.eval())
            latency = yield from measure(subject, device, rule)
        return latency.judged

    first = Reading(**{name: report["reading"][name] for name in Reading.__dataclass_fields__})
    label = f"{fmt.name} {options.precision} {options.batches} on {report['device']}"
    return (yield from repair(context, report["budget_ms"], first, measured, label=label))
