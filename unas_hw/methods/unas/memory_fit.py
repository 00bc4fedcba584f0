"""The memory budget of a search: a step is rehearsed in every way of running it, and the fastest that keeps it is told
to the search.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from profilers.units import format_bytes, parse_bytes
from unas_hw.memory import Mode, fit, give_back
from unas_hw.methods.unas.search import UnasSearch
from unas_hw.progress import Job, Step
from unas_hw.runs import Run
from unas_hw.search.run_folder import MEMORY


def fit_memory(run: Run, begin: Callable[[], UnasSearch], budget: str, sampled_paths: bool) -> Job[None]:
    """Chooses the mode and keeps it in the run folder, where a search that goes on finds it again.

    Args:
        run: The run folder.
        begin: Makes the search that is rehearsed, and then thrown away.
        budget: Such as ``2GB``.
        sampled_paths: Whether fewer candidates may be run.

    Raises:
        MemoryBudgetError: If no mode keeps the budget, or nothing here tells what one takes.
        UnitError: If the budget cannot be read.
    """
    if (run.path / MEMORY).exists():
        return
    yield Step("memory", 0, 1, "steps are rehearsed to see what memory they take")
    search, budget_bytes = begin(), int(parse_bytes(budget))
    mode, costs = fit(search.rehearse(), search.supernet, budget_bytes, sampled_paths=sampled_paths)
    del search
    gc.collect()  # it has cycles
    give_back()
    tried = [{"mode": str(cost.mode), "peak_bytes": cost.peak_bytes, "seconds": cost.seconds} for cost in costs]
    run.write_json(MEMORY, {"budget_bytes": budget_bytes, **asdict(mode), "tried": tried})
    yield Step("memory", 1, 1, f"budget {format_bytes(budget_bytes)}, steps are {mode}; {'; '.join(map(str, costs))}")


def told_mode(run: Run) -> Mode:
    """What ``fit_memory`` has chosen; everything stored where it was not asked."""
    kept: dict[str, Any] = run.read_json(MEMORY) if (run.path / MEMORY).exists() else {}
    return Mode(kept.get("recompute", False), kept.get("most"))
