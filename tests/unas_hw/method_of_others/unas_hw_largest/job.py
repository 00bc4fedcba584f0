"""From a prepared search to its result."""

from __future__ import annotations

from typing import Any

import torch

from unas_hw.progress import Job, Step
from unas_hw.resources import Macs, Params
from unas_hw.search.prepared import Prepared, measured_best, meter_of
from unas_hw.search.result import finish
from unas_hw.search.settings import SearchSettings
from unas_hw_largest.config import LargestConfig
from unas_hw_largest.search import Path, draws

DRAWN = "drawn.jsonl"


def refuse(settings: SearchSettings) -> None:
    """Nothing that the settings themselves do not."""


def search(prepared: Prepared) -> Job[dict[str, Any]]:
    """Draws, measures the largest that fit, and finishes the run."""
    config, space, run = prepared.config(LargestConfig), prepared.space, prepared.run
    size = Macs(space) if config.size == "macs" else Params(space)
    known = len(run.lines(DRAWN))
    for number, (path, value) in enumerate(draws(space, size, config.tries, prepared.settings.seed, known), known + 1):
        run.append(DRAWN, {"path": path, "size": value})
        yield Step("draw", number, config.tries)
    ranked = sorted(run.lines(DRAWN), key=lambda line: -float(line["size"]))

    def within(most_ms: float) -> list[Path]:
        paths = [tuple(line["path"]) for line in ranked]
        return [path for path in paths if prepared.model.latency_ms(path) <= most_ms and prepared.fits(path)]

    with meter_of(prepared) as meter:
        selection = yield from measured_best(prepared, meter, within)
    path = selection.best or selection.nearest
    torch.manual_seed(prepared.settings.seed)
    network = space.network(space.architecture(path))
    return finish(prepared, selection, network, valid_accuracy=None, more={"drawn": config.tries})
