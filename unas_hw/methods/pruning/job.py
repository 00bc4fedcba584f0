"""Prune: from a network of the user's and budgets to a smaller one whose own measurement keeps them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, final

import torch
import yaml
from torch import nn

from latency_tables.coverage import profiler_of
from latency_tables.table import LatencyTable
from profilers.files import write_atomic
from profilers.timing import TimingRule
from profilers.units import format_ms
from unas_hw.budget import UNBOUND, Budget, format_limit
from unas_hw.data import Dataset, load_dataset
from unas_hw.meter import Meter, Reading, enough_for
from unas_hw.methods.pruning.masks import Masks, Widths, everything, smallest
from unas_hw.methods.pruning.search import USED, PruneSearch, discretise
from unas_hw.methods.pruning.settings import PruneSettings, config_of, limit_of, read_budgets, run_path
from unas_hw.methods.pruning.shapes import Arithmetic, Limit
from unas_hw.methods.pruning.table import architecture_of, latency_of_shapes, table_for
from unas_hw.network import recalibrate, save_network
from unas_hw.progress import Job, Step
from unas_hw.prunable.groups import BLOCK
from unas_hw.runs import Run
from unas_hw.search.published import Proxy, latency_of, shapes
from unas_hw.search.run_folder import ARCHITECTURE, RESULT
from unas_hw.space import Architecture
from unas_hw.spaces import SUBSET, find_space
from unas_hw.spaces.subset import SubsetSpace
from unas_hw.training import Recipe, accuracy, train

ROUNDS = 5
"""Networks that are measured at most."""
LATENCY = "latency"


def prune(settings: PruneSettings, rule: TimingRule | None = None) -> Job[dict[str, Any]]:
    """Finds a sub-network within the budgets; measures the latency of its layers first where that has a budget.

    Returns:
        As ``unas_hw.jobs.search.search``, with ``whole`` and ``pruned`` (``macs`` of one image, ``params``, ``ms`` as
        measured), ``kept_units`` and ``kept_blocks`` (``[kept, all]``), ``not_pruned`` (layers, and why),
        ``binary_gap`` of the masks at the end of the training, ``multipliers``, and ``interpolation``: errors on
        networks that were held out, in percent, None without a latency budget. For budgets that no sub-network can
        keep ``feasible`` is false, ``run`` None, and ``unmet`` says which.

    Raises:
        BudgetError: If there is no budget, or one cannot be read.
        PruningError: If the network cannot be pruned.
    """
    begin, rule = time.monotonic(), rule or TimingRule()
    asked = read_budgets(settings)
    data = load_dataset(settings.dataset, image_size=settings.image_size, seed=settings.config.seed)
    space = find_space(
        SUBSET + settings.network,
        image_shape=data.image_shape,
        classes=data.classes,
        batch=settings.batch,
        precision=settings.target.precision or "float32",
    )
    assert isinstance(space, SubsetSpace)  # what the prefix says
    for each in space.prunable.kept:
        yield Step("trace", 0, 1, f"{each.layer} keeps its width: {each.reason}")
    multiple = settings.config.multiple or BLOCK
    table = yield from table_for(space, settings.target, settings.table, rule, multiple, rows=asked is not None)
    pruning = _Pruning(settings, space, data, table, asked, multiple, rule, begin)
    if (unmet := pruning.unmet()) is not None:
        return pruning.infeasible(unmet)
    return (yield from pruning.searched())


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A sub-network that was measured.

    Attributes:
        architecture, masks: What it is.
        predicted_ms: By interpolated rows; None without a latency budget.
        reading: Of the whole of it.
        values: Of every limit, exact: of the latency what it does not exceed with the confidence of the budget.
    """

    architecture: Architecture
    masks: Masks
    predicted_ms: float | None
    reading: Reading
    values: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "architecture": str(self.architecture),
            "predicted_ms": self.predicted_ms,
            "latency_ms": self.reading.judged_ms,
        }

    def excess(self, limits: dict[str, float]) -> float:
        """What it needs of the limit that it exceeds most; at most 1 where it keeps them all."""
        return max(self.values[name] / limit for name, limit in limits.items())


@final
class _Pruning:
    """A pruning whose table is there."""

    def __init__(
        self,
        settings: PruneSettings,
        space: SubsetSpace,
        data: Dataset,
        table: LatencyTable,
        asked: Budget | None,
        multiple: int,
        rule: TimingRule,
        begin: float,
    ) -> None:
        self.settings, self.space, self.data, self.table = settings, space, data, table
        self.prunable, self.multiple, self.rule, self.begin = space.prunable, multiple, rule, begin
        self.whole = architecture_of(space, everything(self.prunable))
        percentile = asked.percentile if asked else 50
        measured_ms = table.measurements[space.workload(self.whole).key].median_ms
        self.whole_ms = measured_ms * table.tail_ratio(percentile)
        self.budget = asked.resolve(0.0, self.whole_ms) if asked else Budget(UNBOUND * self.whole_ms)
        self.latency = latency_of_shapes(space, table, percentile, multiple) if asked else None
        self.full = self.exact(self.whole)
        widths = Widths.of(self.prunable, everything(self.prunable))
        self.limits: list[Limit] = []
        if self.latency is not None:
            self.limits.append(Limit(self.latency, self.budget.in_ms, float(self.latency(widths))))
        for name, text in settings.limits.items():
            formula = Arithmetic(self.prunable, name)
            rest = self.full[name] - float(formula(widths))
            limit = limit_of(name, text, self.full[name])
            self.limits.append(Limit(Arithmetic(self.prunable, name, rest), limit, self.full[name]))

    def exact(self, architecture: Architecture) -> dict[str, float]:
        """MACs of one image, and weights."""
        with torch.random.fork_rng():
            weights = sum(weight.numel() for weight in self.space.network(architecture).parameters())
        return {"macs": self.space.workload(architecture).cost.macs / self.space.input_shape[0], "params": weights}

    def unmet(self) -> str | None:
        """The budget that not even the smallest sub-network keeps."""
        widths = Widths.of(self.prunable, smallest(self.prunable, self.multiple))
        for each in self.limits:
            if (least := each.value(widths)) > each.limit:
                name = each.complexity.name
                words = format_ms if name == LATENCY else lambda value, name=name: format_limit(name, value)
                finer = "" if self.multiple == 1 else "; --set prune.multiple=1 allows for less"
                return (
                    f"{name} budget of {words(each.limit)}: sub-networks of {self.settings.network} have "
                    f"{words(least)} to {words(each.whole)}{finer}"
                )
        return None

    def _common(self) -> dict[str, Any]:
        return {
            "space": self.space.name,
            "table": str(self.table.path),
            "device": self.table.header["device"],
            "budget": self.settings.budget,
            "budget_ms": self.budget.in_ms,
            "whole": {**self.full, "ms": self.whole_ms},
            "not_pruned": {each.layer: each.reason for each in self.prunable.kept},
        }

    def infeasible(self, unmet: str) -> dict[str, Any]:
        """The result where nothing keeps a budget."""
        nothing = dict.fromkeys(("run", "architecture", "predicted_ms", "measured_ms", "valid_accuracy"))
        seconds = time.monotonic() - self.begin
        return {**self._common(), **nothing, "feasible": False, "unmet": unmet, "seconds": seconds}

    def searched(self) -> Job[dict[str, Any]]:
        """Trains masks, takes what keeps the budgets as measured, and writes it."""
        settings = self.settings
        setting = Proxy(self.data, settings.image_size, self.space, self.space)
        config = config_of(settings, setting, self.table, self.budget)
        run = Run.begin(run_path(settings, self.space.name, config, self.table), config)
        if settings.told:
            write_atomic(run.path / "config.yaml", yaml.safe_dump(dict(settings.told), sort_keys=False))
        with run.alone():
            if (run.path / RESULT).exists():
                yield Step("prune", 1, 1, f"{run.path} is finished; --seed or --run begins another")
                return run.read_json(RESULT)
            if self.latency is not None and (errors := self.latency.calibration.errors):
                yield Step(
                    "prune", 0, 1, f"interpolated rows predict {errors.networks} whole sub-networks that were held out "
                    f"to {errors.mape:.1f}%, the worst to {errors.max_error:.1f}%"
                )  # fmt: skip
            search = PruneSearch(
                self.prunable,
                lambda: self.space.network(self.whole),
                self.data.train,
                self._aims(dict.fromkeys((each.complexity.name for each in self.limits), 1.0)),
                settings.config,
                run,
                settings.hardware,
            )
            search.resume()
            for metrics in search.steps():
                yield Step("prune", metrics["epoch"], settings.config.epochs, epoch=metrics)
            found, measured = yield from self._selected(search, run)
            return (yield from self._finished(search, run, found, measured))

    def _aims(self, corrections: dict[str, float]) -> list[Limit]:
        """Limits of what is predicted; of the latency with room for later measurements."""
        found = []
        for each in self.limits:
            room = 1 - Meter.headroom if each.complexity.name == LATENCY else 1.0
            found.append(Limit(each.complexity, each.limit * room / corrections[each.complexity.name], each.whole))
        return found

    def _selected(self, search: PruneSearch, run: Run) -> Job[tuple[_Found, int]]:
        """Measures what the masks leave, and adjusts it until it keeps the budgets and uses them."""
        limits = {each.complexity.name: each.limit for each in self.limits}
        corrections = dict.fromkeys(limits, 1.0)
        seen: list[_Found] = []
        rule = enough_for(self.rule, self.budget)
        with profiler_of(self.table) as profiler:
            meter = Meter(
                self.space, self.table, profiler, percentile=self.budget.percentile, confidence=self.budget.confidence,
                run=run,
            )  # fmt: skip
            for number in range(ROUNDS):
                aims = self._aims(corrections)
                masks = discretise(self.prunable, search.theta.values, aims, self.multiple)
                masks = smallest(self.prunable, self.multiple) if masks is None else masks
                architecture = architecture_of(self.space, masks)
                if architecture in [each.architecture for each in seen]:
                    break
                (reading,) = meter.measure([architecture], label="final", rule=rule)
                widths = Widths.of(self.prunable, masks)
                predicted = {each.complexity.name: each.value(widths) for each in self.limits}
                values = {**self.exact(architecture), LATENCY: reading.upper_ms}
                found = _Found(
                    architecture=architecture,
                    masks=masks,
                    predicted_ms=predicted.get(LATENCY),
                    reading=reading,
                    values={name: values[name] for name in limits},
                )
                seen.append(found)
                yield Step("measure", number + 1, ROUNDS, self._note(found), measured=(found.to_json(),))
                kept = found.excess(limits) <= 1
                if kept and all(
                    values[name] >= USED * aim.limit * corrections[name] for name, aim in zip(limits, aims, strict=True)
                ):
                    break
                slower = 1.0 if kept else 1 + 0.02 * number
                corrections = {name: values[name] / predicted[name] * slower for name in limits}
        fitting = [each for each in seen if each.excess(limits) <= 1]
        if fitting:  # an unused budget is unused accuracy
            return max(fitting, key=lambda each: each.excess(limits)), len(seen)
        return min(seen, key=lambda each: each.excess(limits)), len(seen)

    def _note(self, found: _Found) -> str:
        values = {**self.exact(found.architecture), LATENCY: found.reading.judged_ms}
        said = [f"{format_limit(name, values[name])} {name}" for name in ("macs", "params")]
        predicted = "" if found.predicted_ms is None else f", {format_ms(found.predicted_ms)} predicted"
        return f"{', '.join(said)}{predicted}, {format_ms(found.reading.judged_ms)} measured"

    def _network(self, search: PruneSearch, run: Run, found: _Found) -> Job[tuple[nn.Module, float | None]]:
        """The smaller module, and its accuracy on the validation images where it has learnt."""
        config, hardware = self.settings.config, self.settings.hardware
        if not self.settings.carry:
            with hardware.seeded(config.seed):
                return self.space.network(found.architecture), None
        network = self.prunable.slimmed(found.masks, search.network.cpu())
        with hardware.holding(network):
            recalibrate(network, self.data.train)
        recipe = Recipe(epochs=config.finetune_epochs, lr=2e-3, seed=config.seed)
        for metrics in train(network, self.data.train, recipe, run, "finetune", hardware):
            yield Step("fine-tune", metrics["epoch"], recipe.epochs, epoch=metrics)
        with hardware.holding(network):
            return network, accuracy(network, self.data.valid)

    def _finished(self, search: PruneSearch, run: Run, found: _Found, measured: int) -> Job[dict[str, Any]]:
        """Writes the network, its weights and the result; the result last: it says that the run is finished."""
        network, valid_accuracy = yield from self._network(search, run, found)
        save_network(run, "weights.safetensors", network)
        run.write_json(
            ARCHITECTURE,
            {
                "space": self.space.name,
                "version": 1,
                "choices": list(found.architecture.choices),
                **shapes(self.space, self.space),
                "table": self.table.hash,
            },
        )
        errors = self.latency.calibration.errors if self.latency else None
        limits = {each.complexity.name: each.limit for each in self.limits}
        last = run.lines("metrics.jsonl")[-1]
        result = {
            "run": str(run.path),
            **self._common(),
            "architecture": str(found.architecture),
            "predicted_ms": found.reading.judged_ms if found.predicted_ms is None else found.predicted_ms,
            **latency_of(self.table, found.reading),
            **shapes(self.space, self.space),
            "percentile": self.budget.percentile,
            "confidence": self.budget.confidence,
            "feasible": found.excess(limits) <= 1,
            "limits": {
                name: {"limit": limit, "value": found.values[name]} for name, limit in limits.items() if name != LATENCY
            },
            "valid_accuracy": valid_accuracy,
            "candidates": measured,
            "peak_bytes": None,
            "pruned": {**self.exact(found.architecture), "ms": found.reading.judged_ms},
            "units": {group.name: [int(found.masks[group.name].sum()), group.size] for group in self.prunable.groups},
            "blocks": {block.name: bool(found.masks[block.name]) for block in self.prunable.blocks},
            "binary_gap": last["binary_gap"],
            "multipliers": {name: last[name]["multiplier"] for name in limits},
            "interpolation": None if errors is None else errors.__dict__,
            "seconds": time.monotonic() - self.begin,
        }
        run.write_json(RESULT, result)
        return result
