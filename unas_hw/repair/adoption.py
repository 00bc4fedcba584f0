"""Adoption: a run takes another network for its own, fine-tuned and trained as its own was."""

from __future__ import annotations

import shutil
from hashlib import sha256
from typing import Any

import torch
from torch import nn

from unas_hw.meter import Reading
from unas_hw.methods.unas.found import fine_tuned
from unas_hw.network import BEFORE, WEIGHTS, load_network, save_network
from unas_hw.progress import Job
from unas_hw.repair.job import searched
from unas_hw.runs import Run
from unas_hw.search.published import latency_of
from unas_hw.search.result import described, limits_kept
from unas_hw.space import Architecture
from unas_hw.training import Hardware, Recipe
from unas_hw.training.retraining import FOLDER, retrained
from unas_hw.verify.artifact import Context


def adopt(context: Context, architecture: Architecture, reading: Reading, scale: float) -> Job[nn.Module]:
    """Makes an architecture the run's network and returns it: fine-tuned as after the search, and trained if it was.

    All is made in a folder of its own first. Then the files of the run are replaced, ``architecture.json`` last; what a
    kill leaves before that is the old network, and the same repair goes on. Weights say which network's they are. The
    old files are kept in ``repair/before``. The context is that of the old network still.

    Args:
        context: The run.
        architecture: As ``repair`` has found it.
        reading: Of its file.
        scale: Of the table.
    """
    run, space = context.run, context.space
    unas = searched(context, run.config["budget_ms"])
    path = unas.space.indices(architecture)
    made = Run(run.path / "repair" / sha256(str(architecture).encode()).hexdigest()[:6], run.config)
    made.write_json("config.json", run.config)
    made.write_json("architecture.json", described(unas.space, unas.model, path))
    network, valid_accuracy = yield from fine_tuned(unas, path, made)
    save_network(made, "weights.safetensors", network, architecture)
    trained = (run.path / WEIGHTS[0]).is_file()
    if trained:
        recipe = Recipe(**run.read_json(f"{FOLDER}/recipe.json"))
        yield from retrained(made, space, architecture, context.data, recipe, _hardware(run))
    _keep(run, context.architecture, trained)
    for name in ("checkpoint.safetensors", "metrics.jsonl"):  # of another network
        (run.path / FOLDER / name).unlink(missing_ok=True)
    if trained:
        save_network(run, WEIGHTS[0], load_network(made, space), architecture)
        told = {"run": str(run.path)}
        run.write_json(f"{FOLDER}/result.json", made.read_json(f"{FOLDER}/result.json") | told)
    save_network(run, WEIGHTS[1], network, architecture)
    result = {
        **run.read_json(f"{BEFORE}/result.json"),
        "architecture": str(architecture),
        "predicted_ms": scale * unas.model.latency_ms(path),
        **latency_of(context.table, reading),
        "feasible": True,
        "limits": limits_kept(unas.constraints, path),
        "valid_accuracy": valid_accuracy,
        "repaired_from": str(context.architecture),
    }
    run.write_json("result.json", result)
    run.write_json("architecture.json", described(unas.space, unas.model, path))
    shutil.rmtree(made.path)
    return load_network(run, space)


def _keep(run: Run, architecture: Architecture, trained: bool) -> None:
    """Copies the run's network to ``repair/before``, unless it is there: its files may be replaced in part by then."""
    kept = run.path / BEFORE / "architecture.json"
    now = run.read_json("architecture.json")
    if kept.is_file() and run.read_json(f"{BEFORE}/architecture.json") == now:
        return
    shutil.rmtree(kept.parent, ignore_errors=True)
    for name in WEIGHTS if trained else WEIGHTS[1:]:
        if saved := run.load_tensors(name):
            run.save_tensors(f"{BEFORE}/{name}", saved[0], {"architecture": str(architecture)})
    run.write_json(f"{BEFORE}/result.json", run.read_json("result.json"))
    run.write_json(f"{BEFORE}/architecture.json", now)


def _hardware(run: Run) -> Hardware:
    """What the network was trained on, where that is here."""
    told = run.path / FOLDER / "result.json"
    recorded: dict[str, Any] = run.read_json(f"{FOLDER}/result.json").get("hardware", {}) if told.is_file() else {}
    hardware = Hardware(**recorded)
    return hardware if torch.cuda.is_available() or not hardware.is_gpu else Hardware()
