"""Search: from a budget to a network whose own measurement meets it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import yaml

from latency_tables.collect import quick
from latency_tables.coverage import profiler_of
from latency_tables.home import is_fetched, last_table, open_table
from latency_tables.published import open_device
from latency_tables.rows import ANCHOR, REGRESSED
from latency_tables.table import LatencyTable
from profilers.environment import changed
from profilers.files import write_atomic
from profilers.timing import TimingRule
from profilers.units import format_ms
from unas_hw.budget import Budget
from unas_hw.data import load_dataset
from unas_hw.distributed import ALONE, Ranks, join, leave
from unas_hw.jobs.found import described, fine_tuned, limits_kept
from unas_hw.jobs.limits import constraints_of, said
from unas_hw.jobs.memory import fit_memory, told_mode
from unas_hw.jobs.profile import measured_where_possible, profile, refresh
from unas_hw.jobs.proxy import STANDS_IN, Proxy, latency_of, proxy, published_table, refuse_percentile, shapes
from unas_hw.jobs.search_settings import SearchSettings, config_of, run_path
from unas_hw.latency_model import LatencyModel
from unas_hw.memory import StepPeak
from unas_hw.meter import Meter, NetworkMeter, TableMeter, enough_for
from unas_hw.methods.selection import Path as ChoicePath
from unas_hw.methods.selection import Selection, select
from unas_hw.methods.unas import UnasSearch
from unas_hw.network import save_network
from unas_hw.progress import Job, Step
from unas_hw.runs import Run
from unas_hw.space import SearchSpace
from unas_hw.spaces import default_space, find_space, in_precision

RESULT, ARCHITECTURE = "result.json", "architecture.json"
COLLAPSED = 0.7
"""Probability of choices that learn nothing from which a search is warned of."""


def search(settings: SearchSettings, rule: TimingRule | None = None) -> Job[dict[str, Any]]:
    """Finds a network within the budget; profiles first where there is no table.

    Of several processes (torchrun) the first one profiles, measures and writes; the others return nothing.

    Returns:
        ``run``, ``space``, ``architecture``, ``table``, ``budget_ms``, ``predicted_ms``, ``measured_ms``,
        ``latency_from``, ``feasible``, ``valid_accuracy``, ``limits``, ``seconds``, ``peak_bytes`` (of
        memory, where that has a budget); ``measured_ms`` is None and ``latency_from`` is ``table`` where only a
        published table knows the device. For a budget that no network can meet ``feasible`` is false and
        ``space_min_ms``, ``space_median_ms``, ``space_max_ms`` say what the space has; ``unmet`` says which other
        budget it is.
    """
    ranks, released = join(), False

    def release() -> None:
        nonlocal released
        ranks.from_first(1.0)
        released = True

    try:
        if ranks.first:
            return (yield from _search(settings, rule, replace(ranks, release=release)))
        return (yield from _search(settings, rule, ranks)) if ranks.from_first(None) else {}
    finally:
        if ranks.first and not released:
            ranks.from_first(0.0)
        leave()


def _search(settings: SearchSettings, rule: TimingRule | None, ranks: Ranks) -> Job[dict[str, Any]]:
    begin = time.monotonic()
    rule = rule or TimingRule()
    budget = Budget.parse(settings.budget, settings.confidence)
    published = published_table(settings.table, settings.target, settings.space, settings.batch)
    if published is not None:
        setting = proxy(
            published, settings.dataset, settings.image_size, settings.unas.seed, settings.space, settings.batch
        )
        table = published
    else:
        setting = _as_measured(settings)
        table = yield from _table(settings, setting.trained, rule)
        trained = in_precision(setting.trained, table.header["precision"])
        setting = replace(setting, trained=trained, priced=trained)
    space, data = setting.trained, setting.data
    table.refuse_noise()
    refuse_percentile(table, budget.percentile)
    if table.is_published:
        yield Step("search", 0, 1, f"{STANDS_IN.format(table=table.header['device'])}; {setting}")
    asked, model = budget, LatencyModel(setting.priced, table, budget.percentile)
    budget = _resolved(asked, model)
    begun = run_path(settings, config_of(settings, setting, table, budget), table)[1]
    if not begun and not table.is_published and not is_fetched(table.path):
        # A search that was begun goes on with the table that it began with.
        table = yield from _todays(table, rule)
        model = LatencyModel(setting.priced, table, budget.percentile)
        budget = _resolved(asked, model)
    smallest_ms, largest_ms = model.latency_ms(model.smallest), model.latency_ms(model.largest)
    common: dict[str, Any] = {
        "space": space.name,
        "table": str(table.path),
        "device": table.header["device"],
        "budget_ms": budget.in_ms,
    }
    constraints = constraints_of(settings.limits, space, table, settings.unas.multiplier_rate)
    unmet = [each for each in constraints if each.resource.range[0] > each.limit]
    if smallest_ms > budget.in_ms or unmet:
        return {
            "run": None,
            **common,
            "architecture": None,
            "predicted_ms": None,
            "measured_ms": None,
            "feasible": False,
            "valid_accuracy": None,
            "space_min_ms": smallest_ms,
            "space_median_ms": model.median_ms,
            "space_max_ms": largest_ms,
            "unmet": said(unmet[0]) if unmet else None,
            "seconds": time.monotonic() - begin,
        }
    if largest_ms <= budget.in_ms:
        yield Step("search", 0, 1, f"{budget} binds nothing: the largest network takes {format_ms(largest_ms)}")
    config = config_of(settings, setting, table, budget)
    path = run_path(settings, config, table)[0]
    aim_ms = _aim_ms(model, budget)
    hardware = settings.hardware.of_process()

    def unas_of(meter: NetworkMeter, ranks: Ranks) -> UnasSearch:
        return UnasSearch(space, model, meter, data, aim_ms, settings.unas, run, constraints, ranks, hardware)

    if not ranks.first:
        run = Run.open(path)
        unas = unas_of(TableMeter(model), ranks)
        told_mode(run).apply(unas.supernet)
        yield from _steps(unas)
        return {}
    run = Run.begin(path, config)
    if settings.told:
        write_atomic(run.path / "config.yaml", yaml.safe_dump(dict(settings.told), sort_keys=False))
    with run.alone():
        if (run.path / RESULT).exists():
            yield Step("search", 1, 1, f"{run.path} is finished; --seed or --run begins another")
            return run.read_json(RESULT)
        yield from _notes(model, budget)
        with _meter(space, model, budget, run) as meter:
            if settings.memory_budget:
                yield from fit_memory(
                    run, lambda: unas_of(TableMeter(model), ALONE), settings.memory_budget, settings.sampled_paths
                )
            unas = unas_of(meter, ranks)
            told_mode(run).apply(unas.supernet)
            ranks.release()
            with StepPeak(hardware.device) if settings.memory_budget else nullcontext() as peak:
                yield from _steps(unas)
                common["peak_bytes"] = peak.bytes() if peak else None
            selection = Selection()
            headroom = max(meter.headroom, 1 - aim_ms / budget.in_ms)
            final = enough_for(rule, budget)

            def fits(path: ChoicePath) -> bool:
                return all(each.fits(path) for each in constraints)

            for selection in select(
                unas.distribution,
                model,
                meter,
                budget.in_ms,
                unas.valid_losses,
                final,
                headroom,
                fits if constraints else None,
            ):
                yield Step("measure candidates", len(selection.readings), len(selection.readings))
        return (yield from _finish(run, common, unas, selection, budget, begin))


def _steps(unas: UnasSearch) -> Job[None]:
    """All steps from where the search was."""
    unas.resume()
    for progress in unas.steps():
        yield Step(progress.stage, progress.step, progress.steps, _note(progress.metrics) if progress.metrics else "")


def _as_measured(settings: SearchSettings) -> Proxy:
    """The space for the images as they are: what is trained is what is measured."""
    data = load_dataset(settings.dataset, image_size=settings.image_size, seed=settings.unas.seed)
    space = find_space(
        settings.space or default_space(data.image_shape[1]),
        image_shape=data.image_shape,
        classes=data.classes,
        batch=settings.batch,
        precision=settings.target.precision or "float32",
    )
    return Proxy(data, settings.image_size, space, space)


@contextmanager
def _meter(space: SearchSpace, model: LatencyModel, budget: Budget, run: Run) -> Iterator[NetworkMeter]:
    """Of the table's device; of the table itself where that is all there is."""
    if model.table.is_published:
        yield TableMeter(model)
    else:
        with profiler_of(model.table) as profiler:
            yield Meter(
                space, model.table, profiler, percentile=budget.percentile, confidence=budget.confidence, run=run
            )


def _finish(
    run: Run, common: dict[str, Any], unas: UnasSearch, selection: Selection, budget: Budget, begin: float
) -> Job[dict[str, Any]]:
    path = selection.best or selection.nearest
    reading = selection.readings[path]
    network, valid_accuracy = yield from fine_tuned(unas, path, run)
    save_network(run, "weights.safetensors", network)
    run.write_json(ARCHITECTURE, described(unas, path))
    result = {
        "run": str(run.path),
        **common,
        "architecture": str(unas.space.architecture(path)),
        "predicted_ms": unas.model.latency_ms(path),
        **latency_of(unas.model.table, reading),
        **shapes(unas.space, unas.model.space),
        "percentile": budget.percentile,
        "confidence": budget.confidence,
        "feasible": selection.best is not None,
        "limits": limits_kept(unas, path),
        "valid_accuracy": valid_accuracy,
        "candidates": len(selection.readings),
        "seconds": time.monotonic() - begin,
    }
    run.write_json(RESULT, result)
    return result


def _table(settings: SearchSettings, space: SearchSpace, rule: TimingRule) -> Job[LatencyTable]:
    """The table that was asked for, or was profiled last and fits; a new one of this CPU where there is none."""
    target = settings.target
    if settings.table is not None:
        table = open_table(settings.table, target)
        space = in_precision(space, table.header["precision"])
        return (yield from measured_where_possible(table, space.workloads(), rule))
    last = last_table(target, (workload.key for workload in space.workloads()))
    if last is not None:
        yield Step("search", 0, 1, f"latencies from {last.path}, the last profiled")
        return last
    device = target.device or "cpu"
    yield Step("profile", 0, 1, f"no table for {space.title} yet: profiling {device} first")
    profiler = open_device(device, runtime=target.runtime, threads=target.threads or 1)
    return (yield from profile(space, profiler, rule=rule))


def _todays(table: LatencyTable, rule: TimingRule) -> Job[LatencyTable]:
    """The table, rescaled by its anchors where the machine is not what it was."""
    profiler = profiler_of(table)
    what = changed(table.environment, profiler.environment())
    if not what or not table.keys(ANCHOR):
        return table
    yield Step("refresh", 0, 1, f"{what} since {table.path.name} was measured: its anchors are measured again")
    return (yield from refresh(table, profiler, quick(rule)))


def _resolved(budget: Budget, model: LatencyModel) -> Budget:
    return budget.resolve(model.latency_ms(model.smallest), model.latency_ms(model.largest))


def _notes(model: LatencyModel, budget: Budget) -> Job[None]:
    """What the table leaves open."""
    if guessed := sum(model.table.origin(key) == REGRESSED for key in model.table.values):
        yield Step("search", 0, 1, f"{guessed} rows are predicted from the others: the interval is wider for them")
    if math.isinf(model.upper(budget.confidence)) and not model.table.is_published:
        networks = len(model.table.calibration.residuals)
        yield Step(
            "search", 0, 1, f"{networks} whole networks are too few for {budget.confidence:.0%} confidence: aiming "
            "at the budget itself; unas-hw tables calibrate measures more"
        )  # fmt: skip


def _aim_ms(model: LatencyModel, budget: Budget) -> float:
    """What predictions have to be below, so that networks are within the budget with the asked confidence."""
    upper = model.upper(budget.confidence)
    if math.isinf(upper):
        return budget.in_ms
    # A slow machine may make even the fastest network uncertain; it is measured then.
    return max(min(budget.in_ms / upper, budget.in_ms), model.latency_ms(model.smallest))


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
