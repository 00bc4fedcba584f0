"""UNAS from a prepared search to its network: the steps, then the candidates that are measured, then fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from profilers.units import format_ms
from unas_hw.distributed import ALONE
from unas_hw.finals.job import FinalsJob
from unas_hw.finals.plan import NONE
from unas_hw.memory import StepPeak
from unas_hw.meter import NetworkMeter, TableMeter, enough_for
from unas_hw.methods.unas.compared import Compared
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.methods.unas.found import fine_tuned, inherited
from unas_hw.methods.unas.memory_fit import fit_memory, told_mode
from unas_hw.methods.unas.nominated import nominations
from unas_hw.methods.unas.search import UnasSearch
from unas_hw.methods.unas.settled import settle
from unas_hw.objectives.forms import departure
from unas_hw.progress import Job, Step
from unas_hw.search.prepared import Prepared, measured_best, meter_of, reported
from unas_hw.search.result import finish
from unas_hw.search.selection import CANDIDATES, Path, probable
from unas_hw.search.settings import SearchSettings

STATISTICS = 2048
"""Images that normalise networks before they are trained in the finals, which moves their statistics on."""
TARGET = "target.json"
"""The latency that a search aims at, as it was when it began."""
COLLAPSED = 0.7
"""Probability of choices that learn nothing from which a search is warned of."""


def refuse(settings: SearchSettings) -> None:
    """Nothing that the settings themselves do not."""


def images_a_pass(settings: SearchSettings) -> int:
    """Of those of a step, how many go through one network."""
    config = settings.supernet
    assert isinstance(config, UnasConfig)
    return -(-config.batch_size // config.architectures)


def begun(prepared: Prepared, meter: NetworkMeter | None = None) -> UnasSearch:
    """The search at its begin; without a meter the table's values stand in for measurements."""
    config = prepared.config(UnasConfig)
    return UnasSearch(
        prepared.space,
        prepared.model,
        meter or TableMeter(prepared.model),
        prepared.data,
        _target_ms(prepared, meter),
        config,
        prepared.run,
        prepared.constraints,
        prepared.ranks,
        prepared.settings.hardware.of_process(),
    )


def search(prepared: Prepared) -> Job[dict[str, Any]]:
    """Searches, and finishes the run; see ``unas_hw.jobs.search`` for what it returns.

    Processes other than the first do the same steps without measuring and writing, and return nothing.
    """
    if not prepared.ranks.first:
        unas = begun(prepared)
        told_mode(prepared.run).apply(unas.supernet)
        yield from steps(unas)
        return {}
    settings, run, model, budget = prepared.settings, prepared.run, prepared.model, prepared.budget
    home, at_home = _home(prepared)
    with meter_of(prepared) as meter:
        if settings.memory_budget:
            yield from fit_memory(
                run, lambda: begun(replace(prepared, ranks=ALONE)), settings.memory_budget, settings.sampled_paths
            )
        unas = begun(prepared, meter)
        told_mode(run).apply(unas.supernet)
        prepared.ranks.release()
        if told := departure(unas.config.budget_form, unas.latency.shortest_ms):
            yield Step("search", 0, 1, told)
        with StepPeak(unas.hardware.device) if settings.memory_budget else nullcontext() as peak:
            yield from steps(unas)
            peak_bytes = peak.bytes() if peak else None
        headroom = prepared.headroom(meter)
        settle(unas, budget.in_ms * (1 - headroom), prepared.fits)
        compared, fits = Compared(unas), prepared.fits if prepared.constraints else None
        paths = yield from _compare(compared, prepared, headroom, fits)
        finals = None
        if settings.ends == NONE:
            rounds = compared.select(budget.in_ms, enough_for(prepared.rule, budget), headroom, fits)
            selection = yield from reported(rounds, model)
        else:
            known = nominations(compared, paths, at_home if prepared.around else None)
            begins = None if prepared.around else partial(inherited, unas, images=STATISTICS)
            finals = FinalsJob(home, budget.in_ms * (1 - headroom), known, begins)
            yield from finals.halving()
            selection = yield from measured_best(home, meter, finals.within)
    path = selection.best or selection.nearest
    if finals is None:
        network, valid_accuracy = yield from fine_tuned(unas, path, run)
        told_by: dict[str, Any] = {}
    else:
        network, valid_accuracy, told_by = yield from finals.closing(path)
    dual = unas.latency.dual
    ended = {"expected_ms": dual.expected() + dual.seen_beside, "mode_ms": dual.of_mode + dual.seen_beside}
    more = {"peak_bytes": peak_bytes, "target_ms": budget.in_ms * (1 - headroom), **ended, **told_by}
    return finish(home, selection, network, valid_accuracy=valid_accuracy, more=more)


def _target_ms(prepared: Prepared, meter: NetworkMeter | None) -> float:
    """The latency that is searched for: that of the network which ships. What a run was begun with stays."""
    if prepared.config(UnasConfig).multiplier == "ascent":
        return prepared.aim_ms
    if not (prepared.run.path / TARGET).exists():
        if meter is None:
            return prepared.aim_ms
        prepared.run.write_json(TARGET, {"target_ms": prepared.budget.in_ms * (1 - prepared.headroom(meter))})
    return float(prepared.run.read_json(TARGET)["target_ms"])


def _home(prepared: Prepared) -> tuple[Prepared, Callable[[Path], Path]]:
    """The search whose networks ship, and where those of this one are there: of the whole space, if finals are held."""
    if prepared.around is None or prepared.settings.ends == NONE:
        return prepared, lambda path: path
    around, space = replace(prepared.around, more=prepared.more), prepared.space
    return around, lambda path: around.space.indices(space.architecture(path))


def _compare(
    compared: Compared, prepared: Prepared, headroom: float, fits: Callable[[Path], bool] | None
) -> Job[list[Path]]:
    """Looks at the networks that are compared first, which are returned."""
    count, distribution = compared.unas.config.compared, compared.unas.distribution
    log_probs = [probs.detach().log() for probs in distribution.probs()]
    paths = probable(prepared.model, log_probs, prepared.budget.in_ms, headroom, fits, count)
    for number, path in enumerate(paths if count > CANDIDATES else (), 1):
        compared.look(path)
        yield Step("compare candidates", number, len(paths))
    return paths


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
