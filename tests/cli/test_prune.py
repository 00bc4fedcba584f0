"""``unas-hw prune``: a network of the user's gets smaller; wrong input gives one message with the mend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Run, read
from tests.cli.test_bad_input import refused
from tests.unas_hw import small_residual

NETWORK = str(Path(small_residual.__file__))
QUICK = ("--epochs", "2", "--batch-size", "40", "--rounds", "12", "--set", "prune.finetune_epochs=1")


@pytest.mark.slow
def test_a_network_is_pruned_exported_retrained_and_trained_for_another_task_within_the_same_budget(
    unas_hw: Run, images: str, folder: Path
) -> None:
    words = ("prune", NETWORK, "--latency-budget", "60%", "--dataset", images, "--device", "sim:phone", *QUICK)
    result = unas_hw(*words, "--run", "mine", "--export", "--json")
    assert result.exit_code == 0, result.stderr
    found = read(result)
    assert found["feasible"] and found["export"]["passed"]
    assert found["measured_ms"] <= found["budget_ms"] == pytest.approx(0.6 * found["whole"]["ms"])
    assert "whole sub-networks that were held out" in result.stderr
    assert "head keeps its width: they are the network's outputs" in result.stderr
    trained = read(unas_hw("train", "--epochs", "1", "--json"))
    assert trained["params"] == found["pruned"]["params"]
    assert read(unas_hw("evaluate", "--json"))["architecture"] == found["architecture"]
    assert read(unas_hw(*words[:2], "--config", "runs/mine/config.yaml", "--json"))["run"] == "runs/mine"

    rows = np.load(folder / images)
    labels = rows["labels"] + 2 * (rows["images"].mean((1, 2)) > rows["images"].mean())
    np.savez(folder / "five.npz", images=rows["images"], labels=labels)
    assert len(np.unique(labels)) == 5
    read(unas_hw("train", "--dataset", "five.npz", "--epochs", "1", "--json"))
    report = read(unas_hw("export", "--rounds", "12", "--json"))
    assert report["passed"] and report["budget_ms"] == found["budget_ms"]
    assert report["measured_ms"] == pytest.approx(found["measured_ms"], rel=0.1)


def test_what_was_found_is_told_in_a_few_lines(unas_hw: Run, images: str) -> None:
    words = ("prune", f"{NETWORK}:build", "--macs-budget", "50%", "--dataset", images, "--device", "sim:phone", *QUICK)
    told = unas_hw(*words, "--no-carry-weights")
    assert told.exit_code == 0, told.stderr
    names = [line.split()[0] for line in told.stdout.splitlines()]
    assert [name for name in names if name != "dropped"] == [
        *("kept", "macs", "params", "measured", "accuracy", "table", "run")
    ]
    assert "budget" in told.stdout and "not trained yet: unas-hw train" in told.stdout


def test_budgets_that_nothing_keeps_exit_3_before_anything_is_trained(unas_hw: Run, images: str, folder: Path) -> None:
    words = ("prune", NETWORK, "--dataset", images, "--device", "sim:phone", "--rounds", "12")
    told = unas_hw(*words, "--macs-budget", "100")
    assert told.exit_code == 3
    assert told.stdout.startswith("no sub-network meets the macs budget of 100: sub-networks of ")
    assert read(unas_hw(*words, "--params-budget", "3", "--json"))["feasible"] is False
    assert not (folder / "runs").exists()


def test_what_the_function_was_told_is_printed_and_a_width_is_not_the_channels(unas_hw: Run, images: str) -> None:
    text = """
from torch import nn

def width(num_classes, in_channels=3, channels=32):
    layers = nn.Conv2d(in_channels, channels, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(channels, num_classes))
"""
    Path("width.py").write_text(text)
    told = unas_hw(
        "prune", "width.py:width", "--macs-budget", "1", "--dataset", images, "--device", "sim:phone", "--json"
    )
    assert told.exit_code == 3
    found = read(told)
    assert found["network"] == "width(num_classes=3, in_channels=1)"
    assert told.stderr.count("network    width(num_classes=3, in_channels=1)") == 1
    assert found["whole"]["params"] == 32 * 9 + 32 + 32 * 3 + 3
    assert found["not_pruned"] == {"4": "they are the network's outputs"}


def test_a_network_of_which_nothing_can_be_pruned_says_so_in_a_line_before_anything_is_done(
    unas_hw: Run, images: str, folder: Path
) -> None:
    Path("flat.py").write_text(
        "from torch import nn\n"
        "def build(classes, channels):\n    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))\n"
        "class Two(nn.Module):\n    def __init__(self, classes):\n        super().__init__()\n"
        "    def forward(self, x, y):\n        return x + y\n"
    )
    budget = ("--macs-budget", "50%", "--dataset", images)
    refused(unas_hw("prune", "flat.py", *budget), 2, "nothing of Sequential can be left out: 1: they are the network's")
    refused(unas_hw("prune", "flat.py:Two", *budget), 2, "Two takes 2 inputs (x, y), not images alone")
    assert not (folder / "runs").exists()


def test_wrong_networks_and_budgets_are_refused_before_anything_is_done(
    unas_hw: Run, images: str, folder: Path
) -> None:
    budget = ("--macs-budget", "50%", "--dataset", images)
    Path("empty.py").write_text("x = 1\n")
    Path("fails.py").write_text("def build(classes):\n    raise ValueError('no')\n")
    refused(unas_hw("prune", NETWORK), 2, "there is no budget", "--latency-budget")
    refused(unas_hw("prune", NETWORK, "--latency-budget", "80"), 2, "'80' has no unit", "80ms")
    refused(unas_hw("prune", NETWORK, "--macs-budget", "200%"), 2, "'200%'", "--macs-budget 50%")
    refused(unas_hw("prune", "missing.py", *budget), 2, "there is no file missing.py")
    refused(unas_hw("prune", "empty.py", *budget), 2, "has no function 'build'", "def build(classes, channels)")
    refused(unas_hw("prune", "fails.py", *budget), 2, "fails.py, line 2", "ValueError: no")
    refused(unas_hw("prune", "no.such.module:build", *budget), 2, "no.such.module")
    refused(unas_hw("prune", NETWORK, *budget, "--set", "prune.epochs=0"), 2, "epochs=0")
    refused(unas_hw("prune", NETWORK, *budget, "--set", "prune.epoch=1"), 2, "did you mean 'prune.epochs'")
    refused(unas_hw("prune", NETWORK, *budget, "--export", "onx"), 2, "onx")
    assert not (folder / "runs").exists() and not (folder / "home").exists()


RECURRENT = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 16, 4, stride=4)
        self.gru, self.fc = nn.GRU(4, 20, num_layers=2, batch_first=True), nn.Linear(20, classes)

    def forward(self, x):
        x = torch.fft.fft(self.conv(x).flatten(2)).real
        return self.fc(self.gru(x)[0][:, -1])
"""


def test_a_budget_of_macs_counts_recurrent_layers_and_says_what_it_cannot_count(
    unas_hw: Run, images: str, folder: Path
) -> None:
    (folder / "net.py").write_text(RECURRENT.replace("self.conv(x)", "self.conv(x.relu())"))
    words = ("prune", "net.py:Net", "--dataset", images, "--device", "sim:phone", "--rounds", "12")
    refused(unas_hw(*words, "--macs-budget", "50%"), 2, "nothing of Net can be left out", "prune another network")
    widened = RECURRENT.replace("self.conv = ", "self.wide = nn.Conv2d(channels, 8, 1)\n        self.conv = ")
    (folder / "net.py").write_text(
        widened.replace("Conv2d(channels, 16", "Conv2d(8, 16").replace("(x)", "(self.wide(x))", 1)
    )
    told = unas_hw(*words, "--macs-budget", "2k", "--json")
    assert told.exit_code == 3
    found = read(told)
    assert found["whole"]["macs"] == 64 * 8 + 4 * 16 * 8 * 16 + 16 * 3 * 20 * ((4 + 20) + (20 + 20)) + 20 * 3
    assert found["macs_without"] == ["_fft_r2c"]
    assert "MACs are without _fft_r2c, whose arithmetic is not known" in told.stderr
