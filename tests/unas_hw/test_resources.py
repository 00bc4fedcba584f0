"""Budgets other than latency: numbers are those of the networks themselves, the largest operation's memory has the
distribution that enumeration finds, and energy is what the table has measured.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from latency_tables.errors import MissingEntryError
from latency_tables.published import find_published
from latency_tables.table import LatencyTable
from profilers.devices.simulated import find_simulated
from profilers.opspec import OpSpec
from profilers.registry import open_profiler
from profilers.timing import TimingRule
from profilers.workload import Workload
from tests.unas_hw.conftest import PHONE
from tests.unas_hw.made_up import COUNTS, EVERYTHING, MadeUpSpace
from unas_hw import cost_model
from unas_hw.cost_model import CostModel
from unas_hw.jobs.profile import profile
from unas_hw.latency_model import LatencyModel
from unas_hw.ops.mbconv import Classifier, MBConv, conv_bn
from unas_hw.ops.nas_bench_201 import ReLUConvBN
from unas_hw.progress import finish
from unas_hw.resources import Energy, Macs, Params, PeakMemory, activation_bytes
from unas_hw.space import SearchSpace
from unas_hw.spaces import SPACES, find_space
from unas_hw.spaces.chain import ChainSpace


@pytest.mark.parametrize("name", sorted(SPACES))
def test_params_are_those_of_the_built_network(name: str) -> None:
    space, rng = find_space(name), random.Random(0)
    params = Params(space)
    for architecture in [space.draw(rng) for _ in range(3)]:
        built = sum(weight.numel() for weight in space.network(architecture).parameters())
        assert params.value(space.indices(architecture)) == built


def test_macs_are_counted_for_one_image() -> None:
    one, four = (Macs(find_space("mbconv-small", batch=batch)) for batch in (1, 4))
    architecture = one.space.draw(random.Random(0))
    path = one.space.indices(architecture)
    assert four.value(path) == one.value(path) == one.space.workload(architecture).cost.macs
    assert one.range[0] < one.value(path) < one.range[1]


def test_all_are_resources_and_so_is_latency(space: ChainSpace, table: LatencyTable) -> None:
    resources: list[CostModel] = [Params(space), Macs(space), PeakMemory(space), LatencyModel(space, table)]
    assert [(each.name, each.unit) for each in resources] == [
        ("params", ""),
        ("macs", ""),
        ("peak memory", "bytes"),
        ("latency", "ms"),
    ]
    for each in resources:
        assert each.range == (each.value(each.smallest), each.value(each.largest))
        found = each.distribution([torch.full((n,), 1 / n, dtype=torch.float64) for n in (6, 7, 6)])
        assert each.range[0] <= float(found.expectation()) <= each.range[1]
        assert float(found.cdf(each.range[1] * 1.000001)) == pytest.approx(1)
        assert float(found.hinge(each.range[1] * 1.000001)) == 0


@pytest.fixture(scope="module")
def measured(space: ChainSpace, rule: TimingRule, tmp_path_factory: pytest.TempPathFactory) -> LatencyTable:
    path: Path = tmp_path_factory.mktemp("tables") / "energy.jsonl"
    return finish(profile(space, open_profiler(PHONE), path=path, rule=rule, networks=2, energy=True))


def test_energy_is_what_the_device_spends(space: ChainSpace, measured: LatencyTable) -> None:
    phone, energy = find_simulated(PHONE.removeprefix("sim:")), Energy(space, measured)
    assert (energy.name, energy.unit) == ("energy", "mJ")
    for path in itertools.islice(itertools.product(range(6), range(7), range(6)), 0, None, 25):
        parts = space.parts(space.architecture(path))
        assert energy.value(path) == pytest.approx(sum(map(phone.energy_mj, parts)), rel=0.05)
    without, smallest = energy.value((0, 0, 0)), energy.value((0, 1, 0))
    layer = space.layers[2].candidates["k3e3"]
    assert layer is not None
    assert smallest - without == pytest.approx(measured.energy_mj[layer.key])  # identity spends nothing


def test_a_table_without_energy_is_refused_with_the_command_that_measures_it(
    space: ChainSpace, table: LatencyTable
) -> None:
    with pytest.raises(MissingEntryError, match="has no energy of 20 operations of toy, such as conv") as caught:
        Energy(space, table)
    assert caught.value.mend == f"unas-hw profile --device '{PHONE}' --space toy --energy"
    published = LatencyTable.load(find_published("pixel1")[0])
    with pytest.raises(MissingEntryError) as caught:
        Energy(space, published)
    assert caught.value.mend == "unas-hw profile --device cpu --space toy --energy"


def _needed(space: SearchSpace) -> Tensor:
    """By hand: of every network the largest of what its operations need."""
    paths = itertools.product(*(range(len(decision.choices)) for decision in space.decisions))
    parts = [space.parts(space.architecture(path)) for path in paths]
    known = {workload.key: activation_bytes(workload) for workload in space.workloads()}
    return torch.tensor([max(known[part.key] for part in each) for each in parts], dtype=torch.float64)


def _expected(probs: list[Tensor], values: Tensor) -> float:
    for prob in reversed(probs):
        values = values.unflatten(0, (-1, len(prob))) @ prob
    return float(values.squeeze())


@pytest.mark.parametrize("dead", [False, True])
def test_the_distribution_of_peak_memory_is_that_of_all_networks_and_so_is_its_gradient(dead: bool) -> None:
    memory, generator = PeakMemory(MadeUpSpace(dead=dead)), torch.Generator().manual_seed(0)
    values = _needed(memory.space)
    assert len(values.unique()) > 6
    assert [memory.value(path) for path in EVERYTHING] == values.tolist()
    assert memory.range == (float(values.min()), float(values.max()))
    logits = [torch.randn(count, dtype=torch.float64, generator=generator) for count in COUNTS]
    leaves = [row.clone().requires_grad_() for row in logits]
    found = memory.distribution([torch.softmax(row, 0) for row in leaves])
    budget = float(values.quantile(0.4))
    probs, excess = [torch.softmax(row, 0) for row in logits], (values / budget - 1).clamp_min(0)
    assert not found.upper_bound
    assert float(found.expectation()) == pytest.approx(_expected(probs, values))
    for at in values.unique():
        assert float(found.cdf(float(at))) == pytest.approx(_expected(probs, (values <= at).double()))
    assert float(found.hinge(budget)) == pytest.approx(_expected(probs, excess))
    gradients = torch.autograd.grad(found.hinge(budget), leaves)
    for g, choice in [(0, 1), (1, 2), (2, 3), (4, 0)]:
        moved = []
        for step in (1e-5, -1e-5):
            changed = [row.clone() for row in logits]
            changed[g][choice] += step
            moved.append(_expected([torch.softmax(row, 0) for row in changed], excess))
        assert float(gradients[g][choice]) == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-5, abs=1e-9)


def test_a_gradient_of_peak_memory_survives_decisions_that_are_made() -> None:
    memory = PeakMemory(MadeUpSpace())
    probs = [torch.eye(count, dtype=torch.float64)[-1].requires_grad_() for count in COUNTS]
    found = memory.distribution(probs)
    gradients = torch.autograd.grad(found.hinge(float(found.expectation()) / 2), probs, allow_unused=True)
    assert all(gradient is None or bool(gradient.isfinite().all()) for gradient in gradients)
    last = tuple(count - 1 for count in COUNTS)
    assert float(found.expectation()) == pytest.approx(memory.value(last))


def test_of_too_many_networks_with_dead_operations_peak_memory_is_an_upper_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cost_model, "MAX_JOINT", 0)
    memory = PeakMemory(MadeUpSpace(dead=True))
    found = memory.distribution([torch.full((count,), 1 / count, dtype=torch.float64) for count in COUNTS])
    values = _needed(memory.space)
    assert found.upper_bound
    assert float(found.expectation()) > float(values.mean())
    assert all(float(found.cdf(float(at))) <= float((values <= at).double().mean()) + 1e-12 for at in values)
    assert memory.range == (float(values.min()), float(values.max()))


def _bytes(build: Callable[[], torch.nn.Module], shape: tuple[int, ...], precision: str = "float32") -> int:
    return activation_bytes(Workload(OpSpec("any", {}, shape, precision), build))


def test_memory_is_input_output_and_the_largest_tensor_inside() -> None:
    convolution, shape = partial(conv_bn, 3, 8, kernel=3, stride=2), (1, 3, 8, 8)
    assert _bytes(convolution, shape) == 4 * (3 * 64 + 8 * 16)  # normalisation and activation make nothing new
    assert _bytes(convolution, shape, "float16") * 2 == _bytes(convolution, shape, "int8") * 4
    assert _bytes(convolution, (5, *shape[1:])) == 5 * _bytes(convolution, shape)
    block = partial(MBConv, 4, 4, kernel=3, expand=6, stride=1)
    assert _bytes(block, (1, 4, 8, 8)) == 4 * 64 * (4 + 4 + 24)
    narrowing = partial(MBConv, 4, 10, kernel=3, expand=6, stride=2)
    assert _bytes(narrowing, (1, 4, 8, 8)) == 4 * (64 * 4 + 16 * 10 + 64 * 24)
    assert _bytes(partial(Classifier, 6, 3), (1, 6, 8, 8)) == 4 * (6 * 64 + 3 + 6)
    before = partial(ReLUConvBN, 4, 8, kernel=1)  # its activation may not write over an input that others read
    assert _bytes(before, (1, 4, 8, 8)) == 4 * 64 * (4 + 8 + 4)


def test_a_network_needs_the_memory_of_its_largest_operation(space: ChainSpace) -> None:
    memory = PeakMemory(space)
    values = _needed(space)
    paths = list(itertools.product(range(6), range(7), range(6)))
    assert np.allclose([memory.value(path) for path in paths], values)
    assert len(values.unique()) > 1
