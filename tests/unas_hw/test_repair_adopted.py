"""What a repair found becomes the run's network; a kill at any moment loses neither that nor the network before."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.unas_hw.repairs import Device, between, repaired
from unas_hw.jobs.train import retrain
from unas_hw.network import load_network
from unas_hw.progress import Job, Step, finish
from unas_hw.repair import adoption
from unas_hw.repair.adoption import adopt
from unas_hw.repair.job import Repaired, searched
from unas_hw.runs import Run
from unas_hw.training import Recipe, accuracy
from unas_hw.verify.artifact import Context, open_run


@pytest.fixture
def found(context: Context) -> Repaired:
    device = Device(context)
    return repaired(context, device, between(device, context, 0.5))


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


@pytest.mark.parametrize(("trained", "writes"), [(False, 6), pytest.param(True, 9, marks=pytest.mark.slow)])
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
    monkeypatch.setattr(adoption, "searched", lambda *_: unas)  # it takes half of the time
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
    second = repaired(now, device, budget_ms)
    assert second.architecture not in (None, now.architecture)
    assert all(each.architecture not in [r.architecture for r in found.rounds] for each in second.rounds)
    finish(_adopt(now, second))
    assert open_run(None).architecture == second.architecture
    assert now.run.read_json("repair/before/result.json")["architecture"] == str(now.architecture)


def test_a_trained_network_is_trained_where_it_was_if_that_is_here(context: Context) -> None:
    assert adoption._hardware(context.run).device == "cpu"
    context.run.write_json("train/result.json", {"hardware": {"device": "cuda", "bf16": True}})
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert adoption._hardware(context.run).device == expected
