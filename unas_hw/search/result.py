"""What every search writes of the network that it found."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from profilers.files import write_atomic
from unas_hw.latency_model import LatencyModel
from unas_hw.network import save_network
from unas_hw.search.constraints import Constraint
from unas_hw.search.prepared import Prepared
from unas_hw.search.published import latency_of, shapes
from unas_hw.search.run_folder import ARCHITECTURE, CANDIDATES, RESULT
from unas_hw.search.selection import Path, Selection
from unas_hw.space import SearchSpace


def finish(
    prepared: Prepared,
    selection: Selection,
    network: nn.Module,
    *,
    valid_accuracy: float | None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes the network, its weights and the result; the result last, since that says that the run is finished.

    Args:
        prepared: The search.
        selection: What was measured.
        network: The best of it, or the nearest.
        valid_accuracy: On the validation images; None of a network that nobody has trained.
        more: Further keys of the result.
    """
    run, space, model = prepared.run, prepared.space, prepared.model
    path = selection.best or selection.nearest
    save_network(run, "weights.safetensors", network)
    run.write_json(ARCHITECTURE, described(space, model, path))
    lines = (json.dumps(each) + "\n" for each in selection.candidates(model))
    write_atomic(run.path / CANDIDATES, "".join(lines))
    result = {
        "run": str(run.path),
        **prepared.common,
        "architecture": str(space.architecture(path)),
        "predicted_ms": model.latency_ms(path),
        **latency_of(prepared.table, selection.readings[path]),
        **shapes(space, model.space),
        "percentile": prepared.budget.percentile,
        "confidence": prepared.budget.confidence,
        "feasible": selection.best is not None,
        "limits": limits_kept(prepared.constraints, path),
        "valid_accuracy": valid_accuracy,
        "candidates": len(selection.readings),
        "peak_bytes": None,
        "seconds": time.monotonic() - prepared.begin,
        **(more or {}),
        **prepared.more,
    }
    run.write_json(RESULT, result)
    return result


def described(space: SearchSpace, model: LatencyModel, path: Path) -> dict[str, Any]:
    """``architecture.json``."""
    return {
        "space": space.name,
        "version": 1,
        "choices": list(space.architecture(path).choices),
        **shapes(space, model.space),
        "table": model.table.hash,
    }


def limits_kept(constraints: Sequence[Constraint], path: Path) -> dict[str, Any]:
    """The other budgets, and what the network needs of each."""
    return {
        each.resource.name.replace(" ", "-"): {"limit": each.limit, "value": each.resource.value(path)}
        for each in constraints
    }
