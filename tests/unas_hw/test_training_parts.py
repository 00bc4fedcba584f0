"""What a recipe adds to plain training: drop path, auxiliary head, averaged weights, mixed images; other arithmetic."""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from profilers.errors import MissingDependencyError, MissingDeviceError
from unas_hw.data import Dataset
from unas_hw.errors import AugmentationError, RecipeError, RunError
from unas_hw.ops.drop_path import DropPath, set_drop_path
from unas_hw.ops.mbconv import MBConv
from unas_hw.runs import RUNS, Run
from unas_hw.spaces import find_space
from unas_hw.training import RECIPES, Hardware, Recipe, accuracy, find_recipe, lacking, train
from unas_hw.training.auxiliary import WithAuxiliary, auxiliary_head
from unas_hw.training.average import Average

RECIPE = Recipe(
    epochs=6, batch_size=16, lr=0.01, mixup=0.2, drop_path=0.3, auxiliary=0.4, average=0.9, augmentation="crop1,flip"
)


class Tiny(nn.Module):
    """With a place for everything."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary_at = "middle"
        self.stem = nn.Conv2d(1, 4, 3, 2, 1)
        self.middle = nn.Sequential(OrderedDict(conv=nn.Conv2d(4, 4, 3, padding=1), bn=nn.BatchNorm2d(4)))
        self.drop = DropPath()
        self.head = nn.Linear(4 * 4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        logits: Tensor = self.head((x + self.drop(self.middle(x))).flatten(1))
        return logits


@pytest.fixture
def run() -> Run:
    return Run.begin(RUNS / "one", {})


def _tiny(seed: int = 0) -> Tiny:
    torch.manual_seed(seed)
    return Tiny()


def _trained(data: Dataset, run: Run, recipe: Recipe, epochs: int = 99, seed: int = 0, **hardware: Any) -> Tiny:
    network = _tiny(seed)
    for metrics in train(network, data.train, recipe, run, "train", Hardware(**hardware)):
        if metrics["epoch"] == epochs:
            break
    return network


def _equal(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("change", [{}, {"optimizer": "sgd", "clip": 1.0}])
def test_with_everything_a_restart_changes_no_bit(data: Dataset, run: Run, change: dict[str, Any]) -> None:
    recipe, halves = replace(RECIPE, **change), Run.begin(RUNS / "two", {})
    whole = _trained(data, run, recipe)
    torch.manual_seed(7)  # numbers that others drew do not matter
    _trained(data, halves, recipe, 3)
    assert _equal(whole, _trained(data, halves, recipe, seed=1))
    assert not _equal(whole, _trained(data, Run.begin(RUNS / "three", {}), replace(recipe, seed=1)))


def test_with_everything_a_network_learns(data: Dataset, run: Run) -> None:
    recipe = replace(RECIPE, epochs=30, augmentation="shift")  # mirrored stripes are of another class
    network = _trained(data, run, recipe)
    assert accuracy(network, data.test) > 0.8


def test_the_head_is_trained_saved_and_never_part_of_the_network(data: Dataset, run: Run) -> None:
    network = _trained(data, run, RECIPE, 1)
    first = run.load_tensors("train/checkpoint.safetensors")
    network = _trained(data, run, RECIPE)
    last = run.load_tensors("train/checkpoint.safetensors")
    assert first is not None and last is not None
    heads = [{name: t for name, t in saved[0].items() if name.startswith("a.")} for saved in (first, last)]
    assert heads[0].keys() == heads[1].keys() == {f"a.{name}" for name in auxiliary_head(4, 4, 3).state_dict()}
    assert not torch.equal(heads[0]["a.2.weight"], heads[1]["a.2.weight"])
    assert network.state_dict().keys() == _tiny().state_dict().keys()
    assert not any(module._forward_hooks for module in network.modules())


def test_the_heads_loss_counts_as_much_as_the_recipe_says(data: Dataset, run: Run) -> None:
    recipe = replace(RECIPE, epochs=1, lr=0.0, mixup=0.0, average=0.0)
    losses = []
    for weight in (0.0, 0.5, 1.0):
        network, folder = _tiny(), f"train{weight}"
        losses += [line["loss"] for line in train(network, data.train, replace(recipe, auxiliary=weight), run, folder)]
    assert losses[0] < losses[1] < losses[2]
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-5)


@pytest.mark.parametrize("size", [1, 2, 4, 5, 7, 8, 14])
def test_the_head_takes_any_size(size: int) -> None:
    assert auxiliary_head(6, size, 5)(torch.zeros(2, 6, size, size)).shape == (2, 5)


def test_the_head_of_darts_pools_windows_of_five(data: Dataset) -> None:
    for size, stride in ((8, 3), (7, 2)):  # CIFAR and ImageNet
        pool = auxiliary_head(6, size, 5)[1]
        assert isinstance(pool, nn.AvgPool2d) and (pool.kernel_size, pool.stride) == (5, stride)


def test_what_the_network_does_not_take_is_named(data: Dataset, run: Run) -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    assert lacking(plain, RECIPE) == ("drop_path", "auxiliary")
    assert lacking(plain, replace(RECIPE, auxiliary=0, drop_path=0)) == lacking(_tiny(), RECIPE) == ()
    assert len(list(train(plain, data.train, RECIPE, run, "train"))) == RECIPE.epochs


def test_the_hook_is_there_only_while_the_head_is_used() -> None:
    network = _tiny()
    whole = WithAuxiliary(network, torch.zeros(1, 1, 8, 8))
    assert not network.middle._forward_hooks
    with whole.attached():
        logits, auxiliary = whole(torch.zeros(2, 1, 8, 8))
        assert logits.shape == auxiliary.shape == (2, 3)
    assert not network.middle._forward_hooks


def test_a_darts_network_takes_all_of_its_published_recipe() -> None:
    space = find_space("darts?width=4&layers=6", image_shape=(3, 16, 16), classes=5)
    network = space.network(space.draw(random.Random(1)))
    assert lacking(network, RECIPES["cifar"]) == ()
    whole = WithAuxiliary(network, torch.zeros(1, 3, 16, 16)).train()
    with whole.attached():
        logits, auxiliary = whole(torch.randn(4, 3, 16, 16))
        auxiliary.sum().backward()
    assert logits.shape == auxiliary.shape == (4, 5)
    weights = dict(network.named_parameters())
    fed = {name.split(".")[1] for name, weight in weights.items() if "cells" in name and weight.grad is not None}
    assert "0" in fed and "5" not in fed  # cells before the head learn from it, those behind it do not


def test_drop_path_leaves_out_images_and_keeps_the_expectation() -> None:
    drop, x = DropPath(), torch.ones(20_000, 2, 1, 1)
    assert drop.rate == 0 and drop(x) is x
    set_drop_path(drop, 0.25)
    seen = drop(x)
    assert seen.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(seen[:, 0], seen[:, 1])  # whole images
    assert float((seen == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert drop.eval()(x) is x
    assert not drop.state_dict()


def test_of_an_inverted_residual_only_the_branch_beside_the_shortcut_is_dropped() -> None:
    x = torch.randn(64, 4, 8, 8)
    kept, changed = (MBConv(4, out, kernel=3, expand=3, stride=1).train() for out in (4, 6))
    set_drop_path(kept, 0.5)
    set_drop_path(changed, 0.5)
    untouched = (kept(x) == x).all(dim=(1, 2, 3))
    assert 16 < int(untouched.sum()) < 48
    assert bool((changed(x) != 0).any(dim=1).all())  # there nothing else would be left


def test_drop_path_rises_epoch_by_epoch(data: Dataset, run: Run) -> None:
    network = _tiny()
    rates = [network.drop.rate for _ in train(network, data.train, RECIPE, run, "train")]
    assert rates == pytest.approx([0.3 * epoch / 6 for epoch in range(6)])


def test_the_average_forgets_the_first_weights_and_follows_the_statistics() -> None:
    network = nn.BatchNorm2d(1)
    average = Average(network, 0.9)
    with torch.no_grad():
        network.weight.fill_(3.0)
        network.running_mean.fill_(5.0)  # type: ignore[union-attr]
        network.num_batches_tracked.fill_(7)  # type: ignore[union-attr]
    average.update(network, 0)
    assert float(average.state["weight"]) == pytest.approx(1 + 0.9 * 2)  # at first nine tenths are new
    for updates in range(1, 200):
        average.update(network, updates)
    assert float(average.state["running_mean"]) == pytest.approx(5)
    assert int(average.state["num_batches_tracked"]) == 7


def test_training_ends_with_the_averaged_weights(data: Dataset, run: Run) -> None:
    network = _trained(data, run, RECIPE)
    saved = run.load_tensors("train/checkpoint.safetensors")
    assert saved is not None
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, saved[0][f"e.{name}"])
    assert not torch.equal(saved[0]["e.head.weight"], saved[0]["n.head.weight"])


def test_bfloat16_and_channels_last_train_the_same_network_but_for_rounding(data: Dataset, run: Run) -> None:
    recipe = replace(RECIPE, epochs=2)
    plain = _trained(data, run, recipe)
    losses = [line["loss"] for line in run.lines("train/metrics.jsonl")]
    for name, hardware in (("bf16", {"bf16": True}), ("inner", {"channels_last": True})):
        other = Run.begin(RUNS / name, {})
        network = _trained(data, other, recipe, **hardware)
        assert [line["loss"] for line in other.lines("train/metrics.jsonl")] == pytest.approx(losses, rel=0.05)
        assert all(weight.dtype == torch.float32 and weight.is_contiguous() for weight in network.parameters())
    assert not _equal(plain, _trained(data, Run.begin(RUNS / "bf16", {}), recipe, bf16=True))


def test_a_compiled_network_is_one_graph_with_the_hook_and_with_every_rate_of_drop_path(
    data: Dataset, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trained(data, run, RECIPE)
    losses = [line["loss"] for line in run.lines("train/metrics.jsonl")]
    capture = CompileCounter()  # instead of a C++ compiler, which takes half a minute
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=capture, fullgraph=True))
    compiled = Run.begin(RUNS / "compiled", {})
    _trained(data, compiled, RECIPE, compile=True)
    assert [line["loss"] for line in compiled.lines("train/metrics.jsonl")] == pytest.approx(losses, rel=1e-4)
    assert 1 <= capture.frame_count <= 2  # without drop path, and with it


def test_a_loss_that_is_no_number_ends_training_and_is_not_saved(data: Dataset, run: Run) -> None:
    with pytest.raises(RunError, match="diverged") as caught:
        _trained(data, run, replace(RECIPE, lr=1e38, optimizer="sgd", warmup=0.0))
    assert "--lr 5e+37" in caught.value.mend
    assert len(run.lines("train/metrics.jsonl")) < RECIPE.epochs


def test_published_recipes_are_those_of_the_paper() -> None:
    cifar, hundred = RECIPES["cifar"], RECIPES["cifar100"]
    assert (cifar.optimizer, cifar.lr, cifar.batch_size, cifar.epochs, cifar.decay) == ("sgd", 0.05, 128, 600, 3e-4)
    assert (cifar.warmup * cifar.epochs, cifar.auxiliary, cifar.drop_path) == (30, 0.4, 0.2)
    assert "cutout16" in cifar.augmentation
    assert hundred == replace(cifar, drop_path=0.3)
    darts, mbconv = RECIPES["imagenet-darts"], RECIPES["imagenet-mbconv"]
    assert (darts.epochs, darts.batch_size, darts.lr, darts.decay) == (250, 1024, 0.8, 3e-5)
    assert (darts.warmup * darts.epochs, darts.smoothing, darts.auxiliary) == (5, 0.1, 0.4)
    assert (mbconv.epochs, mbconv.batch_size, mbconv.lr, mbconv.decay) == (300, 512, 0.2, 5e-5)
    assert (mbconv.warmup * mbconv.epochs, mbconv.smoothing, mbconv.auxiliary) == (5, 0.1, 0)


def test_a_recipe_is_found_by_name_and_changed() -> None:
    assert find_recipe("short") == Recipe()
    assert find_recipe("cifar", lr=0.1, epochs=None) == replace(RECIPES["cifar"], lr=0.1)
    with pytest.raises(RecipeError, match="no recipe is called 'modem'") as caught:
        find_recipe("modem")
    assert caught.value.mend == "did you mean 'modern'?"


@pytest.mark.parametrize(
    ("change", "what"),
    [({"smoothing": 1.0}, "smoothing=1.0"), ({"epochs": -1}, "epochs=-1"), ({"drop_path": float("nan")}, "drop_path")],
)
def test_a_recipe_that_cannot_be_is_refused(change: dict[str, Any], what: str) -> None:
    with pytest.raises(RecipeError, match=what):
        find_recipe("short", **change)


def test_words_that_a_recipe_does_not_know_are_refused() -> None:
    with pytest.raises(RecipeError, match="'adam'"):
        find_recipe("short", optimizer="adam")
    with pytest.raises(AugmentationError, match="'flop'"):
        find_recipe("short", augmentation="flop")


def test_hardware_is_plain_on_a_cpu_and_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Hardware.choose() == Hardware.choose("cpu") == Hardware("cpu")
    assert Hardware.choose(bf16=True, channels_last=True) == Hardware("cpu", True, True)
    for wrong in ("gpu", "cuda:1", "tpu"):
        with pytest.raises(MissingDeviceError, match=wrong):
            Hardware.choose(wrong)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingDependencyError, match="compiler"):
        Hardware.choose(compile=True)


def test_on_a_gpu_everything_that_is_faster_there_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr("unas_hw.training.hardware.find_spec", lambda name: name)
    assert Hardware.choose() == Hardware("cuda", True, True, True)
    assert Hardware.choose("gpu:1", bf16=False) == Hardware("cuda:1", False, True, True)
    with pytest.raises(MissingDeviceError, match="gpu:2"):
        Hardware.choose("gpu:2")
