"""The model card of a file that leaves the project: everything that the run knows of its network."""

from __future__ import annotations

import json
from typing import Any

from profilers.agent.engines import version
from unas_hw.export.card import write_card
from unas_hw.resources import arithmetic_of
from unas_hw.verify.subject import Subject

CARD = "model.md"


def write_model_card(subject: Subject, report: dict[str, Any]) -> None:
    """``model.md`` beside the file."""
    context, manifest = subject.context, subject.manifest
    run, data, table = context.run, context.data, context.table
    told = run.path / "train" / "result.json"
    trained: dict[str, Any] = run.read_json("train/result.json") if told.is_file() else {}
    weights = sum(each.numel() for each in subject.network.parameters())
    name = subject.path.stem
    write_card(
        subject.path.with_name(CARD),
        {
            "name": name,
            "architecture": manifest.architecture,
            "space": context.space.title,
            "dataset": data.name,
            "classes": json.loads(manifest.metadata["labels"]),
            "input_shape": manifest.input_shape,
            "preprocessing": {"mean": data.mean.flatten().tolist(), "std": data.std.flatten().tolist(), "scale": 255},
            "params": weights,
            **arithmetic_of(context.space, context.architecture),
            "test_accuracy": report["test_accuracy"],
            "test_interval": trained.get("test_interval"),
            "device": report["device"],
            "runtime": table.header["runtime"],
            "precision": manifest.precision,
            "budget_ms": report["budget_ms"],
            "predicted_ms": report["predicted_ms"],
            "measured_ms": report["measured_ms"] or run.read_json("result.json")["measured_ms"],
            "table": f"{table.path.name} ({table.hash})",
            "files": manifest.files,
            "versions": {each: version(each) for each in ("unas-hw", "torch", "safetensors")},
            "how_to_use": f"from {name} import load\n\nmodel = load()\nlogits = model(images)",
            "training": trained.get("recipe"),
            "verify": f"unas-hw verify {subject.path.name}",
        },
    )
