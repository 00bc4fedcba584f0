"""Predict: what one network would take, without measuring it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from latency_tables.home import ANY, Target, last_table, open_table
from latency_tables.table import LatencyTable
from unas_hw.errors import UnknownSpaceError
from unas_hw.jobs.profile import measured_where_possible, space_for
from unas_hw.latency_model import predict
from unas_hw.progress import Job
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space, in_precision, origin_of
from unas_hw.spaces.genotypes import read_genotype
from unas_hw.spaces.published import find_published_architecture

_UNPRICED: dict[str, Any] = dict.fromkeys(("predicted_ms", "low_ms", "high_ms")) | {
    "coverage": 0.0,
    "regressed": (),
    "not_covered": (),
}
"""What is predicted without a table."""


def predict_network(
    architecture: str,
    *,
    space: str | SearchSpace | None = None,
    table: str | LatencyTable | None = None,
    target: Target = ANY,
    dataset: str | None = None,
    image_size: int | None = None,
    batch: int = 1,
    measure: bool = True,
) -> Job[dict[str, Any]]:
    """Predicts one network; operations that the table lacks are measured where its device is at hand.

    Args:
        architecture: ``k3e3,id,...``, with or without ``space:`` before it, a file that ``search`` wrote, the name of a
            published one, or a genotype of the DARTS family, as text or in a file.
        space: Its name, or the space; by default the one that the architecture names.
        table: Path or name, or the table; by default the last profiled that has the network's operations, or that was
            begun for its space ...
        target: ... and is of this device, runtime and number of threads.
        dataset: For whose images; by default what the file says, or the images that the space is made for.
        image_size: Pixels, instead of those.
        batch: Images at a time.
        measure: Else they are predicted from the table's other rows.

    Returns:
        ``predicted_ms``, ``low_ms``, ``high_ms``, ``coverage``, ``not_covered``, ``networks_measured`` (what the
        interval rests on), ``params``, ``macs``, ``macs_without`` (operations that these lack), ``space`` (as
        ``--space`` takes it); the first three are None where there is no table.
    """
    architecture = str(find_published_architecture(architecture) or architecture)
    found = space
    if not isinstance(found, SearchSpace):
        found = _space(architecture, found, dataset, image_size, batch)
    parsed = found.parse(_without_space(architecture, found))
    cost = found.workload(parsed).cost
    needed = {part.key for part in found.parts(parsed)}
    chosen = table if isinstance(table, LatencyTable) else None
    if not isinstance(table, LatencyTable):
        chosen = open_table(table, target) if table else last_table(target, needed, found.title)
    if chosen:
        found = in_precision(found, chosen.header["precision"])
    if chosen and measure:
        chosen = yield from measured_where_possible(chosen, found.parts(parsed))
    return {
        "architecture": str(parsed),
        "space": found.origin,
        "input_shape": list(found.input_shape),
        "table": str(chosen.path) if chosen else None,
        **(asdict(predict(found, chosen, parsed)) if chosen else _UNPRICED),
        "networks_measured": len(chosen.calibration.residuals) if chosen else 0,
        "params": cost.params,
        "macs": cost.macs,
        "macs_without": list(cost.not_counted),
    }


def _space(architecture: str, name: str | None, dataset: str | None, image_size: int | None, batch: int) -> SearchSpace:
    told = said(architecture)
    name = name or told.get("space")
    if dataset is None and image_size is None and batch == 1 and "input_shape" in told and "classes" in told:
        # Of a network that was trained smaller than it is priced, the latency is that of the priced shape.
        count, *image = told.get("priced_input_shape", told["input_shape"])
        classes = told.get("priced_classes", told["classes"])
        return find_space(name or "", image_shape=tuple(image), classes=classes, batch=count)
    return space_for(name, dataset=dataset, image_size=image_size, batch=batch)


def said(architecture: str) -> dict[str, Any]:
    """What the text or file says of its space; complaints about it come from reading it as an architecture."""
    path = Path(architecture)
    if genotype := read_genotype(architecture):
        return {"space": genotype.space}
    if not os.path.isfile(path):  # the text may be longer than a path can be
        return {"space": architecture.rpartition(":")[0]} if ":" in architecture else {}
    content = _object(path)
    run = path.with_name("config.json")  # of a run: it knows the file of a space of the user's own
    return content | {"space": _object(run)["space"]} if run.is_file() and "space" in _object(run) else content


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _without_space(architecture: str, space: SearchSpace) -> str:
    """Choices alone, where the name before them is another way to write the space: a path, ``mbconv?width=.5``."""
    name, _, choices = architecture.rpartition(":")
    if os.path.isfile(architecture) or architecture.lstrip().startswith("{"):
        return architecture
    try:
        return choices if name and origin_of(name) == space.origin else architecture
    except UnknownSpaceError:
        return architecture
