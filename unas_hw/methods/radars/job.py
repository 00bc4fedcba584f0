"""RADARS from a prepared search to its network: candidates are pruned until a step keeps the bound, then UNAS runs."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, cast

import torch

from profilers.units import format_bytes, parse_bytes
from unas_hw.errors import MemoryBudgetError, MethodError
from unas_hw.latency_model import LatencyModel
from unas_hw.memory import Mode, StepCost, StepPeak, give_back, measure
from unas_hw.methods.radars.config import RadarsConfig
from unas_hw.methods.radars.footprint import Footprint, Numbers, Rank, Reach, narrowed, sizes_of
from unas_hw.methods.radars.pruners import DRAWS
from unas_hw.methods.radars.search import CHECKPOINT, RadarsSearch, by_worth
from unas_hw.methods.registry import find_method
from unas_hw.optimizer_state import under
from unas_hw.progress import Job, Step
from unas_hw.runs import Run
from unas_hw.search.limits import constraints_of
from unas_hw.search.method import DifferentiableJob
from unas_hw.search.prepared import Prepared
from unas_hw.search.run_folder import CHECKPOINT as SUPERNET
from unas_hw.search.run_folder import MEMORY, RESULT, SUBSPACE
from unas_hw.search.selection import Path
from unas_hw.search.settings import SearchSettings
from unas_hw.spaces.subspace import Kept, Structure, Subspace, everything
from unas_hw.supernet import Supernet

STEPS = "radars_steps.jsonl"
SHARES = (0.15, 0.5)
"""Of what the bound leaves above a single network: what two further subspaces are predicted to take.

The first prediction may be wrong by a factor, as it knows of no scale, and still keeps the bound.
"""
MEASURED = 12
"""Steps of a subspace: what the C library cannot use again grows for about ten of them. A checkpoint follows."""
GROWTH = 0.04
"""Share of the bound by which a search of many steps may take more than those that are measured: 3% was seen."""
LEAST_BATCH = 8
MODE = Mode(recompute=False)
"""How steps are run: as plain DNAS runs them."""


def refuse(settings: SearchSettings) -> None:
    """Raises ``MethodError`` where there is no bound."""
    bound_of(settings)


def search(prepared: Prepared) -> Job[dict[str, Any]]:
    """Prunes, unless ``subspace.json`` says what is left, and finishes the run with UNAS in the subspace.

    Returns:
        As ``search``, with ``kept_candidates`` and ``all_candidates`` (how many are left, and how many there were),
        ``memory_budget_bytes``, ``step_bytes`` (of the measured step that decided) and ``pruning_peak_bytes``;
        ``peak_bytes`` is that of everything.

    Raises:
        MemoryBudgetError: If a single network exceeds the bound.
    """
    run = prepared.run
    if not (run.path / SUBSPACE).exists():
        yield from prune_space(prepared)
    told = run.read_json(SUBSPACE)
    names = ("memory_budget_bytes", "step_bytes", "pruning_peak_bytes", "kept_candidates", "all_candidates")
    inside = replace(within(prepared, told["kept"]), more={name: told[name] for name in names})
    result = yield from dnas().search(inside)
    if result["peak_bytes"] is not None:
        result |= {"peak_bytes": max(result["peak_bytes"], told["pruning_peak_bytes"])}
        run.write_json(RESULT, result)
    return result


def dnas() -> DifferentiableJob:
    """The method that searches what is left."""
    assert RadarsConfig.ends_with is not None
    return cast(DifferentiableJob, find_method(RadarsConfig.ends_with).job)


def within(prepared: Prepared, kept: Kept) -> Prepared:
    """A search of ``dnas`` in a subspace."""
    space = Subspace(prepared.whole, kept)
    priced = space if prepared.model.space is prepared.whole else Subspace(prepared.model.space, kept)
    settings = prepared.settings
    limits = constraints_of(settings.limits, space, prepared.table)
    model = LatencyModel(priced, prepared.table, prepared.budget.percentile)
    whole = ended(prepared)
    return replace(whole, space=space, model=model, constraints=limits, around=whole)


def ended(prepared: Prepared) -> Prepared:
    """A search of ``dnas`` in the whole space."""
    assert prepared.settings.ending is not None  # ends_with names it
    return replace(
        prepared, settings=replace(prepared.settings, method="", config=prepared.settings.ending, ending=None)
    )


def bound_of(settings: SearchSettings) -> int:
    """Bytes that a step may take; raises ``MethodError`` where nobody said it, ``UnitError`` where badly."""
    if settings.memory_budget is None:
        raise MethodError(
            "RADARS prunes a space until a step of its search keeps a memory budget, and there is none",
            mend="add --memory-budget 2GB, or whatever this machine has",
        )
    return int(parse_bytes(settings.memory_budget))


def prune_space(prepared: Prepared) -> Job[None]:
    """Prunes, and writes ``subspace.json`` and ``memory.json``; goes on where it was killed.

    Raises:
        MemoryBudgetError: See ``search``.
    """
    bound, run, config = bound_of(prepared.settings), prepared.run, prepared.config(RadarsConfig)
    steps = Steps(prepared, bound)
    yield Step("memory", 0, 1, "steps are measured to see what memory they take")
    footprint, reach = steps.footprint(), Reach(prepared.model, prepared.aim_ms, prepared.constraints)
    kept, witness = everything(prepared.whole), reach.witness()
    yield from steps.calibrate(footprint, reach)
    rank: Rank = lambda kept, shares: -shares  # noqa: E731 - replaced by what is learnt, where there is anything to
    predicted, learnt = footprint.bytes(kept), None
    note = (
        f"a step of the whole space is predicted to take {format_bytes(predicted)}, the bound is {format_bytes(bound)}"
    )
    yield Step("prune", 0, config.episodes, note)
    if predicted > bound * (1 - config.headroom):
        config = replace(config, batch_size=(yield from steps.batch_size(footprint, reach)))
        with StepPeak(steps.device) as peak:
            search = radars_of(prepared, footprint, reach, config)
            search.resume()
            for line in search.episodes():
                yield Step("prune", search.episode, config.episodes, _note(line))
            steps.peaks.append(peak.bytes())
        kept, witness, worth = search.kept, search.witness, search.worth()
        rank, learnt = by_worth(worth), worth if config.warm_start else None
        del search
        free()
    kept, cost = yield from steps.settle(kept, witness, footprint, reach, rank, config.headroom)
    if learnt is not None:
        warm(within(prepared, kept), [learnt[g, list(each)] for g, each in enumerate(kept)])
    tried = [{"mode": str(MODE), "peak_bytes": cost.peak_bytes, "seconds": cost.seconds}]
    run.write_json(MEMORY, {"budget_bytes": bound, **asdict(MODE), "tried": tried})
    choices = [decision.choices for decision in prepared.whole.decisions]
    run.write_json(
        SUBSPACE,
        {
            "kept": kept,
            "names": [[names[j] for j in each] for names, each in zip(choices, kept, strict=True)],
            "kept_candidates": sum(map(len, kept)),
            "all_candidates": sum(map(len, choices)),
            "memory_budget_bytes": bound,
            "predicted_bytes": footprint.bytes(kept),
            "predicted_whole_bytes": predicted,
            "step_bytes": cost.peak_bytes,
            "step_s": cost.seconds,
            "pruning_peak_bytes": max(steps.peaks),
        },
    )


def whole_supernet(prepared: Prepared) -> Supernet:
    """Of the whole space on the search's device, of its seed."""
    hardware = prepared.settings.hardware.of_process()
    with torch.random.fork_rng():
        torch.manual_seed(prepared.settings.seed)
        supernet = hardware.ready(prepared.whole.supernet())
    supernet.bf16 = hardware.bf16
    return supernet


def radars_of(prepared: Prepared, footprint: Footprint, reach: Reach, config: RadarsConfig) -> RadarsSearch:
    """The pruning at its begin."""
    return RadarsSearch(
        whole_supernet(prepared),
        footprint,
        reach,
        prepared.data,
        bound_of(prepared.settings),
        config,
        prepared.settings.seed,
        prepared.run,
        prepared.settings.hardware.of_process(),
    )


class Steps:
    """Measures steps of subspaces; what was measured is in the run's journal and not measured again.

    Attributes:
        peaks: Of everything so far, in bytes.
    """

    def __init__(self, prepared: Prepared, bound: int) -> None:
        self.prepared, self.bound = prepared, bound
        self.device = prepared.settings.hardware.of_process().device
        self.peaks = [0]

    def footprint(self) -> Footprint:
        """With the sizes of all candidates, which are run one by one."""
        prepared = self.prepared
        structure = Structure(prepared.whole)
        with StepPeak(self.device) as peak:
            count = min(dnas().images_a_pass(prepared.settings), len(prepared.data.train))
            images = prepared.data.train.on(self.device).take(torch.arange(count))
            sizes = sizes_of(whole_supernet(prepared), images, structure.mask(everything(prepared.whole)))
            self.peaks.append(peak.bytes())
        free()
        return Footprint(structure, sizes)

    def measured(self, kept: Kept) -> StepCost:
        """A step of UNAS in this subspace, given up where it exceeds the bound."""
        what = {"kept": [list(each) for each in kept]}
        if (cost := self._known(what)) is None:
            rehearsal = Run(self.prepared.run.path / "rehearsal", {})
            unas = dnas().begun(replace(within(self.prepared, kept), run=rehearsal))
            rehearsed, left = unas.rehearse(), MEASURED

            def step() -> None:
                nonlocal left
                left -= 1
                rehearsed()
                if not left:
                    unas.save()  # as after an epoch, which takes memory too

            cost = measure(step, unas.supernet, MODE, limit_bytes=self.bound, steps=MEASURED)
            del unas, rehearsed, step
            shutil.rmtree(rehearsal.path, ignore_errors=True)
            self._append(what, cost)
        self.peaks.append(cost.peak_bytes)
        return cost

    def batch_size(self, footprint: Footprint, reach: Reach) -> Job[int]:
        """Images with which the largest single network keeps the bound: those of the configuration, or a half ..."""
        size = self.prepared.config(RadarsConfig).batch_size
        while True:
            what = {"batch_size": size}
            if (cost := self._known(what)) is None:
                config = replace(self.prepared.config(RadarsConfig), batch_size=size)
                search = radars_of(self.prepared, footprint, reach, config)
                cost = measure(search.rehearse, search.supernet, MODE, limit_bytes=self.bound)
                del search
                self._append(what, cost)
            self.peaks.append(cost.peak_bytes)
            if self.keeps(cost):
                return size
            if size < 2 * LEAST_BATCH:
                raise MemoryBudgetError(
                    f"training the largest network with {size} images takes {cost}: the bound is "
                    f"{format_bytes(self.bound)}",
                    mend="give a larger --memory-budget",
                )
            size //= 2
            yield Step("memory", 1, 1, f"children are trained with {size} images at a time: with more, {cost}")

    def _known(self, what: dict[str, Any]) -> StepCost | None:
        found = [line for line in self.prepared.run.lines(STEPS) if line.items() >= what.items()]
        return StepCost(MODE, found[0]["peak_bytes"], found[0]["seconds"]) if found else None

    def _append(self, what: dict[str, Any], cost: StepCost) -> None:
        free()
        self.prepared.run.append(STEPS, {**what, "peak_bytes": cost.peak_bytes, "seconds": cost.seconds})

    def keeps(self, cost: StepCost) -> bool:
        return cost.seconds is not None and cost.peak_bytes <= self.bound * (1 - GROWTH)

    def calibrate(self, footprint: Footprint, reach: Reach) -> Job[None]:
        """Gives the footprint M_w and the scale, by a single network and by subspaces that are below the bound."""
        alone: Kept = tuple((j,) for j in reach.witness())
        cost = self.measured(alone)
        if not self.keeps(cost):
            raise MemoryBudgetError(
                f"a step with one candidate of each decision takes {cost}: the bound is {format_bytes(self.bound)}",
                mend="give a larger --memory-budget, or use a smaller --batch-size",
            )
        footprint.measured(alone, cost.peak_bytes)
        yield Step("memory", 0, 1, f"one candidate of each decision: {cost}")
        generator, first = torch.Generator().manual_seed(0), cost.peak_bytes
        order = torch.rand(footprint.structure.shape, generator=generator, dtype=torch.float64).numpy()
        for share in SHARES:
            target = first + share * (self.bound - first)
            whole, witness = everything(self.prepared.whole), reach.witness()
            kept, _ = narrowed(whole, witness, target, footprint, reach, lambda kept, shares: order)
            cost = self.measured(kept)
            footprint.measured(kept, cost.peak_bytes)
            yield Step("memory", 1, 1, f"{sum(map(len, kept))} candidates: {cost}")

    def settle(
        self, kept: Kept, witness: Path, footprint: Footprint, reach: Reach, rank: Rank, headroom: float
    ) -> Job[tuple[Kept, StepCost]]:
        """Prunes on until a measured step keeps the bound: it decides, the footprint only predicts."""
        while not self.keeps(cost := self.measured(kept)):
            yield Step("prune", 1, 1, f"{sum(map(len, kept))} candidates take {cost}: pruned on")
            too_much = cost.peak_bytes - self.bound * (1 - GROWTH) + headroom * self.bound / 4
            if cost.seconds is None:  # it had only begun to exceed the bound
                too_much += headroom * self.bound
            left, witness = narrowed(kept, witness, footprint.bytes(kept) - too_much, footprint, reach, rank)
            if left == kept:
                raise MemoryBudgetError(
                    f"a step with {sum(map(len, kept))} candidates of {len(kept)} decisions takes {cost}, and no other "
                    f"can be pruned: the bound is {format_bytes(self.bound)}",
                    mend="give a larger --memory-budget or latency budget, or use a smaller --batch-size",
                )
            kept = left
        yield Step("prune", 1, 1, f"{sum(map(len, kept))} candidates are left: {cost}")
        return kept, cost


def warm(inside: Prepared, worth: Sequence[Numbers]) -> None:
    """UNAS in the subspace begins with what the pruning learnt: its first checkpoint has the weights, and in alpha the
    logarithm of the worth of every decision's candidates.
    """
    saved = inside.run.load_tensors(CHECKPOINT)
    if saved is not None and not (inside.run.path / SUPERNET).exists():
        unas = dnas().begun(inside)
        # What a mixed operation keeps of which nothing is used may be another candidate than the pruning's.
        learnt = {f"base.{name}": tensor for name, tensor in under(saved[0], "supernet").items()}
        unas.supernet.load_state_dict(learnt, strict=False)
        with torch.no_grad():
            for row, each in zip(unas.distribution.alpha, worth, strict=True):
                row[: len(each)] = torch.from_numpy(each + 1 / DRAWS).log()
        unas.save()


def free() -> None:
    """Searches have cycles; what they took goes back to the system."""
    gc.collect()
    give_back()


def _note(line: dict[str, Any]) -> str:
    if "kept" not in line:
        return ""
    accuracy = sum(map(sum, line["accuracies"])) / sum(map(len, line["accuracies"]))
    return (
        f"episode {line['episode']}: {sum(map(len, line['kept']))} candidates are left, a step is predicted to take "
        f"{format_bytes(line['bytes'])}; children are right on {accuracy:.0%}"
    )
