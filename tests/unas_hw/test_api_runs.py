"""What the functions of ``unas_hw`` return, and what their callbacks are told; one finished run for all of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

import unas_hw
from cli.main import main
from latency_tables.errors import AddressError
from tests.unas_hw.conftest import PHONE
from unas_hw.errors import ConfigurationError, RecipeError, RunError

TINY = Path(__file__).parent.parent.parent / "examples" / "tiny.yaml"
SHORT: dict[str, Any] = {
    "budget": "60%", "warmup_epochs": 1, "epochs": 2, "batch_size": 24, "train_on": "cpu", "rounds": 12,
    "finals": "none",
    "unas": {"finetune_epochs": 1},
}  # fmt: skip


@dataclass
class Recorder(unas_hw.Callback):
    """Keeps what it is told."""

    steps: list[unas_hw.Step] = field(default_factory=list)
    epochs: list[Mapping[str, Any]] = field(default_factory=list)
    candidates: list[Mapping[str, Any]] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)

    def on_step(self, step: unas_hw.Step) -> None:
        self.steps.append(step)

    def on_epoch_end(self, metrics: Mapping[str, Any]) -> None:
        self.epochs.append(metrics)

    def on_candidate_measured(self, candidate: Mapping[str, Any]) -> None:
        self.candidates.append(candidate)

    def on_result(self, result: Any) -> None:
        self.results.append(result)


@dataclass(frozen=True)
class Shop:
    """A folder with a table and a finished run."""

    folder: Path
    table: unas_hw.Table
    found: unas_hw.Found
    told: Recorder


@pytest.fixture(scope="module")
def shop(npz: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder, told = tmp_path_factory.mktemp("shop"), Recorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("UNAS_HW_HOME", str(folder / "home"))
        table = unas_hw.profile(str(TINY), device=PHONE, rounds=8, networks=6, table="tiny.jsonl")
        found = unas_hw.search(table, dataset=npz, callbacks=[told], run="one", **SHORT)
    return Shop(folder, table, found, told)


@pytest.fixture
def there(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """In that folder; for tests that leave it as it is."""
    monkeypatch.chdir(shop.folder)
    return shop


@pytest.fixture
def copy(shop: Shop) -> unas_hw.Found:
    """The run in a folder of the test's own."""
    shutil.copytree(shop.folder / "runs", "runs")
    return unas_hw.load_run()


def test_a_table_predicts_networks_of_its_space_with_an_interval(shop: Shop) -> None:
    found = shop.table.predict("k3e3,id,sep3,id")
    assert found.predicted_ms is not None
    low, high = found.interval
    assert low is not None and (high is None or low < found.predicted_ms < high)
    assert found.architecture == "tiny:k3e3,id,sep3,id"
    assert found.predicted_ms < (shop.table.predict("k5e6,k5e6,sep3,gate").predicted_ms or 0)
    again = unas_hw.predict("k3e3,id,sep3,id", space=str(TINY), table=shop.table)
    assert again == found
    with pytest.raises(unas_hw.errors.ArchitectureError, match="4 decisions"):
        shop.table.predict("k3e3")


def test_a_table_is_a_frame_and_a_file(shop: Shop, tmp_path: Path) -> None:
    copied = unas_hw.load_table(shop.table.save(tmp_path / "copy.jsonl"))
    assert copied.latencies.hash == shop.table.latencies.hash
    pd.testing.assert_frame_equal(copied.to_pandas(), shop.table.to_pandas(), check_like=True)
    assert copied.space.title == "tiny@1x1x8x8"
    assert {"op", "anchor", "network"} <= set(copied.to_pandas()["role"])
    assert "tiny@1x1x8x8" in copied._repr_html_()


def test_a_published_table_takes_the_space_from_the_network_or_from_whoever_opens_it() -> None:
    network = "k3e3," * 20 + "k3e3"
    space = unas_hw.find_space("mbconv-mobile")
    drawn = space.architecture([0] * len(space.decisions))
    by_itself, told = unas_hw.load_table("pixel1"), unas_hw.load_table("pixel1", space="mbconv-mobile")
    assert by_itself.predict(drawn) == told.predict(drawn)
    assert network and by_itself.predict(drawn).predicted_ms is not None


def test_what_was_found_says_what_it_is(there: Shop) -> None:
    found = there.found
    assert found.feasible and found.architecture is not None
    assert str(found.architecture) == found.to_json()["architecture"]
    assert found.latency.measured_ms is not None and found.latency.budget_ms is not None
    assert found.latency.measured_ms <= found.latency.budget_ms
    assert 0 <= (found.valid_accuracy or 0) <= 1
    assert found.path == there.folder / "runs" / "one"
    assert "tiny:" in repr(found) and "tiny:" in found._repr_html_()
    network = found.network()
    assert not network.training
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_a_run_is_opened_again_by_path_name_or_as_the_last_one(there: Shop) -> None:
    for path in (None, "one", there.found.path):
        assert unas_hw.load_run(path).architecture == there.found.architecture
    assert unas_hw.load_run() == there.found
    with pytest.raises(RunError, match="no run in"):
        unas_hw.load_run("two")


def test_the_front_is_of_the_candidates_that_were_measured(there: Shop, tmp_path: Path) -> None:
    front = there.found.front
    frame = front.to_pandas()
    assert list(frame["latency_ms"]) == sorted(frame["latency_ms"])
    assert set(frame["architecture"]) == {each["architecture"] for each in there.told.candidates}
    best = frame[frame["on_front"]]
    assert len(best) == len(front) >= 1
    for _, row in frame[~frame["on_front"]].iterrows():
        assert ((best["latency_ms"] <= row["latency_ms"]) & (best["valid_loss"] <= row["valid_loss"])).any()
    assert unas_hw.Front.load(front.save(tmp_path / "front.json")) == front
    with pytest.raises(ConfigurationError, match="holds no Front"):
        unas_hw.Front.load(there.found.save(tmp_path / "found.json"))


def test_callbacks_are_told_of_steps_epochs_candidates_and_the_result(there: Shop) -> None:
    told = there.told
    lines = [json.loads(line) for line in (there.found.path / "metrics.jsonl").read_text().splitlines()]
    searched = [each for each in told.epochs if each["stage"] != "fine-tune"]
    assert [{k: v for k, v in each.items() if k != "seconds"} for each in searched] == lines
    assert [each["stage"] for each in told.epochs] == ["warm-up", "search", "search", "fine-tune"]
    assert there.found.to_json()["candidates"] == len(told.candidates) > 0
    assert str(there.found.architecture) in [each["architecture"] for each in told.candidates]
    assert told.results == [there.found]
    stages = list(dict.fromkeys(step.stage for step in told.steps))
    assert stages[-4:] == ["warm-up", "compare candidates", "measure candidates", "fine-tune"]


class Stop(unas_hw.Callback):
    """Stops after an epoch of the search."""

    def on_epoch_end(self, metrics: Mapping[str, Any]) -> None:
        if metrics["stage"] == "search":
            raise ArithmeticError("enough")


def test_an_exception_in_a_callback_stops_the_run_and_the_same_call_goes_on(shop: Shop, npz: Path) -> None:
    kept = []  # as a notebook keeps the last exception, and with it whatever was not closed
    for _ in range(2):
        with pytest.raises(ArithmeticError, match="enough") as caught:
            unas_hw.search(shop.table, dataset=npz, run="one", callbacks=[Stop()], **SHORT)
        kept.append(caught)
    assert len((Path("runs") / "one" / "metrics.jsonl").read_text().splitlines()) == 3
    told = Recorder()
    found = unas_hw.search(shop.table, dataset=npz, run="one", callbacks=[told], **SHORT)  # the lock was given back
    assert [each["stage"] for each in told.epochs] == ["fine-tune"]
    assert _but_time(found) == _but_time(shop.found)
    ours, theirs = (dict(each.network().named_parameters()) for each in (found, shop.found))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


INTERRUPTED = """
import json, signal, sys
import unas_hw

class Interrupt(unas_hw.Callback):
    def on_epoch_end(self, metrics):
        signal.raise_signal(signal.SIGINT)

table, dataset, short = sys.argv[1:]
unas_hw.search(unas_hw.load_table(table), dataset=dataset, run="one", callbacks=[Interrupt()], **json.loads(short))
"""


def test_an_interrupt_passes_and_the_run_is_free(shop: Shop, npz: Path) -> None:
    words = [sys.executable, "-c", INTERRUPTED, str(shop.table.path), str(npz), json.dumps(SHORT)]
    environment = os.environ | {"PYTHONPATH": str(TINY.parents[1])}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == -signal.SIGINT, done.stderr  # as Python ends where nothing catches a KeyboardInterrupt
    assert _but_time(unas_hw.search(shop.table, dataset=npz, run="one", **SHORT)) == _but_time(shop.found)


def _but_time(found: unas_hw.Found) -> dict[str, Any]:
    return {name: value for name, value in found.to_json().items() if name != "seconds"}


def test_what_is_finished_is_not_done_again_unless_it_has_to(copy: unas_hw.Found, shop: Shop, npz: Path) -> None:
    same = unas_hw.search(shop.table, dataset=npz, run="one", **SHORT)
    assert same == copy
    other = unas_hw.search(shop.table, dataset=npz, run="one", resume=False, **SHORT)
    assert other.path.name == "one-2" and other.architecture == copy.architecture
    assert unas_hw.load_run("one") == copy


def test_a_budget_that_nothing_keeps_is_no_error_but_leaves_nothing_to_work_with(shop: Shop, npz: Path) -> None:
    found = unas_hw.search(shop.table, dataset=npz, **{**SHORT, "budget": unas_hw.Budget.parse("1us@p90", 0.9)})
    assert (found.feasible, found.architecture, found.run) == (False, None, None)
    assert "space_min_ms" in found.to_json()
    with pytest.raises(RunError, match="no network of tiny meets the budget"):
        found.network()


def test_nothing_is_written_to_an_address(shop: Shop) -> None:
    with pytest.raises(AddressError, match="cannot be written to"):
        shop.table.save("https://example.org/t.jsonl")
    with pytest.raises(AddressError, match="cannot be written to"):
        unas_hw.profile(str(TINY), device=PHONE, table="hf://me/t.jsonl")


def test_settings_that_do_not_exist_are_refused_with_the_nearest(shop: Shop) -> None:
    with pytest.raises(ConfigurationError, match="epocs") as caught:
        unas_hw.search(shop.table, budget="60%", epocs=3)
    assert "epochs" in caught.value.mend
    with pytest.raises(ConfigurationError, match="opsett") as caught:
        shop.found.export("onnx", opsett=3)
    assert "opset" in caught.value.mend
    with pytest.raises(ConfigurationError, match="epohs"):
        shop.found.train(epohs=3)
    with pytest.raises(ConfigurationError, match="eposhs"):
        unas_hw.prune("my_net.py", budget="50%", eposhs=3)
    with pytest.raises(RecipeError, match="--steps is for the policy"):
        shop.found.train(steps="5k")
    with pytest.raises(ConfigurationError, match="treads"):
        unas_hw.load_table(treads=1)


@pytest.mark.slow
def test_what_is_found_is_trained_evaluated_exported_and_verified(copy: unas_hw.Found, tmp_path: Path) -> None:
    told = Recorder()
    trained = copy.train(epochs=2, batch_size=16, device="cpu", callbacks=[told])
    assert [each["epoch"] for each in told.epochs] == [1, 2] and told.results == [trained]
    assert trained.to_json()["epochs"] == 2
    evaluated = copy.evaluate(device="cpu")
    assert evaluated.top1 == trained.test_accuracy
    file = copy.export("torch", rounds=12)
    assert Path(file.path).is_file() and file.format == "torch"
    assert file.verdict.passed == file.passed == all(check.passed for check in file.verdict.checks)
    assert file.found == copy
    assert unas_hw.verify(file.path, rounds=12).passed == file.passed
    for result in (copy, trained, evaluated, file):
        kept = type(result).load(result.save(tmp_path / "kept.json"))
        assert kept == result
        assert list(result.to_pandas().columns) == list(result.to_json())
        assert repr(kept) == repr(result)
    with pytest.raises(AttributeError, match="Trained has no 'top1'"):
        _ = trained.top1  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def test_python_and_the_command_line_say_the_same(there: Shop, npz: Path) -> None:
    def command(*words: str) -> Any:
        done = CliRunner().invoke(main, [*words, "--json"])
        assert done.exception is None, done.stderr
        return json.loads(done.stdout)

    told = {name: value for name, value in SHORT.items() if name not in ("budget", "unas")}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in told.items()]
    words = ("search", "--space", str(TINY), "--table", "tiny.jsonl", "--dataset", str(npz), "--run", "one")
    assert command(*words, "--latency-budget=60%", "--set", "unas.finetune_epochs=1", *options) == there.found.to_json()
    architecture = str(there.found.path / "architecture.json")
    assert (
        command("predict", "--architecture", architecture, "--table", "tiny.jsonl")
        == unas_hw.predict(architecture, table="tiny.jsonl").to_json()
    )
    assert command("profile", "--space", str(TINY), "--device", PHONE, "--table", "tiny.jsonl", "--networks", "6",
                   "--rounds", "8") == there.table.to_json()  # fmt: skip
    evaluated, again = command("evaluate", "--device", "cpu"), unas_hw.evaluate(device="cpu").to_json()
    assert {**again, "images_per_s": 0} == {**evaluated, "images_per_s": 0}


def test_markup_is_escaped() -> None:
    strange = unas_hw.Predicted({"architecture": "<script>", "predicted_ms": None, "low_ms": None, "high_ms": None,
                                 "coverage": 0.0, "params": 1, "macs": 1})  # fmt: skip
    assert "<script>" not in strange._repr_html_() and "&lt;script&gt;" in strange._repr_html_()


def test_plots_are_drawings(there: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    for drawn in (there.table.plot(), there.found.plot()):
        figure = drawn.get_figure(root=True)
        assert figure is not None
        figure.savefig("drawing.png")
        assert Path("drawing.png").stat().st_size > 5000
        assert drawn.get_xlabel() and drawn.get_ylabel()
    pyplot.close("all")
    Path("drawing.png").unlink()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(unas_hw.errors.UnasError, match="matplotlib") as caught:
        there.table.plot()
    assert "pip install 'unas-hw[plot]'" in caught.value.mend
