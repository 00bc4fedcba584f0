"""UNAS from a prepared search to its network: the steps, then the candidates that are measured, then fine-tuning."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from profilers.units import format_ms
from unas_hw.distributed import ALONE, Ranks
from unas_hw.memory import StepPeak
from unas_hw.meter import NetworkMeter, TableMeter, enough_for
from unas_hw.methods.unas.found import fine_tuned
from unas_hw.methods.unas.memory_fit import fit_memory, told_mode
from unas_hw.methods.unas.search import UnasSearch
from unas_hw.progress import Job, Step
from unas_hw.search.prepared import Prepared, finish, meter_of, reported
from unas_hw.search.selection import select

COLLAPSED = 0.7
"""Probability of choices that learn nothing from which a search is warned of."""


def unas_of(prepared: Prepared, meter: NetworkMeter | None = None, ranks: Ranks = ALONE) -> UnasSearch:
    """The search at its begin; without a meter the table's values stand in for measurements."""
    return UnasSearch(
        prepared.space,
        prepared.model,
        meter or TableMeter(prepared.model),
        prepared.data,
        prepared.aim_ms,
        prepared.settings.unas,
        prepared.run,
        prepared.constraints,
        ranks,
        prepared.settings.hardware.of_process(),
    )


def accompany(prepared: Prepared, ranks: Ranks) -> Job[None]:
    """What processes other than the first do: the same steps, without measuring and writing."""
    unas = unas_of(prepared, ranks=ranks)
    told_mode(prepared.run).apply(unas.supernet)
    yield from steps(unas)


def search_unas(prepared: Prepared, ranks: Ranks = ALONE, more: dict[str, Any] | None = None) -> Job[dict[str, Any]]:
    """Searches, and finishes the run; see ``unas_hw.jobs.search`` for what it returns.

    Args:
        prepared: What it searches.
        ranks: Processes that search together; this is the first.
        more: Further keys of the result.
    """
    settings, run, model, budget = prepared.settings, prepared.run, prepared.model, prepared.budget
    with meter_of(prepared) as meter:
        if settings.memory_budget:
            yield from fit_memory(run, lambda: unas_of(prepared), settings.memory_budget, settings.sampled_paths)
        unas = unas_of(prepared, meter, ranks)
        told_mode(run).apply(unas.supernet)
        ranks.release()
        with StepPeak(unas.hardware.device) if settings.memory_budget else nullcontext() as peak:
            yield from steps(unas)
            peak_bytes = peak.bytes() if peak else None
        rounds = select(
            unas.distribution,
            model,
            meter,
            budget.in_ms,
            unas.valid_losses,
            enough_for(prepared.rule, budget),
            prepared.headroom(meter),
            prepared.fits if prepared.constraints else None,
        )
        selection = yield from reported(rounds, model)
    path = selection.best or selection.nearest
    network, valid_accuracy = yield from fine_tuned(unas, path, run)
    return finish(
        prepared, selection, network, valid_accuracy=valid_accuracy, more={"peak_bytes": peak_bytes, **(more or {})}
    )


def steps(unas: UnasSearch) -> Job[None]:
    """All steps from where the search was."""
    unas.resume()
    for progress in unas.steps():
        metrics = progress.metrics
        note = _note(metrics) if metrics else ""
        yield Step(progress.stage, progress.step, progress.steps, note, metrics or None)


def _note(metrics: dict[str, Any]) -> str:
    cost = "" if metrics["cost"] is None else f"cost {metrics['cost']:.3f}, "
    warning = ""
    if metrics["stage"] == "search" and (metrics["skipping"] or 0) > COLLAPSED:
        warning = f"; collapsing? {metrics['skipping']:.0%} of the probability is on choices that learn nothing"
    return (
        f"epoch {metrics['epoch']} ({metrics['stage']}): {cost}expected {format_ms(metrics['expected_ms'])}, "
        f"mode {format_ms(metrics['mode_ms'])}, within budget {metrics['within_budget']:.0%}, "
        f"multiplier {metrics['multiplier']:.2f}, {metrics['seconds']:.1f} s{warning}"
    )
