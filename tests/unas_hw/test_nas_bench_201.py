"""NAS-Bench-201 as published: dead is what no path from input to output crosses, networks have the size that the
layout of the paper gives, and they run live edges only; nobody is handed a network that is cut off from its input.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from onnxruntime import InferenceSession
from torch import Tensor, nn

from profilers.runtimes.onnx_edit import INPUT
from profilers.runtimes.onnx_file import write_onnx
from unas_hw.data import Dataset
from unas_hw.errors import ArchitectureError
from unas_hw.extremes import spread
from unas_hw.network import inherit
from unas_hw.ops.nas_bench_201 import EDGES, Cell
from unas_hw.space import Architecture
from unas_hw.spaces import find_space
from unas_hw.spaces.nas_bench_201 import OPS, CellSupernet, NasBench201
from unas_hw.supernet import MixedOp

EVERYTHING: list[tuple[int, ...]] = list(itertools.product(range(5), repeat=6))
CUT_OFF = (3, 0, 0, 0, 0, 3)
"""An edge that leads nowhere, and one that comes from nothing."""
PATHS = [(3, 3, 2, 3, 4, 3), (0, 3, 3, 3, 2, 4), (3, 0, 0, 1, 0, 2), (0, 0, 0, 1, 0, 0), (3, 1, 4, 0, 0, 2), CUT_OFF]


@pytest.fixture(scope="module")
def published() -> NasBench201:
    space = find_space("nas_bench_201")
    assert isinstance(space, NasBench201)
    return space


@pytest.fixture(scope="module")
def small() -> NasBench201:
    """For the images of ``data``."""
    return NasBench201("small", image_size=8, channels=1, classes=3, batch=1, width=4, cells=2)


def _crossed(path: tuple[int, ...]) -> set[int]:
    """Edges on the ways through a cell, way by way."""

    def ways(node: int) -> Iterator[list[int]]:
        if node == 3:
            yield []
        for edge, (to, source) in enumerate(EDGES):
            if source == node and OPS[path[edge]] != "none":
                yield from ([edge, *rest] for rest in ways(to))

    return {edge for way in ways(0) for edge in way}


def test_an_edge_is_live_if_a_way_from_input_to_output_crosses_it(published: NasBench201) -> None:
    live = published.live(np.array(EVERYTHING))
    usable = published.usable(np.array(EVERYTHING))
    for path, edges, wanted in zip(EVERYTHING, live, usable, strict=True):
        crossed = _crossed(path)
        assert set(np.flatnonzero(edges).tolist()) == crossed
        assert bool(wanted) == bool(crossed)
    assert published.size == len(EVERYTHING) == 15_625


def _conv(kernel: int, inside: int, outside: int) -> int:
    return kernel**2 * inside * outside + 2 * outside  # scale and shift of the normalisation


@pytest.mark.parametrize(("width", "cells", "channels"), [(16, 5, 3), (4, 2, 1)])
def test_networks_have_the_weights_of_the_published_layout(width: int, cells: int, channels: int) -> None:
    space = NasBench201("any", image_size=8, channels=channels, classes=7, batch=1, width=width, cells=cells)
    rng = random.Random(0)
    for path in [(3,) * 6, CUT_OFF, *(space.indices(space.draw(rng)) for _ in range(8))]:
        params = _conv(3, channels, width)
        for stage in range(3):
            wide = width * 2**stage
            kernels = [{"nor_conv_1x1": 1, "nor_conv_3x3": 3}.get(OPS[path[edge]], 0) for edge in _crossed(path)]
            params += cells * sum(_conv(kernel, wide, wide) for kernel in kernels if kernel)
            if stage < 2:
                params += _conv(3, wide, 2 * wide) + _conv(3, 2 * wide, 2 * wide) + wide * 2 * wide
        params += 2 * 4 * width + 4 * width * 7 + 7
        architecture = space.architecture(path)
        network = space.network(architecture)
        assert sum(weight.numel() for weight in network.parameters()) == params
        assert space.workload(architecture).cost.params == params


def test_a_cell_adds_up_in_its_nodes_what_its_edges_make() -> None:
    ops = {edge: nn.Conv2d(3, 3, 1) for edge in range(6)}
    x = torch.randn(2, 3, 4, 4)
    one = ops[0](x)
    two = ops[1](x) + ops[2](one)
    torch.testing.assert_close(Cell(ops)(x), ops[3](x) + ops[4](one) + ops[5](two))
    assert torch.equal(Cell({})(x), torch.zeros_like(x))


@pytest.mark.parametrize("size", [8, 9, 28, 33])
def test_images_of_any_size_from_eight_pixels_on_are_taken(size: int) -> None:
    space = find_space("nas_bench_201", image_shape=(1, size, size), classes=4, batch=2)
    sizes = {workload.op.shape[2] for workload in space.workloads()}
    assert sizes == {size, -(-size // 2), -(-size // 4)}
    for workload in space.workloads():
        assert workload.cost.moved_bytes > 0  # each runs on its own shape
    with torch.inference_mode():
        network = space.network(space.architecture((3, 4, 1, 2, 0, 3))).eval()
        assert network(torch.randn(2, 1, size, size)).shape == (2, 4)


FORM = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"
CHOICES = ("nor_conv_3x3", "none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "none")


def published_form(architecture: Architecture) -> str:
    """A cell as the benchmark writes it, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``."""
    nodes: dict[int, str] = {}
    for (to, source), op in zip(EDGES, architecture.choices, strict=True):
        nodes[to] = nodes.get(to, "|") + f"{op}~{source}|"
    return "+".join(nodes.values())


@pytest.mark.parametrize(
    "text", [FORM, f"nas_bench_201:{FORM}", ",".join(CHOICES), f"nas_bench_201:{','.join(CHOICES)}"]
)
def test_both_ways_to_write_a_cell_are_read(published: NasBench201, text: str) -> None:
    architecture = published.parse(text)
    assert architecture == Architecture("nas_bench_201", CHOICES)
    assert published_form(architecture) == FORM
    assert published.parse(str(architecture)) == architecture


def test_the_published_form_round_trips(published: NasBench201) -> None:
    for path in random.Random(0).sample(EVERYTHING, 200):
        architecture = published.architecture(path)
        assert published.parse(published_form(architecture)) == architecture


@pytest.mark.parametrize(
    ("text", "what", "mend"),
    [
        (FORM.replace("~2", "~0"), "is not a cell of nas_bench_201", "|op~0|+|op~0|op~1|"),
        (FORM.rpartition("+")[0], "is not a cell", "six operations"),
        (FORM.replace("+", ""), "is not a cell", "six operations"),
        (FORM.replace("avg_pool_3x3", "max_pool_3x3"), "has no choice 'max_pool_3x3'", "did you mean 'avg_pool_3x3'?"),
        (",".join(CHOICES[:5]), "6 decisions, the architecture has 5", "one choice per decision"),
    ],
)
def test_what_is_no_cell_is_refused_with_the_mend(published: NasBench201, text: str, what: str, mend: str) -> None:
    with pytest.raises(ArchitectureError) as caught:
        published.parse(text)
    assert what in caught.value.what
    assert mend in caught.value.mend


def test_drawn_networks_are_usable(published: NasBench201) -> None:
    rng = random.Random(0)
    assert all(_crossed(published.indices(published.draw(rng))) for _ in range(500))


def test_a_spread_reaches_from_the_smallest_usable_network_to_the_largest(small: NasBench201) -> None:
    found = [small.indices(each) for each in spread(small, 40, random.Random(0))]
    assert found[0] == (0, 0, 0, 1, 0, 0)  # nothing but the input
    assert found[1] == (3,) * 6
    assert all(map(_crossed, found))
    assert len({small.running(path) for path in found}) == 40  # dead operations make no other network
    macs = [small.workload(small.architecture(path)).cost.macs for path in found]
    for quarter in range(4):
        low, high = (macs[0] + share / 4 * (macs[1] - macs[0]) for share in (quarter, quarter + 1))
        assert sum(low <= each <= high for each in macs) >= 5


@pytest.fixture(scope="module")
def net(small: NasBench201, data: Dataset) -> CellSupernet:
    """Trained a little, so that normalisation has something to do."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = small.supernet()
        optimizer = torch.optim.Adam(made.parameters(), 0.01)
        for step in range(12):
            optimizer.zero_grad()
            nn.functional.cross_entropy(made(data.train.x, PATHS[step % 5]), data.train.y).backward()
            optimizer.step()
    return made.eval()


@torch.no_grad()
@pytest.mark.parametrize("path", PATHS)
def test_the_extracted_network_gives_the_outputs_of_the_supernets_path(
    small: NasBench201, net: CellSupernet, data: Dataset, path: tuple[int, ...]
) -> None:
    network, x = small.network(small.architecture(path)), data.train.x
    inherit(network, net, path)
    expected = net(x, path)
    torch.testing.assert_close(network.train()(x), expected)  # with the statistics of the batch, as the supernet
    assert bool(expected.std(0).max() < 1e-6) == (path == CUT_OFF)


@torch.no_grad()
@pytest.mark.parametrize("path", PATHS)
def test_a_one_hot_relaxed_path_equals_the_single_path_whatever_is_dead(
    net: CellSupernet, data: Dataset, path: tuple[int, ...]
) -> None:
    relaxed = torch.nn.functional.one_hot(torch.tensor(path), 5).float()
    torch.testing.assert_close(net(data.train.x, relaxed), net(data.train.x, path), atol=1e-4, rtol=1e-4)


def _learns(net: nn.Module) -> list[list[bool]]:
    """Per edge and choice, whether a weight of the choice has a gradient; of choices without weights, False."""
    mixed = [module for module in net.modules() if isinstance(module, MixedOp)]
    gradients = [[[weight.grad for weight in op.parameters()] for op in each.candidates] for each in mixed]
    return [[any(grad is not None and bool(grad.any()) for grad in grads) for grads in edge] for edge in gradients]


def test_all_operations_learn_from_a_relaxed_path_and_live_ones_from_a_single_one(small: NasBench201) -> None:
    relaxed = small.supernet()
    relaxed(torch.randn(8, 1, 8, 8), torch.full((6, 5), 0.2)).square().sum().backward()
    assert _learns(relaxed) == [[False, False, True, True, False]] * 6 * 6  # six cells of six edges
    single, path = small.supernet(), (3, 2, 3, 0, 0, 2)
    single(torch.randn(8, 1, 8, 8), path).square().sum().backward()
    crossed = _crossed(path)
    assert crossed == {0, 1, 2, 5}
    one_cell = [[edge in crossed and choice == path[edge] for choice in range(5)] for edge in range(6)]
    assert _learns(single) == one_cell * 6


def test_a_network_without_live_edges_runs_and_is_exported_with_its_input(small: NasBench201, tmp_path: Path) -> None:
    network = small.network(small.architecture(CUT_OFF))
    x: Tensor = torch.randn(1, 1, 8, 8)
    network.train()(torch.randn(8, 1, 8, 8))
    write_onnx(network, (1, 1, 8, 8), tmp_path / "cut.onnx", final=False)
    (seen,) = InferenceSession(tmp_path / "cut.onnx").run(None, {INPUT: x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(np.asarray(seen)), network.eval()(x), atol=1e-5, rtol=0)
