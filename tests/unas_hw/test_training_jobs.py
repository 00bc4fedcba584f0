"""Networks are also trained where no search was: an architecture alone, a run's choices in a sibling of its space."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from unas_hw.errors import ArchitectureError, RunError
from unas_hw.jobs import train
from unas_hw.jobs.export import ExportSettings, export
from unas_hw.jobs.train import Elsewhere, retrain
from unas_hw.network import load_network
from unas_hw.progress import Step, finish
from unas_hw.runs import Run
from unas_hw.space import SearchSpace
from unas_hw.training import Recipe, accuracy
from unas_hw.verify import artifact

CHOICES = "k3e3," * 8 + "k5e3"
RECIPE = Recipe(epochs=1, batch_size=16)


@pytest.fixture(autouse=True)
def _remembered(monkeypatch: pytest.MonkeyPatch, remembered_spaces: Callable[..., SearchSpace]) -> None:
    for module in (artifact, train):
        monkeypatch.setattr(module, "find_space", remembered_spaces)


def test_an_architecture_is_trained_in_a_run_of_its_own(npz: Path) -> None:
    result = finish(retrain(None, RECIPE, elsewhere=Elsewhere(architecture=CHOICES, dataset=str(npz))))
    run = Run.find(None)
    assert result["run"] == str(run.path)
    assert run.path.name.startswith("mbconv-small@1x1x8x8-stripes-")
    context = artifact.open_run(None)
    assert str(context.architecture) == result["architecture"] == f"mbconv-small:{CHOICES}"
    assert accuracy(load_network(run, context.space), context.data.test) == result["test_accuracy"]
    low, high = result["test_interval"]
    assert low <= result["test_accuracy"] <= high
    assert result["recipe"]["epochs"] == 1 and result["hardware"]["device"] == "cpu"


def test_the_same_words_take_up_the_same_run(npz: Path) -> None:
    told, recipe = Elsewhere(architecture=CHOICES, dataset=str(npz)), Recipe(epochs=3, batch_size=16)
    job = retrain(None, recipe, elsewhere=told)
    next(job)
    job.close()
    killed = Run.find(None)
    assert len(list(retrain(None, recipe, elsewhere=told))) == 2
    assert Run.find(None).path == killed.path
    finish(retrain(None, recipe, elsewhere=Elsewhere(architecture=CHOICES, dataset=str(npz), name="whole")))
    weights = [(path / "train" / "weights.safetensors").read_bytes() for path in (killed.path, Path("runs/whole"))]
    assert weights[0] == weights[1]


def test_a_runs_choices_are_trained_in_a_wider_sibling_on_its_images(npz: Path) -> None:
    narrow = finish(retrain(None, RECIPE, elsewhere=Elsewhere(architecture=CHOICES, dataset=str(npz), name="one")))
    wide = finish(retrain(None, RECIPE, elsewhere=Elsewhere(run="one", space="mbconv-small?width=2", name="two")))
    assert wide["architecture"] == f"mbconv-small?width=2:{CHOICES}"
    assert wide["params"] > 2 * narrow["params"] and wide["macs"] > 2 * narrow["macs"]
    configs = [Run.find(name).config for name in ("one", "two")]
    assert configs[0]["dataset"] == configs[1]["dataset"] and configs[0]["seed"] == configs[1]["seed"]
    assert configs[1]["from"] == str(Path("runs/one").resolve())


def test_a_file_is_trained_in_a_sibling_too(npz: Path) -> None:
    finish(retrain(None, RECIPE, elsewhere=Elsewhere(architecture=CHOICES, dataset=str(npz), name="one")))
    told = Elsewhere(
        architecture="runs/one/architecture.json", space="mbconv-small?width=2", dataset=str(npz), name="two"
    )
    assert finish(retrain(None, RECIPE, elsewhere=told))["architecture"] == f"mbconv-small?width=2:{CHOICES}"


def test_a_space_with_other_decisions_is_no_sibling(npz: Path) -> None:
    told = Elsewhere(
        architecture=f"mbconv-small:{CHOICES}", space="nas_bench_201", dataset=str(npz), image_size=32, name="one"
    )
    with pytest.raises(ArchitectureError, match="6 decisions"):
        finish(retrain(None, RECIPE, elsewhere=told))
    assert not Path("runs/one").exists()


def test_what_has_no_table_is_not_exported_and_why_is_said(npz: Path) -> None:
    finish(retrain(None, RECIPE, elsewhere=Elsewhere(architecture=CHOICES, dataset=str(npz), name="one")))
    with pytest.raises(RunError, match="trained without a search") as caught:
        finish(export(ExportSettings(format="onnx")))
    assert caught.value.mend.startswith("unas-hw search --space mbconv-small --latency-budget")


def test_what_a_recipe_asks_for_and_the_network_does_not_take_is_said(npz: Path) -> None:
    steps = list[Step]()
    recipe = Recipe(epochs=1, batch_size=16, auxiliary=0.4, drop_path=0.1, augmentation="dataset")
    steps.extend(retrain(None, recipe, elsewhere=Elsewhere(architecture=CHOICES, dataset=str(npz), name="one")))
    result = Run.find("one").read_json("train/result.json")
    assert result["trained_without"] == ["auxiliary"]
    assert "without auxiliary" in steps[0].note
    assert result["recipe"]["augmentation"] == "shift"
