"""The DARTS space: cells and layers as published, a supernet whose paths are the networks, terms that count what runs,
and networks that are cut short where an input of a cell is not used.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from onnxruntime import InferenceSession
from torch import Tensor, nn

from profilers.runtimes.onnx_edit import INPUT
from profilers.runtimes.onnx_file import write_onnx
from tests.unas_hw.darts_by_hand import by_hand
from unas_hw.extremes import spread
from unas_hw.network import inherit, recalibrate
from unas_hw.ops.darts import LISTS, OPS
from unas_hw.ops.darts_cell import Cell, live_layers
from unas_hw.ops.drop_path import DropPath, set_drop_path
from unas_hw.spaces import find_space
from unas_hw.spaces.darts import DartsSpace
from unas_hw.spaces.darts_supernet import DartsSupernet
from unas_hw.spaces.genotypes import genotype_of

SKIP, SEP3, MAX = (OPS.index(op) for op in ("skip_connect", "sep_conv_3x3", "max_pool_3x3"))
CELL = (0, SEP3, 1, MAX, 2, SKIP, 0, SEP3, 3, SKIP, 1, SEP3, 4, MAX, 2, SEP3)
TWICE = (0, SEP3, 0, SEP3, 1, MAX, 1, MAX, 3, SKIP, 3, SKIP, 1, SKIP, 1, SKIP)
"""A cell in which both pairs of a node choose the same."""
ONLY_0 = (0, SEP3, 0, MAX, 2, SKIP, 0, SEP3, 3, SKIP, 2, SEP3, 4, MAX, 2, SEP3)
USABLE = [CELL + CELL, TWICE + CELL, CELL + TWICE, TWICE + TWICE]
CUT_SHORT = ONLY_0 + CELL


def _small(layers: int = 4, **options: str) -> DartsSpace:
    return DartsSpace("small", image_size=16, channels=1, classes=3, batch=1, width=4, layers=layers, **options)


@pytest.fixture(scope="module")
def small() -> DartsSpace:
    """Normal, reducing, reducing, normal."""
    return _small()


@pytest.fixture(scope="module")
def net(small: DartsSpace) -> DartsSupernet:
    """In training, as it always is while a search learns."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return small.supernet()


def _images(count: int = 6) -> Tensor:
    return torch.randn(count, 1, 16, 16)


def _random_paths(space: DartsSpace, count: int) -> list[tuple[int, ...]]:
    """Usable or not."""
    rng = random.Random(0)
    return [tuple(rng.randrange(len(each.choices)) for each in space.decisions) for _ in range(count)]


def _one_hot(path: tuple[int, ...]) -> Tensor:
    return nn.functional.one_hot(torch.tensor(path), 7).float()


def _parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_a_cell_decides_on_an_input_and_an_operation_twice_for_each_of_four_nodes() -> None:
    decisions = find_space("darts").decisions
    assert len(decisions) == 4 * 2 * 2 * 2
    assert [len(each.choices) for each in decisions[:16]] == [2, 7, 2, 7, 3, 7, 3, 7, 4, 7, 4, 7, 5, 7, 5, 7]
    assert [each.choices for each in decisions[16:]] == [each.choices for each in decisions[:16]]
    assert decisions[1].choices == OPS
    assert decisions[14].choices == ("0", "1", "2", "3", "4")
    assert (decisions[6].name, decisions[31].name) == ("normal.3b.input", "reduce.5b.op")


@pytest.mark.parametrize("layers", [3, 4, 8])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_networks_have_the_weights_of_the_published_layout(layers: int, stem: str) -> None:
    space = DartsSpace(
        "any", image_size=32, channels=3, classes=7, batch=1, width=6, layers=layers, stem=stem, ops="all"
    )
    for seed in range(4):
        architecture = space.draw(random.Random(seed))
        expected = by_hand(
            genotype_of(architecture), width=6, layers=layers, channels=3, classes=7, imagenet=stem == "imagenet"
        )
        assert _parameters(space.network(architecture)) == expected == space.workload(architecture).cost.params


def _sizes(space: DartsSpace) -> list[tuple[int, ...]]:
    """Channels and height of what the layers of a network make."""
    network = space.network(space.architecture(CELL + CELL)).eval()
    found: list[tuple[int, ...]] = []
    for cell in network.cells.values():
        cell.register_forward_hook(lambda _, __, out: found.append(tuple(out.shape[1:3])))
    with torch.no_grad():
        assert network(torch.randn(1, *space.input_shape[1:])).shape == (1, space.classes)
    return found


def test_the_size_is_halved_and_the_width_doubled_at_a_third_and_at_two_thirds_of_the_layers() -> None:
    assert _sizes(_small(8)) == [(16, 16)] * 2 + [(32, 8)] * 3 + [(64, 4)] * 3
    large = DartsSpace("large", image_size=128, channels=1, classes=3, batch=1, width=4, layers=3)
    assert _sizes(large) == [(16, 16), (32, 8), (64, 4)]  # the stem has divided 128 by eight


@pytest.mark.parametrize("size", [8, 9, 28, 30])
def test_images_of_any_size_from_eight_pixels_on_are_taken(size: int) -> None:
    space = find_space("darts?width=4&layers=3", image_shape=(3, size, size), classes=5)
    assert isinstance(space, DartsSpace)
    assert _sizes(space) == [(16, size), (32, -(-size // 2)), (64, -(-size // 4))]
    reducing = space.architecture((*CELL, 0, SKIP, 1, SKIP, *CELL[4:]))
    assert space.network(reducing).eval()(torch.randn(2, 3, size, size)).shape == (2, 5)
    for workload in space.workloads():
        assert workload.cost.moved_bytes > 0  # each runs on its own shape


def test_large_images_get_the_stem_for_them_unless_it_is_said() -> None:
    stems = {
        (name, size): find_space(name, image_shape=(3, size, size)).workloads()[0].op.kind
        for name, size in [("darts", 127), ("darts", 128), ("darts?stem=cifar", 128), ("darts?stem=imagenet", 64)]
    }
    assert list(stems.values()) == ["conv_bn", "strided_stem", "conv_bn", "strided_stem"]
    assert find_space("darts?stem=imagenet").input_shape == (1, 3, 224, 224)


@pytest.mark.parametrize(
    "space",
    [_small(5), _small(3, stem="imagenet"), _small(8, ops="darts")],
    ids=["cifar stem", "imagenet stem", "all operations"],
)
def test_terms_say_what_usable_networks_run(space: DartsSpace) -> None:
    rng = random.Random(0)
    for _ in range(10):
        architecture = space.draw(rng)
        path, said = space.indices(architecture), Counter[str]()
        for term in space.terms():
            place = 0
            for g in term.decisions:
                place = place * len(space.decisions[g].choices) + path[g]
            said.update({key: term.count * count for key, count in Counter(term.keys[place]).items()})
        assert said == Counter(part.key for part in space.parts(architecture))


def test_only_a_reducing_cells_costs_depend_on_the_input(small: DartsSpace) -> None:
    for term in small.terms():
        assert len(term.decisions) < 2 or min(term.decisions) >= 16
    halving = small.architecture((*CELL, 0, SKIP, 1, MAX, *CELL[4:]))
    keeping = small.architecture((*CELL, 0, MAX, 1, MAX, 2, SKIP, *CELL[6:]))
    kinds = [Counter(part.op.kind for part in small.parts(each)) for each in (halving, keeping)]
    # One where the size differs between the inputs of a layer, twice; and the skip from an input, in both cells.
    assert [each["factorized_reduce"] for each in kinds] == [2 + 2, 2]


@torch.no_grad()
@pytest.mark.parametrize("path", [*USABLE, CUT_SHORT, CELL + ONLY_0])
def test_a_relaxed_path_with_all_weight_on_one_network_is_that_path_and_that_network(
    small: DartsSpace, net: DartsSupernet, path: tuple[int, ...]
) -> None:
    network, x = small.network(small.architecture(path)), _images()
    inherit(network, net, path)
    expected = net(x, path)
    torch.testing.assert_close(net(x, _one_hot(path)), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(network.train()(x), expected, atol=1e-5, rtol=1e-4)
    other = next(each for each in USABLE if each != path)
    assert not torch.allclose(net(x, other), expected, atol=1e-3)


def test_a_node_whose_pairs_choose_the_same_adds_it_twice(small: DartsSpace) -> None:
    cell = next(iter(small.network(small.architecture(TWICE + CELL)).cells.values()))
    assert isinstance(cell, Cell)
    one, other = cell.edges[0], cell.edges[1]
    assert one is not other
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        stem = torch.randn(6, 12, 16, 16)
        node = cell(stem, stem)[:, :4]
        torch.testing.assert_close(node, 2 * one(cell.preprocess["0"](stem)))


@torch.no_grad()
def test_a_relaxed_node_is_the_sum_over_pairs_inputs_and_operations_of_the_product_of_their_weights(
    small: DartsSpace, net: DartsSupernet
) -> None:
    counts = torch.tensor([len(each.choices) for each in small.decisions])
    weights = torch.rand(32, 7).masked_fill(torch.arange(7) >= counts[:, None], 0.0)
    x = _images()
    outputs = [net.stems[0](x)] * 2
    for cell, reduces in zip(net.mixed, (False, True, True, False), strict=True):
        nodes = [module(out) for module, out in zip(cell.preprocess, outputs[-2:], strict=True)]
        for node in range(4):
            made: list[Tensor] = []
            for pair in range(2):
                sources, ops = weights[16 * reduces + 4 * node + 2 * pair :][:2]
                for source in range(node + 2):
                    candidates = cell.mixed[node][source].candidates
                    made += [sources[source] * ops[o] * candidates[o](nodes[source]) for o in range(7)]
            nodes.append(torch.stack(made).sum(0))
        outputs.append(torch.cat(nodes[2:], 1))
    torch.testing.assert_close(net(x, weights), net.head(outputs[-1]), atol=1e-5, rtol=1e-4)


def _learning(net: DartsSupernet) -> set[tuple[int, int, int, int]]:
    """Layer, node, input and operation of those with weights that have a gradient."""
    return {
        (layer, node, source, op)
        for layer, cell in enumerate(net.mixed)
        for node, sources in enumerate(cell.mixed)
        for source, mixed in enumerate(sources)
        for op, candidate in enumerate(mixed.candidates)
        if any(weight.grad is not None and bool(weight.grad.any()) for weight in candidate.parameters())
    }


def test_all_operations_learn_from_a_relaxed_path_and_chosen_ones_from_a_single_one(small: DartsSpace) -> None:
    relaxed, single = small.supernet(), small.supernet()
    path = torch.full((32, 7), 0.2, requires_grad=True)
    relaxed(_images(), path).square().sum().backward()
    convolutions = {op for op, name in enumerate(OPS) if "conv" in name}
    everything = {
        (layer, node, source, op)
        for layer in range(4)
        for node in range(4)
        for source in range(node + 2)
        for op in range(7)
        if op in convolutions or (op == SKIP and layer in (1, 2) and source < 2)
    }
    assert _learning(relaxed) == everything
    assert path.grad is not None
    assert (path.grad != 0).sum(1).tolist() == [len(each.choices) for each in small.decisions]
    single(_images(), CELL + CELL).square().sum().backward()
    chosen = {(edge // 2, *CELL[2 * edge : 2 * edge + 2]) for edge in range(8)}
    assert _learning(single) == everything & {(layer, *each) for layer in range(4) for each in chosen}


def test_the_supernet_learns_no_scales_and_keeps_no_statistics(net: DartsSupernet) -> None:
    names = dict(net.named_parameters())
    norms = {name for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert {name for name in norms if f"{name}.weight" in names} == {"stems.0.1"}
    assert not [name for name, _ in net.named_buffers() if "running" in name or "tracked" in name]


def test_networks_both_of_whose_cells_use_both_inputs_are_usable(small: DartsSpace) -> None:
    paths = _random_paths(small, 300)
    found = small.usable(np.array(paths)).tolist()
    expected = [{0, 1} <= set(path[:16:2]) and {0, 1} <= set(path[16::2]) for path in paths]
    assert found == expected
    assert 0 < sum(found) < 300
    for path, usable in zip(paths[:12], found, strict=False):
        network = small.network(small.architecture(path))
        inputs = [len(cell.preprocess) for cell in network.cells.values()]  # type: ignore[arg-type]
        assert (inputs == [2, 2, 2, 2]) == usable


def test_a_network_has_no_weights_that_its_outputs_do_not_depend_on(small: DartsSpace) -> None:
    for path in [CUT_SHORT, CELL + ONLY_0, *_random_paths(small, 6)]:
        architecture = small.architecture(path)
        network = small.network(architecture)
        network(_images()).square().sum().backward()
        assert all(weight.grad is not None for weight in network.parameters())
        assert small.workload(architecture).cost.params == _parameters(network)


def test_layers_that_nothing_takes_are_left_out(small: DartsSpace) -> None:
    # The last layer takes the one before the last but one; the normal cells take no last output at all.
    architecture = small.architecture(CUT_SHORT)
    network = small.network(architecture)
    assert list(network.cells) == ["0", "1", "3"]
    assert [list(cell.preprocess) for cell in network.cells.values()] == [["0"], ["0", "1"], ["0"]]  # type: ignore[arg-type]
    assert not hasattr(network, "auxiliary_at")
    assert Counter(part.op.kind for part in small.parts(architecture))["factorized_reduce"] == 1
    assert live_layers([frozenset({0})] * 4) == {3, 1, -1}
    assert live_layers([frozenset({1})] * 2) == {1, 0, -1}


def test_a_stem_that_nothing_takes_is_left_out() -> None:
    space = _small(3, stem="imagenet")
    usual, short = (space.architecture(path) for path in (CELL + CELL, ONLY_0 + ONLY_0))
    assert [len(space.network(each).stems) for each in (usual, short)] == [2, 1]
    kinds = [[part.op.kind for part in space.parts(each)][:3] for each in (usual, short)]
    assert kinds[0] == ["strided_stem", "nor_conv", "factorized_reduce"]
    assert kinds[1] == ["strided_stem", "factorized_reduce", "sep_conv"]
    with torch.no_grad():
        assert space.network(short).train()(torch.randn(4, 1, 16, 16)).shape == (4, 3)


def test_the_auxiliary_head_learns_from_the_cell_at_two_thirds_of_the_layers() -> None:
    for layers, place in ((4, 2), (8, 5), (20, 13)):
        network = _small(layers).network(_small(layers).architecture(CELL + CELL))
        assert network.auxiliary_at == f"cells.{place}"
        assert isinstance(network.get_submodule(network.auxiliary_at), Cell)


def test_drop_path_leaves_identities_alone() -> None:
    def out(edge: nn.Module) -> Tensor:
        cell = Cell({0: nn.Identity(), 1: nn.Identity()}, [edge] * 8, [0, 1] * 4)
        set_drop_path(cell, 1 - 1e-9)
        made: Tensor = cell(torch.ones(3, 2, 4, 4), torch.ones(3, 2, 4, 4))
        return made

    assert torch.equal(out(nn.Identity()), torch.full((3, 8, 4, 4), 2.0))
    assert torch.equal(out(nn.AvgPool2d(1)), torch.zeros(3, 8, 4, 4))


def test_every_cell_of_a_network_can_drop_paths(small: DartsSpace) -> None:
    network = small.network(small.architecture(CELL + CELL))
    assert sum(isinstance(module, DropPath) for module in network.modules()) == 4


def test_duplicate_edges_are_counted_per_node(small: DartsSpace) -> None:
    counted = [float(small.duplicate_edges(_one_hot(path))) for path in USABLE]
    assert counted == [0, 4, 4, 8]
    near = (*CELL[:14], 4, SEP3)  # same input, another operation
    assert float(small.duplicate_edges(_one_hot(near + CELL))) == 0


def test_duplicate_edges_are_inner_products_of_outer_products(small: DartsSpace) -> None:
    relaxed = torch.rand(3, 32, 7, dtype=torch.float64, requires_grad=True)
    expected = torch.zeros(3, dtype=torch.float64)
    for sample in range(3):
        for node in range(8):
            sources0, ops0, sources1, ops1 = relaxed[sample, 4 * node : 4 * node + 4].detach()
            expected[sample] += (torch.outer(sources0, ops0) * torch.outer(sources1, ops1)).sum()
    found = small.duplicate_edges(relaxed)
    torch.testing.assert_close(found.detach(), expected)
    found.sum().backward()
    assert relaxed.grad is not None and bool((relaxed.grad > 0).all())
    torch.testing.assert_close(small.duplicate_edges(relaxed[1]), found[1])


def test_a_spread_is_usable_and_reaches_from_the_smallest_network_to_the_largest(small: DartsSpace) -> None:
    found = spread(small, 8, random.Random(0))
    macs = [small.workload(each).cost.macs for each in found]
    assert len(set(found)) == 8
    assert all(small.is_usable(small.indices(each)) for each in found)
    assert macs[0] == min(macs) and macs[1] == max(macs)
    assert all(choice == "sep_conv_7x7" for choice in found[1].choices[1::2])


@pytest.mark.parametrize("name", ["5", "7", "darts", "all"])
def test_the_option_ops_says_what_there_is_to_choose(name: str) -> None:
    space = find_space(f"darts?ops={name}")
    assert space.decisions[1].choices == LISTS[name]
    assert space.name == ("darts" if name == "7" else f"darts?ops={name}")


@pytest.mark.parametrize(("path", "final"), [(USABLE[0], False), (CUT_SHORT, False), (TWICE + TWICE, True)])
@pytest.mark.slow
def test_a_network_is_exported_with_all_it_does(tmp_path: Path, path: tuple[int, ...], final: bool) -> None:
    space = _small(3 if final else 4)
    network = space.network(space.architecture(path))
    recalibrate(network, _images(16))
    write_onnx(network, (2, 1, 16, 16), tmp_path / "net.onnx", final=final)
    x = _images(2)
    (seen,) = InferenceSession(tmp_path / "net.onnx").run(None, {INPUT: x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(np.asarray(seen)), network(x), atol=1e-4, rtol=1e-4)
