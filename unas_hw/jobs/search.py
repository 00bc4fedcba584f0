"""Search: from a budget to a network whose own measurement meets it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from latency_tables.errors import TableError
from latency_tables.home import ANY, Target, last_table, open_table
from latency_tables.table import LatencyTable
from profilers.registry import open_profiler
from profilers.timing import TimingRule
from profilers.units import format_ms
from unas_hw.budget import Budget
from unas_hw.data import DIGITS, Dataset, load_dataset
from unas_hw.jobs.profile import profile
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import Meter
from unas_hw.methods.selection import Selection, select
from unas_hw.methods.unas import UnasConfig, UnasSearch
from unas_hw.network import inherit, recalibrate, save_network
from unas_hw.progress import Job, Step
from unas_hw.runs import RUNS, Run
from unas_hw.space import SearchSpace
from unas_hw.spaces import default_space, find_space
from unas_hw.training import Recipe, accuracy, train

RESULT, ARCHITECTURE = "result.json", "architecture.json"


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What a search is told; None means that it finds out.

    Attributes:
        budget: ``80ms``, ``80ms@p90`` or ``50%`` of the way from the smallest to the largest network.
        space: Name; by default what suits the images.
        dataset: ``digits`` or the path of an ``.npz``.
        image_size: Pixels; as the images are by default.
        batch: Images at a time that latencies are for.
        table: Path or name of a table; by default the last profiled that has the operations ...
        target: ... and is of this device, runtime and number of threads.
        run: Name of the run folder; by default made of the settings.
        unas: Hyper-parameters.
    """

    budget: str
    space: str | None = None
    dataset: str = DIGITS
    image_size: int | None = None
    batch: int = 1
    table: str | Path | None = None
    target: Target = ANY
    run: str | None = None
    unas: UnasConfig = field(default_factory=UnasConfig)


def search(settings: SearchSettings, rule: TimingRule | None = None) -> Job[dict[str, Any]]:
    """Finds a network within the budget; profiles first where there is no table.

    Returns:
        ``run``, ``space``, ``architecture``, ``table``, ``budget_ms``, ``predicted_ms``, ``measured_ms``,
        ``feasible``, ``valid_accuracy``, ``seconds``; for a budget that no network can meet ``feasible`` is false
        and ``space_min_ms``, ``space_median_ms``, ``space_max_ms`` say what the space has.
    """
    begin = time.monotonic()
    rule = rule or TimingRule()
    budget = Budget.parse(settings.budget)
    data = load_dataset(settings.dataset, image_size=settings.image_size, seed=settings.unas.seed)
    space = find_space(
        settings.space or default_space(data.image_shape[1]),
        image_shape=data.image_shape,
        classes=data.classes,
        batch=settings.batch,
    )
    table = yield from _table(settings, space, rule)
    table.refuse_noise()
    model = LatencyModel(space, table, budget.percentile)
    smallest_ms, largest_ms = model.latency_ms(model.smallest), model.latency_ms(model.largest)
    budget = budget.resolve(smallest_ms, largest_ms)
    common = {"space": space.name, "table": str(table.path), "budget_ms": budget.in_ms}
    if smallest_ms > budget.in_ms:
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
            "seconds": time.monotonic() - begin,
        }
    if largest_ms <= budget.in_ms:
        yield Step("search", 0, 1, f"{budget} binds nothing: the largest network takes {format_ms(largest_ms)}")
    run = _run(settings, space, data, table, budget)
    with run.alone():
        if (run.path / RESULT).exists():
            yield Step("search", 1, 1, f"{run.path} is finished; --seed or --run begins another")
            return run.read_json(RESULT)
        with open_profiler(
            table.header["device"], runtime=table.header["runtime"], threads=table.header["threads"]
        ) as profiler:
            meter = Meter(space, table, profiler, percentile=budget.percentile, run=run)
            unas = UnasSearch(space, model, meter, data, budget.in_ms, settings.unas, run)
            unas.resume()
            for progress in unas.steps():
                note = _note(progress.metrics) if progress.metrics else ""
                yield Step(progress.stage, progress.step, progress.steps, note)
            selection = Selection()
            for selection in select(unas.distribution, model, meter, budget.in_ms, unas.valid_losses, rule):
                yield Step("measure candidates", len(selection.readings), len(selection.readings))
        return (yield from _finish(run, common, unas, selection, budget, begin))


def _finish(
    run: Run, common: dict[str, Any], unas: UnasSearch, selection: Selection, budget: Budget, begin: float
) -> Job[dict[str, Any]]:
    path = selection.best or selection.nearest
    reading = selection.readings[path]
    architecture = unas.space.architecture(path)
    network = unas.space.network(architecture)
    inherit(network, unas.supernet, path)
    recalibrate(network, unas.data.train.x)
    recipe = Recipe(epochs=unas.config.finetune_epochs, lr=2e-3, seed=unas.config.seed)
    for metrics in train(network, unas.data.train, recipe, run, "finetune"):
        yield Step("fine-tune", metrics["epoch"], recipe.epochs)
    save_network(run, "weights.safetensors", network)
    run.write_json(
        ARCHITECTURE,
        {
            "space": unas.space.name,
            "version": 1,
            "choices": list(architecture.choices),
            "input_shape": list(unas.space.input_shape),
            "classes": unas.space.classes,
            "table": unas.model.table.hash,
        },
    )
    result = {
        "run": str(run.path),
        **common,
        "architecture": str(architecture),
        "predicted_ms": unas.model.latency_ms(path),
        "measured_ms": reading.judged_ms,
        "raw_ms": reading.raw_ms,
        "anchor_scale": reading.anchor_scale,
        "percentile": budget.percentile,
        "feasible": selection.best is not None,
        "valid_accuracy": accuracy(network, unas.data.valid),
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
        LatencyModel(space, table)  # names what is missing
        return table
    last = last_table(target, (workload.key for workload in space.workloads()))
    if last is not None:
        yield Step("search", 0, 1, f"latencies from {last.path}, the last profiled")
        return last
    device = target.device or "cpu"
    yield Step("profile", 0, 1, f"no table for {space.title} yet: profiling {device} first")
    profiler = open_profiler(device, runtime=target.runtime, threads=target.threads or 1)
    return (yield from profile(space, profiler, rule=rule))


def _run(settings: SearchSettings, space: SearchSpace, data: Dataset, table: LatencyTable, budget: Budget) -> Run:
    config = {
        "method": "unas",
        "space": space.name,
        "input_shape": list(space.input_shape),
        "classes": space.classes,
        "dataset": str(Path(data.name).resolve()) if data.name != DIGITS else DIGITS,
        "image_size": settings.image_size,
        "table": str(table.path.resolve()),
        "table_hash": table.hash,
        "budget": settings.budget,
        "budget_ms": budget.in_ms,
        "percentile": budget.percentile,
        **asdict(settings.unas),
    }
    if settings.run is not None:
        return Run.begin(RUNS / settings.run, config)
    device = str(table.header["device"]).partition("?")[0].replace(":", "-")
    stem = f"{space.title}-{Path(data.name).stem}-{device}-{settings.budget}-s{settings.unas.seed}".replace("%", "pct")
    for number in range(1, 1000):
        path = RUNS / (stem if number == 1 else f"{stem}-{number}")
        if not (path / "config.json").exists() or Run.open(path).config == config:
            return Run.begin(path, config)
    raise TableError(f"a thousand runs are called {stem}", mend=f"rm -r {RUNS / stem}*")


def _note(metrics: dict[str, Any]) -> str:
    cost = "" if metrics["cost"] is None else f"cost {metrics['cost']:.3f}, "
    return (
        f"epoch {metrics['epoch']} ({metrics['stage']}): {cost}expected {format_ms(metrics['expected_ms'])}, "
        f"mode {format_ms(metrics['mode_ms'])}, within budget {metrics['within_budget']:.0%}, "
        f"multiplier {metrics['multiplier']:.2f}, {metrics['seconds']:.1f} s"
    )
