"""A file that misses its budget is repaired: the table's scale is learnt, neighbours are measured until one keeps it.
A kill at any moment loses no measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from torch import nn

from latency_tables.table import LatencyTable
from profilers.units import format_ms
from tests.unas_hw.repairs import LABEL, SLOWER, Device, between, repaired
from unas_hw.jobs.train import Elsewhere, retrain
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import Reading
from unas_hw.progress import Job, finish
from unas_hw.repair.job import repair, repaired_scale, searched
from unas_hw.repair.neighbours import scale_of
from unas_hw.search.evidence import Evidence
from unas_hw.space import Architecture
from unas_hw.training import Recipe
from unas_hw.verify.artifact import Context, open_run


@pytest.mark.parametrize(
    "share", [0.98, 0.5, 0.0, *(pytest.param(x, marks=pytest.mark.slow) for x in (0.9, 0.7, 0.3, 0.1))]
)
def test_a_device_that_is_slower_than_the_table_is_kept_within_its_budget(context: Context, share: float) -> None:
    device = Device(context)
    budget_ms = between(device, context, share)
    found = repaired(context, device, budget_ms)
    assert found.reason is None and found.architecture is not None and found.reading is not None
    assert found.architecture != context.architecture
    assert 1 <= len(found.rounds) <= 4
    assert [each.number for each in found.rounds] == list(range(1, len(found.rounds) + 1))
    assert [each.architecture for each in found.rounds] == device.measured
    assert found.reading == device.reading(found.architecture)
    assert found.reading.upper_ms <= budget_ms
    assert found.reading.upper_ms >= 0.9 * budget_ms or share == 0.0
    assert found.scale == pytest.approx(SLOWER, rel=0.02)
    assert repaired_scale(context.run) == found.scale


@pytest.mark.parametrize("share", [0.6, *(pytest.param(x, marks=pytest.mark.slow) for x in (0.9, 0.3, 0.1))])
def test_a_table_that_is_wrong_by_more_than_a_factor_is_repaired_too(context: Context, share: float) -> None:
    device = Device(context, slower=1.2, offset_ms=1.5 * LatencyModel(context.space, context.table).range[0])
    budget_ms = between(device, context, share)
    found = repaired(context, device, budget_ms)
    assert found.architecture is not None and found.reading is not None
    assert len(found.rounds) <= 4
    assert 0.85 * budget_ms <= found.reading.upper_ms <= budget_ms
    predicted_ms = device.model.latency_ms(context.space.indices(found.architecture))
    assert found.scale * predicted_ms == pytest.approx(found.reading.judged_ms)  # and not what large networks say


def test_the_neighbour_that_the_search_would_keep_is_measured(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered: list[Sequence[tuple[int, ...]]] = []

    def last(_: Evidence, paths: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        offered.append(paths)
        return sorted(paths, reverse=True)

    monkeypatch.setattr(Evidence, "order", last)
    device = Device(context)
    repaired(context, device, between(device, context, 0.5))
    assert [context.space.indices(each) for each in device.measured] == [max(paths) for paths in offered]
    assert len(offered[0]) > 1


def test_what_was_learnt_is_kept_in_the_run_and_the_table_stays(context: Context) -> None:
    device, table = Device(context), context.table.path.read_bytes()
    assert repaired_scale(context.run) == 1
    found = repaired(context, device, between(device, context, 0.5))
    assert context.table.path.read_bytes() == table
    told = context.run.read_json("repair.json")
    assert told["table_hash"] == LatencyTable.load(context.table.path).hash
    assert told["architecture_before"] == str(context.architecture)
    assert told["architecture"] == str(found.architecture)
    assert [each["architecture"] for each in told["from"]] == [str(context.architecture), *map(str, device.measured)]
    assert told["rounds"] == [each.to_json() for each in found.rounds]
    round_ = found.rounds[0]
    assert round_.predicted_ms == pytest.approx(device.model.latency_ms(context.space.indices(round_.architecture)))
    first = device.reading(context.architecture)
    scale = first.judged_ms / device.model.latency_ms(context.space.indices(context.architecture))
    assert round_.corrected_ms == pytest.approx(scale * round_.predicted_ms)
    assert round_.distance == sum(map(str.__ne__, round_.architecture.choices, context.architecture.choices))
    assert str(open_run(None).architecture) == str(context.architecture)  # nothing is adopted yet


def test_every_round_says_what_it_learnt_and_what_it_changes(context: Context) -> None:
    device = Device(context)
    budget_ms, old, first = between(device, context, 0.9), context.architecture, device.reading(context.architecture)
    steps = list(repair(context, budget_ms, first, device.measure, label=LABEL))
    notes = [step.note for step in steps if step.stage == "repair"]
    assert notes and all("\n" not in note for note in notes)
    scale = scale_of([(device.model.latency_ms(path), first.judged_ms) for path in [context.space.indices(old)]])
    assert f"round 1: measured {format_ms(first.judged_ms)} (at most {format_ms(first.upper_ms)})" in notes[0]
    assert f"budget {format_ms(budget_ms)}: the table's scale is x{scale:.2f} now" in notes[0]
    pairs = zip(context.space.decisions, old.choices, device.measured[0].choices, strict=True)
    changed = [(decision, was, now) for decision, was, now in pairs if was != now]
    assert changed and all(f"{was} -> {now} at {decision.name}" in notes[0] for decision, was, now in changed)


def test_a_budget_that_nothing_meets_has_a_reason_with_both_numbers(context: Context) -> None:
    device = Device(context)
    budget_ms = 0.9 * between(device, context, 0.0)
    found = repaired(context, device, budget_ms)
    assert found.architecture is None and found.reading is None
    assert found.reason is not None
    smallest = device.reading(context.space.architecture(device.model.smallest))
    assert "the smallest network of the space takes" in found.reason
    assert format_ms(smallest.judged_ms) in found.reason and f"the budget is {format_ms(budget_ms)}" in found.reason
    assert device.measured == [context.space.architecture(device.model.smallest)]  # a prediction alone refuses nothing
    assert found.scale == pytest.approx(SLOWER, rel=0.02)


def test_a_budget_below_what_even_the_table_promises_is_not_measured_for(context: Context) -> None:
    device = Device(context)
    found = repaired(context, device, 0.99 * device.model.range[0])
    assert found.architecture is None and found.reason is not None and found.rounds == ()
    assert device.measured == []
    assert format_ms(found.scale * device.model.range[0]) in found.reason
    assert f"the budget is {format_ms(0.99 * device.model.range[0])}" in found.reason


def test_a_device_that_no_scale_describes_ends_after_the_rounds_that_were_allowed(context: Context) -> None:
    device = Device(context)
    budget_ms = between(device, context, 0.8)

    def measure(architecture: Architecture, network: nn.Module) -> Job[Reading]:
        yield from device.measure(architecture, network)
        return Reading(raw_ms=1.2 * budget_ms, scaled_ms=1.2 * budget_ms, margin=0.0, anchor_scale=1.0)

    found = finish(repair(context, budget_ms, device.reading(context.architecture), measure, label=LABEL, rounds=3))
    assert found.architecture is None and len(found.rounds) == 3
    assert len(set(device.measured)) == 3
    assert found.reason is not None and "3 rounds were not enough" in found.reason


def test_what_is_only_surely_within_the_budget_counts(context: Context) -> None:
    wide = Device(context, margin=0.2)
    budget_ms = between(wide, context, 0.6)
    found = repaired(context, wide, budget_ms)
    assert found.reading is not None
    assert found.reading.upper_ms <= budget_ms
    assert found.reading.judged_ms <= budget_ms / 1.2


def test_other_budgets_of_the_search_are_kept(context: Context) -> None:
    device = Device(context)
    params = [sum(each.numel() for each in context.space.network(context.architecture).parameters())]
    context.run.config["limits"] = {"params": f"{params[0]}"}
    found = repaired(context, device, between(device, context, 0.7))
    assert found.architecture is not None
    assert sum(each.numel() for each in context.space.network(found.architecture).parameters()) <= params[0]


def test_a_repair_that_was_killed_goes_on_and_measures_nothing_again(context: Context) -> None:
    device = Device(context, slower=2.5)
    budget_ms = between(device, context, 0.7)
    first = device.reading(context.architecture)
    lucky = Reading(raw_ms=first.raw_ms / 1.4, scaled_ms=first.scaled_ms / 1.4, margin=0.0, anchor_scale=1.0)
    assert lucky.upper_ms < first.upper_ms  # misleads, so that one round is not enough
    whole = repair(context, budget_ms, lucky, device.measure, label=LABEL)
    for step in whole:
        if step.stage == "repair" and step.done == 2:
            whole.close()  # before the second is measured
            break
    assert len(device.measured) == 1
    assert len(context.run.lines("repair.jsonl")) == 1
    found = finish(repair(context, budget_ms, lucky, device.measure, label=LABEL))
    assert found.reason is None and len(found.rounds) >= 2
    assert [each.architecture for each in found.rounds] == device.measured
    assert len(set(device.measured)) == len(device.measured)
    count = len(device.measured)
    again = finish(repair(context, budget_ms, lucky, device.measure, label=LABEL))
    assert again == found and len(device.measured) == count
    other = finish(repair(context, budget_ms, lucky, device.measure, label="onnx int8"))
    assert other.rounds and len(device.measured) > count  # another file has another latency


def test_a_run_that_was_only_trained_has_no_neighbours(context: Context, npz: Path) -> None:
    recipe = Recipe(epochs=1, batch_size=16)
    told = Elsewhere(architecture="k3e3," * 8 + "k5e3", dataset=str(npz), name="alone")
    finish(retrain(None, recipe, elsewhere=told))
    device = Device(context)
    first = device.reading(context.architecture)
    found = finish(repair(open_run("alone"), 0.1, first, device.measure, label=LABEL))
    assert found.architecture is None and found.rounds == () and found.scale == 1
    assert found.reason is not None and "without a search" in found.reason


def test_a_search_without_checkpoint_has_no_neighbours(context: Context) -> None:
    (context.run.path / "checkpoint.safetensors").unlink()
    device = Device(context)
    found = repaired(context, device, between(device, context, 0.5))
    assert found.architecture is None and device.measured == []
    assert found.reason is not None and "checkpoint" in found.reason


def test_the_search_is_rebuilt_as_it_ended(context: Context) -> None:
    before = {path: path.read_bytes() for path in context.run.path.iterdir() if path.is_file()}
    unas = searched(context, 1.0)
    line = context.run.lines("metrics.jsonl")[-1]
    assert unas.epoch == unas.epochs == 2
    assert str(unas.space.architecture(unas.distribution.mode())) == line["mode"]
    assert float(unas.valid_losses(unas.distribution.mode()).mean()) == pytest.approx(line["mode_valid_loss"], rel=1e-5)
    assert {path: path.read_bytes() for path in before} == before
