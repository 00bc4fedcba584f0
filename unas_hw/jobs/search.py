"""Search: from a budget to a network whose own measurement meets it."""

from __future__ import annotations

import math
import time
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
from profilers.workload import lacking
from unas_hw.budget import UNBOUND, Budget
from unas_hw.data import load_dataset, telling
from unas_hw.distributed import Ranks, join, leave
from unas_hw.errors import MethodError
from unas_hw.jobs.profile import measured_where_possible, profile, refresh
from unas_hw.latency_model import LatencyModel
from unas_hw.methods.registry import find_method
from unas_hw.progress import Job, Step
from unas_hw.resources import Macs
from unas_hw.runs import Run
from unas_hw.search.limits import constraints_of, said
from unas_hw.search.method import MethodJob
from unas_hw.search.prepared import Prepared
from unas_hw.search.published import STANDS_IN, Proxy, proxy, published_table, refuse_percentile
from unas_hw.search.run_folder import RESULT, as_begun, begun_with, config_of, keep_table, run_path
from unas_hw.search.settings import SearchSettings
from unas_hw.space import SearchSpace
from unas_hw.spaces import default_space, find_space, in_precision
from unas_hw.tasks import is_task
from unas_hw.training.ray_workers import refuse_without_ray

UNSURE = 0.1
"""Share of the budget that the error of predictions may cost before it is told."""


def search(settings: SearchSettings, rule: TimingRule | None = None) -> Job[dict[str, Any]]:
    """Finds a network within the budget; profiles first where there is no table.

    Of several processes (torchrun) the first one profiles, measures and writes; the others return nothing.

    Returns:
        ``run``, ``space``, ``architecture``, ``table``, ``budget`` (as asked for), ``budget_ms``, ``predicted_ms``,
        ``measured_ms``, ``latency_from``, ``feasible``, ``valid_accuracy``, ``limits``, ``seconds``, ``peak_bytes`` (of
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
        if ranks.world > 1 and not settings.config.many_processes:
            raise MethodError(f"--method {settings.method} runs in one process", mend="leave out --gpus")
        if ranks.first:
            return (yield from _search(settings, rule, replace(ranks, release=release)))
        return (yield from _search(settings, rule, ranks)) if ranks.from_first(None) else {}
    finally:
        if ranks.first and not released:
            ranks.from_first(0.0)
        leave()


def _search(settings: SearchSettings, rule: TimingRule | None, ranks: Ranks) -> Job[dict[str, Any]]:
    begin, rule = time.monotonic(), rule or TimingRule()
    job = find_method(settings.method).job
    _refuse(settings, job)
    setting, table = yield from _setting(settings, rule)
    settings = as_begun(settings, setting, table, _promise(settings, setting, table)[1])
    table = yield from _as_of_today(settings, setting, table, rule)
    model, budget = _promise(settings, setting, table)
    space = setting.trained
    common: dict[str, Any] = {
        "space": space.name,
        "table": str(table.path),
        "device": table.header["device"],
        "budget": settings.budget,
        "budget_ms": budget.in_ms,
        "data_notes": list(setting.data.notes),
    }
    constraints = constraints_of(settings.limits, space, table)
    for each in constraints:
        if isinstance(each.resource, Macs) and each.resource.not_counted:
            yield Step("search", 0, 1, f"the budget of MACs is {lacking(each.resource.not_counted)}")
    unmet = next((said(each) for each in constraints if each.resource.range[0] > each.limit), None)
    if model.latency_ms(model.smallest) > budget.in_ms or unmet:
        return {**_infeasible(common, model, unmet), "seconds": time.monotonic() - begin}
    if settings.budget and (largest_ms := model.latency_ms(model.largest)) <= budget.in_ms:
        yield Step("search", 0, 1, f"{budget} binds nothing: the largest network takes {format_ms(largest_ms)}")
    config = config_of(settings, setting, table, budget)
    path = run_path(settings, config, table)[0]
    prepared = Prepared(
        settings=settings,
        rule=rule,
        whole=space,
        space=space,
        data=setting.data,
        table=table,
        model=model,
        budget=budget,
        aim_ms=_aim_ms(model, budget),
        constraints=constraints,
        common=common,
        begin=begin,
        run=Run.begin(path, config) if ranks.first else Run.open(path),
        ranks=ranks,
    )
    return (yield from _begun(prepared, job))


def _begun(prepared: Prepared, job: MethodJob) -> Job[dict[str, Any]]:
    """The search itself; the first process keeps beside it what it was told."""
    run, told = prepared.run, prepared.settings.told
    if not prepared.ranks.first:
        return (yield from job.search(prepared))
    if _can_be_measured(prepared.table):
        keep_table(run, prepared.table)
    if told:
        write_atomic(run.path / "config.yaml", yaml.safe_dump(dict(told), sort_keys=False))
    with run.alone():
        if (run.path / RESULT).exists():
            yield Step("search", 1, 1, f"{run.path} is finished; --seed or --run begins another")
            return run.read_json(RESULT)
        yield from _notes(prepared)
        return (yield from job.search(prepared))


def _setting(settings: SearchSettings, rule: TimingRule) -> Job[tuple[Proxy, LatencyTable]]:
    """What is trained and what is priced, and the table that prices it."""
    table = published_table(settings.table, settings.target, settings.space, settings.batch)
    if table is not None:
        setting = proxy(table, settings.dataset, settings.image_size, settings.seed, settings.space, settings.batch)
        yield Step("search", 0, 1, f"{STANDS_IN.format(table=table.header['device'])}; {setting}")
        yield from telling(setting.data)
        return setting, table
    setting = _as_measured(settings)
    yield from telling(setting.data)
    table = yield from _table(settings, setting.trained, rule)
    trained = in_precision(setting.trained, table.header["precision"])
    return replace(setting, trained=trained, priced=trained), table


def _as_of_today(settings: SearchSettings, setting: Proxy, table: LatencyTable, rule: TimingRule) -> Job[LatencyTable]:
    """The table in this machine's time; a search that was begun goes on with the table that it began with."""
    table.refuse_noise()
    _, budget = _promise(settings, setting, table)
    if not _can_be_measured(table):
        return table
    path, begun = run_path(settings, config_of(settings, setting, table, budget), table)
    if not begun:
        return (yield from _todays(table, rule))
    kept = begun_with(path, table)
    if kept.hash != table.hash:
        yield Step("search", 0, 1, f"{path} goes on with {table.path.name} as it was; --seed or --run begins another")
    return kept


def _can_be_measured(table: LatencyTable) -> bool:
    return not table.is_published and not is_fetched(table.path)


def _promise(settings: SearchSettings, setting: Proxy, table: LatencyTable) -> tuple[LatencyModel, Budget]:
    """What networks take, and what they may take, in milliseconds; nothing exceeds a budget that was not given."""
    asked = None if settings.budget is None else Budget.parse(settings.budget, settings.confidence)
    percentile = asked.percentile if asked else 50
    refuse_percentile(table, percentile)
    model = LatencyModel(setting.priced, table, percentile)
    largest_ms = model.latency_ms(model.largest)
    return model, asked.resolve(model.latency_ms(model.smallest), largest_ms) if asked else Budget(UNBOUND * largest_ms)


def _infeasible(common: dict[str, Any], model: LatencyModel, unmet: str | None) -> dict[str, Any]:
    """The result where no network keeps the budgets."""
    nothing = dict.fromkeys(("run", "architecture", "predicted_ms", "measured_ms", "valid_accuracy"))
    return {
        **nothing,
        **common,
        "feasible": False,
        "space_min_ms": model.latency_ms(model.smallest),
        "space_median_ms": model.median_ms,
        "space_max_ms": model.latency_ms(model.largest),
        "unmet": unmet,
    }


def _as_measured(settings: SearchSettings) -> Proxy:
    """The space for the images as they are: what is trained is what is measured."""
    data = load_dataset(settings.dataset, image_size=settings.image_size, seed=settings.seed)
    space = find_space(
        settings.space or default_space(data.image_shape[1], data.origin),
        image_shape=data.image_shape,
        classes=data.classes,
        batch=settings.batch,
        precision=settings.target.precision or "float32",
    )
    return Proxy(data, settings.image_size, space, space)


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


def _refuse(settings: SearchSettings, job: MethodJob) -> None:
    """Raises a ``UnasError`` for what cannot be, before a run is begun."""
    settings.config.check()
    if settings.ray is not None:
        refuse_without_ray()
    if is_task(settings.dataset) and not settings.config.plays:
        raise MethodError(
            f"--method {settings.method} learns from labelled images, and {settings.dataset} has none",
            mend=f"unas-hw search --task {settings.dataset}",
        )
    job.refuse(settings)


def _notes(prepared: Prepared) -> Job[None]:
    """What the table leaves open."""
    model, budget = prepared.model, prepared.budget
    if guessed := sum(model.table.origin(key) == REGRESSED for key in model.table.values):
        yield Step("search", 0, 1, f"{guessed} rows are predicted from the others: the interval is wider for them")
    upper = model.upper(budget.confidence)
    if math.isinf(upper) and not model.table.is_published:
        networks = len(model.table.calibration.residuals)
        yield Step(
            "search", 0, 1, f"{networks} whole networks are too few for {budget.confidence:.0%} confidence: aiming "
            "at the budget itself; unas-hw tables calibrate measures more"
        )  # fmt: skip
    elif prepared.settings.budget and (below := 1 - prepared.aim_ms / budget.in_ms) > UNSURE:
        yield Step(
            "search", 0, 1, f"networks may take {upper - 1:.0%} more than {model.table.path.name} predicts "
            f"({budget.confidence:.0%} confidence): aiming {below:.0%} below the budget; on a quiet machine "
            "unas-hw profile --more measures the table again, and --confidence asks for less"
        )  # fmt: skip


def _aim_ms(model: LatencyModel, budget: Budget) -> float:
    """What predictions have to be below, so that networks are within the budget with the asked confidence."""
    upper = model.upper(budget.confidence)
    if math.isinf(upper):
        return budget.in_ms
    # A slow machine may make even the fastest network uncertain; it is measured then.
    return max(min(budget.in_ms / upper, budget.in_ms), model.latency_ms(model.smallest))
