"""A file that misses its budget is repaired: the table's scale is learnt, neighbours are measured until one keeps it,
and that one becomes the run's network. A kill at any moment loses neither measurements nor the network that was there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import torch
from torch import nn

from latency_tables.table import LatencyTable
from profilers.timing import TimingRule
from profilers.units import format_ms
from unas_hw.jobs import search
from unas_hw.jobs.train import Elsewhere, retrain
from unas_hw.latency_model import LatencyModel
from unas_hw.meter import Reading
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.network import load_network
from unas_hw.progress import Job, Step, finish
from unas_hw.repair import job as jobs_repair
from unas_hw.repair.job import Repaired, adopt, repair, repaired_scale, searched
from unas_hw.repair.neighbours import scale_of
from unas_hw.runs import Run
from unas_hw.search.settings import SearchSettings
from unas_hw.space import Architecture, SearchSpace
from unas_hw.training import Recipe, accuracy
from unas_hw.verify import artifact
from unas_hw.verify.artifact import Context, open_run

TINY = UnasConfig(warmup_epochs=1, epochs=1, finetune_epochs=1, batch_size=24)
SLOWER = 1 / 0.6
LABEL = "onnx float32"


@pytest.fixture(scope="module")
def workshop(npz: Path, small_table_path: Path, rule: TimingRule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a network was searched."""
    folder = tmp_path_factory.mktemp("workshop")
    told = SearchSettings(
        budget="80%",
        dataset=str(npz),
        table=small_table_path,
        run="one",
        config=TINY,
        params_budget="10M",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        finish(search.search(told, rule))
    return folder


@pytest.fixture
def context(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered_spaces: Callable[..., SearchSpace]
) -> Context:
    """A copy of the run, for one test."""
    monkeypatch.setattr(artifact, "find_space", remembered_spaces)
    shutil.copytree(workshop / "runs", tmp_path / "runs")
    return open_run(None)


class Device:
    """Slower than the table says, by a factor that is not the same for all networks; remembers what it measured."""

    def __init__(self, context: Context, slower: float = SLOWER, margin: float = 0.01, offset_ms: float = 0.0) -> None:
        self.model = LatencyModel(context.space, context.table)
        self.offset_ms = offset_ms
        self.slower, self.margin, self.measured = slower, margin, list[Architecture]()

    def reading(self, architecture: Architecture) -> Reading:
        predicted_ms = self.model.latency_ms(self.model.space.indices(architecture))
        odd = 1 + 0.02 * (crc32(str(architecture).encode()) / 2**31 - 1)
        ms = odd * (self.slower * predicted_ms + self.offset_ms)
        return Reading(raw_ms=ms, scaled_ms=ms, margin=self.margin, anchor_scale=1.0)

    def measure(self, architecture: Architecture, network: nn.Module) -> Job[Reading]:
        assert not network.training
        with torch.inference_mode():
            assert bool(torch.isfinite(network(torch.randn(self.model.space.input_shape))).all())
        self.measured.append(architecture)
        yield Step("measure", 0, 1)
        return self.reading(architecture)


def _repaired(context: Context, device: Device, budget_ms: float, **settings: Any) -> Repaired:
    first = device.reading(context.architecture)
    return finish(repair(context, budget_ms, first, device.measure, label=LABEL, **settings))


def _between(device: Device, context: Context, share: float) -> float:
    """A budget so far of the way from what the fastest network takes to what the run's takes."""
    model = device.model
    least = device.reading(model.space.architecture(model.smallest)).upper_ms
    return least + share * (device.reading(context.architecture).judged_ms - least)


@pytest.mark.parametrize("share", [0.98, 0.9, 0.7, 0.5, 0.3, 0.1, 0.0])
def test_a_device_that_is_slower_than_the_table_is_kept_within_its_budget(context: Context, share: float) -> None:
    device = Device(context)
    budget_ms = _between(device, context, share)
    found = _repaired(context, device, budget_ms)
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


@pytest.mark.parametrize("share", [0.9, 0.6, 0.3, 0.1])
def test_a_table_that_is_wrong_by_more_than_a_factor_is_repaired_too(context: Context, share: float) -> None:
    device = Device(context, slower=1.2, offset_ms=1.5 * LatencyModel(context.space, context.table).range[0])
    budget_ms = _between(device, context, share)
    found = _repaired(context, device, budget_ms)
    assert found.architecture is not None and found.reading is not None
    assert len(found.rounds) <= 4
    assert 0.85 * budget_ms <= found.reading.upper_ms <= budget_ms
    predicted_ms = device.model.latency_ms(context.space.indices(found.architecture))
    assert found.scale * predicted_ms == pytest.approx(found.reading.judged_ms)  # and not what large networks say


def test_what_was_learnt_is_kept_in_the_run_and_the_table_stays(context: Context) -> None:
    device, table = Device(context), context.table.path.read_bytes()
    assert repaired_scale(context.run) == 1
    found = _repaired(context, device, _between(device, context, 0.5))
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
    budget_ms, old, first = _between(device, context, 0.9), context.architecture, device.reading(context.architecture)
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
    budget_ms = 0.9 * _between(device, context, 0.0)
    found = _repaired(context, device, budget_ms)
    assert found.architecture is None and found.reading is None
    assert found.reason is not None
    smallest = device.reading(context.space.architecture(device.model.smallest))
    assert "the smallest network of the space takes" in found.reason
    assert format_ms(smallest.judged_ms) in found.reason and f"the budget is {format_ms(budget_ms)}" in found.reason
    assert device.measured == [context.space.architecture(device.model.smallest)]  # a prediction alone refuses nothing
    assert found.scale == pytest.approx(SLOWER, rel=0.02)


def test_a_budget_below_what_even_the_table_promises_is_not_measured_for(context: Context) -> None:
    device = Device(context)
    found = _repaired(context, device, 0.99 * device.model.range[0])
    assert found.architecture is None and found.reason is not None and found.rounds == ()
    assert device.measured == []
    assert format_ms(found.scale * device.model.range[0]) in found.reason
    assert f"the budget is {format_ms(0.99 * device.model.range[0])}" in found.reason


def test_a_device_that_no_scale_describes_ends_after_the_rounds_that_were_allowed(context: Context) -> None:
    device = Device(context)
    budget_ms = _between(device, context, 0.8)

    def measure(architecture: Architecture, network: nn.Module) -> Job[Reading]:
        yield from device.measure(architecture, network)
        return Reading(raw_ms=1.2 * budget_ms, scaled_ms=1.2 * budget_ms, margin=0.0, anchor_scale=1.0)

    found = finish(repair(context, budget_ms, device.reading(context.architecture), measure, label=LABEL, rounds=3))
    assert found.architecture is None and len(found.rounds) == 3
    assert len(set(device.measured)) == 3
    assert found.reason is not None and "3 rounds were not enough" in found.reason


def test_what_is_only_surely_within_the_budget_counts(context: Context) -> None:
    wide = Device(context, margin=0.2)
    budget_ms = _between(wide, context, 0.6)
    found = _repaired(context, wide, budget_ms)
    assert found.reading is not None
    assert found.reading.upper_ms <= budget_ms
    assert found.reading.judged_ms <= budget_ms / 1.2


def test_other_budgets_of_the_search_are_kept(context: Context) -> None:
    device = Device(context)
    params = [sum(each.numel() for each in context.space.network(context.architecture).parameters())]
    context.run.config["limits"] = {"params": f"{params[0]}"}
    found = _repaired(context, device, _between(device, context, 0.7))
    assert found.architecture is not None
    assert sum(each.numel() for each in context.space.network(found.architecture).parameters()) <= params[0]


def test_a_repair_that_was_killed_goes_on_and_measures_nothing_again(context: Context) -> None:
    device = Device(context, slower=2.5)
    budget_ms = _between(device, context, 0.7)
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
    found = _repaired(context, device, _between(device, context, 0.5))
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


@pytest.fixture
def found(context: Context) -> Repaired:
    device = Device(context)
    return _repaired(context, device, _between(device, context, 0.5))


def _adopt(context: Context, found: Repaired) -> Job[nn.Module]:
    assert found.architecture is not None and found.reading is not None
    return adopt(context, found.architecture, found.reading, found.scale)


def test_what_was_found_becomes_the_runs_network_and_the_old_one_is_kept(context: Context, found: Repaired) -> None:
    run = context.run
    old = {name: run.read_json(name) for name in ("architecture.json", "result.json")}
    network = load_network(run, context.space)
    adopted = finish(_adopt(context, found))
    now = open_run(None)
    assert now.architecture == found.architecture != context.architecture
    loaded = load_network(now.run, now.space)
    for mine, theirs in zip(loaded.parameters(), adopted.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    result = run.read_json("result.json")
    assert found.reading is not None
    assert result == {
        **old["result.json"],
        "architecture": str(found.architecture),
        "predicted_ms": pytest.approx(found.scale * found.rounds[-1].predicted_ms),
        "measured_ms": found.reading.judged_ms,
        "raw_ms": found.reading.raw_ms,
        "anchor_scale": 1.0,
        "feasible": True,
        "valid_accuracy": accuracy(loaded, now.data.valid),
        "limits": {"params": {"limit": 1e7, "value": sum(weight.numel() for weight in loaded.parameters())}},
        "repaired_from": str(context.architecture),
    }
    assert run.read_json("architecture.json").keys() == old["architecture.json"].keys()
    for name, content in old.items():
        assert run.read_json(f"repair/before/{name}") == content
    kept = run.load_tensors("repair/before/weights.safetensors")
    assert kept is not None
    assert all(torch.equal(kept[0][name], tensor) for name, tensor in network.state_dict().items())
    assert sorted(path.name for path in (run.path / "repair").iterdir()) == ["before"]


def test_a_network_that_was_trained_is_trained_again(context: Context, found: Repaired) -> None:
    recipe = Recipe(epochs=2, batch_size=16)
    finish(retrain(None, recipe))
    old = context.run.read_json("train/result.json")
    steps, job = list[Step](), _adopt(context, found)
    steps.extend(job)
    assert [(step.done, step.total) for step in steps if step.stage == "train"] == [(1, 2), (2, 2)]
    now = open_run(None)
    trained = now.run.read_json("train/result.json")
    assert (trained["run"], trained["architecture"]) == ("runs/one", str(found.architecture))
    assert accuracy(load_network(now.run, now.space), now.data.test) == trained["test_accuracy"]
    searched_, retrained = (now.run.load_tensors(name) for name in ("weights.safetensors", "train/weights.safetensors"))
    assert searched_ is not None and retrained is not None
    assert any(not torch.equal(searched_[0][name], tensor) for name, tensor in retrained[0].items())
    assert (now.run.path / "repair" / "before" / "train" / "weights.safetensors").is_file()
    assert old["architecture"] == str(context.architecture)
    finish(retrain(None, recipe))  # not with the checkpoint of the old network
    assert now.run.read_json("train/result.json")["architecture"] == str(found.architecture)


@pytest.mark.parametrize(("trained", "writes"), [(False, 6), (True, 9)])
def test_a_kill_while_the_files_are_replaced_leaves_the_old_network_and_the_repair_goes_on(
    context: Context, found: Repaired, monkeypatch: pytest.MonkeyPatch, trained: bool, writes: int
) -> None:
    if trained:
        finish(retrain(None, Recipe(epochs=1, batch_size=16)))
    old, left = load_network(context.run, context.space).state_dict(), 0

    def counted(write: Callable[..., None]) -> Callable[..., None]:
        def wrapped(run: Run, name: str, *content: Any) -> None:
            nonlocal left
            if run.path == context.run.path:  # and not where the new network is made
                if left == 0:
                    raise KeyboardInterrupt
                left -= 1
            write(run, name, *content)

        return wrapped

    unas = searched(context, 1.0)
    monkeypatch.setattr(jobs_repair, "searched", lambda *_: unas)  # it takes half of the time
    monkeypatch.setattr(Run, "write_json", counted(Run.write_json))
    monkeypatch.setattr(Run, "save_tensors", counted(Run.save_tensors))
    for before_kill in range(writes):
        left = before_kill
        with pytest.raises(KeyboardInterrupt):
            finish(_adopt(context, found))
        if before_kill == 0:  # all is trained by now, and nothing replaced
            shutil.copytree(context.run.path, "trained")
        killed = open_run(None)
        assert killed.architecture == context.architecture
        for name, tensor in load_network(killed.run, killed.space).state_dict().items():
            assert torch.equal(tensor, old[name])
        left = writes
        finish(_adopt(killed, found))
        now = open_run(None)
        assert now.architecture == found.architecture
        load_network(now.run, now.space)
        kept = now.run.read_json("repair/before/result.json")
        assert kept["architecture"] == str(context.architecture) and "repaired_from" not in kept
        assert now.run.read_json("result.json")["repaired_from"] == str(context.architecture)
        weights = now.run.load_tensors(f"repair/before/{'train/' if trained else ''}weights.safetensors")
        assert weights is not None and all(torch.equal(weights[0][name], tensor) for name, tensor in old.items())
        shutil.rmtree(context.run.path)
        shutil.copytree("trained", context.run.path)
    left = writes
    finish(_adopt(context, found))
    assert left == 0  # so it was killed before each of them


def test_a_run_that_was_repaired_is_repaired_again_from_there(context: Context, found: Repaired) -> None:
    finish(_adopt(context, found))
    now, device = open_run(None), Device(context)
    budget_ms = 0.9 * device.reading(now.architecture).judged_ms
    second = _repaired(now, device, budget_ms)
    assert second.architecture not in (None, now.architecture)
    assert all(each.architecture not in [r.architecture for r in found.rounds] for each in second.rounds)
    finish(_adopt(now, second))
    assert open_run(None).architecture == second.architecture
    assert now.run.read_json("repair/before/result.json")["architecture"] == str(now.architecture)


def test_a_trained_network_is_trained_where_it_was_if_that_is_here(context: Context) -> None:
    assert jobs_repair._hardware(context.run).device == "cpu"
    context.run.write_json("train/result.json", {"hardware": {"device": "cuda", "bf16": True}})
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert jobs_repair._hardware(context.run).device == expected
