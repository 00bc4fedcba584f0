"""The smaller networks of one of the user's own are a space like others: found, trained, exported, opened again."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unas_hw.errors import ArchitectureError, PruningError, RunError, SpaceError, UnknownSpaceError
from unas_hw.extremes import spread
from unas_hw.jobs.evaluate import evaluate_run
from unas_hw.jobs.predict import predict_network
from unas_hw.jobs.train import Elsewhere, retrain
from unas_hw.progress import finish
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space, origin_of, smallest_image
from unas_hw.spaces.factories import load_factory
from unas_hw.spaces.subset import SubsetSpace
from unas_hw.training import Recipe
from unas_hw.verify.artifact import open_run

from .pruned_networks import CLASSES, SHAPE

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_resnet.py"
SMALL = """
from torch import nn

def build(num_classes, in_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes),
    )

def fixed():
    return build(3, 1)
"""
RESIDUAL = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.stem = nn.Conv2d(channels, 3, 3, padding=1)
        self.inner = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 3, 3, padding=1))
        self.fc = nn.Linear(3, classes)

    def forward(self, x):
        x = self.stem(x)
        return self.fc((x + self.inner(x)).mean((2, 3)))

build = Net
"""


def written(text: str, name: str = "net.py") -> str:
    Path(name).write_text(text)
    return f"subset:{name}"


def opened(name: str) -> SubsetSpace:
    space = find_space(name, image_shape=(1, 8, 8))
    assert isinstance(space, SubsetSpace)
    return space


def every(space: SearchSpace) -> np.ndarray:
    return np.stack(np.meshgrid(*(range(len(each.choices)) for each in space.decisions), indexing="ij"), -1).reshape(
        -1, len(space.decisions)
    )


def test_a_decision_is_how_many_channels_stay_or_whether_a_block_does() -> None:
    space = opened(written(RESIDUAL))
    assert [(each.name, each.choices) for each in space.decisions] == [
        ("stem", ("1", "2", "3")), ("inner.0", ("1", "2")), ("add", ("keep", "drop"))
    ]  # fmt: skip
    architecture = space.parse("2,1,drop")
    assert space.widths(architecture) == {"stem": 2, "inner.0": 1, "add": 0}
    assert space.architecture_of(space.widths(architecture)) == architecture
    with pytest.raises(ArchitectureError, match="no choice '4'"):
        space.parse("4,1,drop")


def test_parts_are_those_of_the_network() -> None:
    space = opened(f"subset:{EXAMPLE}")
    for seed in range(4):
        architecture = space.draw(random.Random(seed))
        network = space.network(architecture).eval()
        with FlopCounterMode(display=False) as counter:
            assert network(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
        cost = space.workload(architecture).cost
        assert cost.macs == counter.get_total_flops() // 2
        assert cost.params == sum(map(torch.numel, network.parameters()))


def test_rows_have_the_keys_of_tables() -> None:
    space = opened(f"subset:{EXAMPLE}")
    keys = [part.key for part in space.parts(space.architecture_of(space.prunable.sizes))]
    assert keys[0] == "conv[act=relu,kernel=3,out=16,stride=1]@1x1x8x8:float32"
    assert keys[-1] == "linear[act=none,bias=1,out=10]@1x64:float32"


def test_terms_and_workloads_have_every_width_and_no_other() -> None:
    space = opened(written(RESIDUAL))
    keys = {row.key for row in space.workloads()}
    costs = space.costs({key: float(number) for number, key in enumerate(sorted(keys), 1)}.__getitem__)
    prices = {key: number for number, key in enumerate(sorted(keys), 1)}
    paths = every(space)
    run = [[part.key for part in space.parts(space.architecture(path))] for path in paths]
    np.testing.assert_allclose(
        costs.total(paths, space.live(paths)), [sum(map(prices.__getitem__, each)) for each in run]
    )
    assert {key for each in run for key in each} == keys


def test_what_is_in_a_dropped_block_is_not_run() -> None:
    space = opened(written(RESIDUAL))
    paths = np.array([[2, 1, 0], [2, 1, 1]])
    assert space.live(paths).tolist() == [[True, True, True], [True, False, True]]
    assert space.running((2, 1, 1)) == space.running((2, 0, 1)) != space.running((2, 0, 0))


def test_too_many_widths_for_terms_are_refused_with_the_method_that_needs_none() -> None:
    text = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=10, channels=1):
        super().__init__()
        self.stems = nn.ModuleList([nn.Conv2d(channels, 32, 1) for _ in range(5)])
        self.fc = nn.Linear(160, classes)

    def forward(self, x):
        return self.fc(torch.cat([stem(x) for stem in self.stems], 1).mean((2, 3)))
"""
    space = opened(written(text, "dense.py") + ":Net")
    with pytest.raises(SpaceError, match="fc of dense depends on 5 decisions") as caught:
        space.terms()
    assert caught.value.mend.startswith("unas-hw prune /")
    assert len(space.workloads()) == 32 + 156  # widths of a stem, and sums of five of them


def test_it_has_no_supernet() -> None:
    with pytest.raises(SpaceError, match="share no weights") as caught:
        opened(written(SMALL)).supernet()
    assert caught.value.mend == f"unas-hw prune {Path('net.py').resolve()}"


def test_its_name_is_found_again_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    space = opened(written(SMALL))
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    again = opened(space.origin)
    assert again.origin == space.origin == origin_of("subset:../net.py") == f"subset:{Path('../net.py').resolve()}"
    assert (again.version, again.decisions, again.title) == (space.version, space.decisions, "net@1x1x8x8")
    assert smallest_image(space.origin) == 1


def test_a_changed_file_is_another_version() -> None:
    before = opened(written(SMALL)).version
    assert opened(written(SMALL + "# changed\n")).version != before


def test_a_function_of_an_installed_module_will_do() -> None:
    name = "subset:tests.unas_hw.pruned_networks:ResNet"
    space = find_space(name, image_shape=SHAPE, classes=CLASSES)
    assert (space.origin, space.name, len(space.decisions)) == (name, "ResNet", 9)
    assert space.network(space.parse("1,1,1,1,1,1,drop,drop,drop")).eval()(torch.zeros(2, *SHAPE)).shape == (2, CLASSES)


def test_the_factory_is_told_classes_and_channels_by_either_name() -> None:
    network = load_factory(written(SMALL).removeprefix("subset:"))(classes=7, channels=2)
    assert isinstance(network, nn.Sequential)
    assert network(torch.zeros(1, 2, 8, 8)).shape == (1, 7)


@pytest.mark.parametrize(
    ("name", "error", "what"),
    [
        ("subset:nowhere.py", UnknownSpaceError, "there is no file nowhere.py"),
        ("subset:net.py:other", SpaceError, "net.py has no function 'other'"),
        ("subset:net.py:fixed", SpaceError, "gives 3 outputs, there are 10 classes"),
        ("subset:no_such_module:build", SpaceError, "'no_such_module' cannot be imported"),
        ("subset:", SpaceError, "'' names no function"),
        ("subset:bad.py", SpaceError, "bad.py, line 2: ZeroDivisionError"),
        ("subset:bad.py:number", SpaceError, "gives int, no network"),
        ("subset:bad.py:linear", PruningError, "nothing of Sequential can be left out"),
    ],
)
def test_what_is_no_network_is_refused(name: str, error: type[Exception], what: str) -> None:
    written(SMALL)
    written(
        "def build():\n    return 1 / 0\n\ndef number():\n    return 1\n\ndef linear():\n"
        "    from torch import nn\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n",
        "bad.py",
    )
    with pytest.raises(error, match=what):
        find_space(name, image_shape=(1, 8, 8))


def test_a_network_without_memory_can_be_counted() -> None:
    space = opened(f"subset:{EXAMPLE}")
    with torch.device("meta"):
        network = space.network(space.draw(random.Random(1)))
        assert network(torch.empty(2, 1, 8, 8)).device.type == "meta"


def test_the_same_seed_gives_the_same_network() -> None:
    space = opened(f"subset:{EXAMPLE}")
    architecture = space.draw(random.Random(1))
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(space.network(architecture).state_dict())
    assert all(map(torch.equal, networks[0].values(), networks[1].values()))


def test_networks_that_stand_for_the_space_have_widths_that_runtimes_compute_at_once() -> None:
    space = find_space(f"subset:{EXAMPLE}")
    smallest, largest, *others = spread(space, 6, random.Random(0))
    macs = [space.workload(each).cost.macs for each in (smallest, *others, largest)]
    assert len(others) == 4 and macs[0] == min(macs) and macs[-1] == max(macs)
    assert isinstance(space, SubsetSpace)
    for group in space.prunable.groups:
        step = min(8, group.size // 4)
        assert {space.widths(each)[group.name] % step for each in (smallest, *others)} == {0}
        assert space.widths(smallest)[group.name] == step


def test_opening_the_space_draws_no_random_numbers() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    opened(written(SMALL))
    assert torch.equal(torch.rand(1), expected)


def test_an_architecture_is_trained_evaluated_predicted_and_opened_again() -> None:
    name, choices = f"subset:{EXAMPLE}", "8,8,8,8,16,16,32,32,32,keep,drop,keep,keep"
    told = Elsewhere(architecture=choices, space=name, name="mine")
    trained = finish(retrain(None, Recipe(epochs=1, batch_size=256), elsewhere=told))
    context = open_run("mine")
    assert context.space.origin == name and str(context.architecture) == f"my_resnet:{choices}"
    assert finish(evaluate_run("mine"))["top1"] == trained["test_accuracy"]
    with pytest.raises(RunError) as error:
        _ = context.table
    assert error.value.mend.startswith(f"unas-hw prune {EXAMPLE} --latency-budget")
    predicted = finish(predict_network(choices, space=name))
    assert (predicted["params"], predicted["macs"]) == (trained["params"], trained["macs"])
    assert finish(predict_network("runs/mine/architecture.json"))["params"] == trained["params"]
