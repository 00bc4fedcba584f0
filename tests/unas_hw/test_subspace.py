"""A subspace is a space whose networks are those of the whole; what it has given up is neither run nor held."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from latency_tables.home import Target
from tests.unas_hw.made_up import MadeUpSpace, PickySpace
from unas_hw.errors import ArchitectureError, SpaceError
from unas_hw.jobs.spaces import CHECKS, Subject
from unas_hw.network import inherit
from unas_hw.resources import Macs
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space
from unas_hw.spaces.chain import ChainSpace
from unas_hw.spaces.subspace import Structure, Subspace, everything
from unas_hw.supernet import MixedOp, Pruned, Supernet

TOY = [[1], [0, 3], [2, 4, 5]]
NB201 = [[0, 3], [3], [1, 4], [2, 3], [0], [1, 2]]
DARTS = [[0, 1], [3], *[[0, 1], [1, 5]] * 15]


def left_in(mixed: MixedOp) -> list[int]:
    return [j for j, candidate in enumerate(mixed.candidates) if not isinstance(candidate, Pruned)]


def seeded(space: SearchSpace) -> Supernet:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return space.supernet().eval()


def spread(space: Subspace) -> torch.Tensor:
    """Some weights of what is left."""
    counts = [len(decision.choices) for decision in space.decisions]
    path = torch.zeros(len(counts), max(counts))
    for row, count in zip(path, counts, strict=True):
        row[:count] = torch.rand(count).softmax(0)
    return path


@pytest.fixture(params=["toy", "nas_bench_201?cells=1&width=4", "darts?layers=3&width=4"])
def subspace(request: pytest.FixtureRequest, space: ChainSpace) -> Subspace:
    if request.param == "toy":
        return Subspace(space, TOY)
    base = find_space(request.param, image_shape=(3, 16, 16), classes=3)
    return Subspace(base, NB201 if request.param.startswith("nas") else DARTS)


@pytest.mark.slow
def test_everything_that_is_done_with_a_space_works_with_its_subspace(subspace: Subspace) -> None:
    subject = Subject(subspace, Target(device="sim:phone"))
    said = {title: look(subject) for title, look in CHECKS.items()}
    assert f"{len(subspace.kept)} decisions, {subspace.size:.4g} networks" in said["decisions"]


def test_networks_have_the_names_and_the_parts_that_they_have_in_the_whole(subspace: Subspace) -> None:
    assert (subspace.title, subspace.origin) == (subspace.base.title, subspace.base.origin)
    first = subspace.architecture([0] * len(subspace.kept))
    assert first == subspace.base.architecture([each[0] for each in subspace.kept])
    assert subspace.parse(str(first)) == first and subspace.parts(first) == subspace.base.parts(first)
    assert subspace.workload(first).key == subspace.base.workload(first).key
    counts = [len(decision.choices) for decision in subspace.base.decisions]
    others = [next((j for j in range(n) if j not in kept), 0) for n, kept in zip(counts, subspace.kept, strict=True)]
    given_up = subspace.base.architecture(others)
    with pytest.raises(ArchitectureError, match="was given up") as caught:
        subspace.parse(str(given_up))
    assert "choose one of" in caught.value.mend


def test_a_pass_gives_what_the_whole_gives_with_no_weight_on_what_was_given_up(subspace: Subspace) -> None:
    whole, part, x = seeded(subspace.base), seeded(subspace), torch.randn(4, *subspace.input_shape[1:])
    path = spread(subspace).requires_grad_()
    again = path.detach().clone().requires_grad_()
    logits, expected = part(x, path), whole(x, subspace.of_base(again))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)
    logits.square().mean().backward()
    expected.square().mean().backward()
    torch.testing.assert_close(path.grad, again.grad, atol=1e-5, rtol=1e-3)
    indices = [len(each) - 1 for each in subspace.kept]
    torch.testing.assert_close(part(x, indices), whole(x, subspace.path_of_base(indices)), atol=1e-5, rtol=1e-4)


def test_what_was_given_up_is_neither_run_nor_held(subspace: Subspace) -> None:
    whole, part = seeded(subspace.base), seeded(subspace)
    used = subspace.structure.used(subspace.kept)
    held = [left_in(mixed) for mixed in part.mixed_ops()]
    assert all(set(each) == here or (not here and len(each) == 1) for each, here in zip(held, used, strict=True))
    assert sum(map(len, held)) < sum(len(mixed.candidates) for mixed in whole.mixed_ops())
    names = dict(part.named_parameters())
    theirs = {f"base.{name}": weight for name, weight in whole.named_parameters()}
    assert names.keys() < theirs.keys()
    assert all(torch.equal(weight, theirs[name]) for name, weight in names.items())
    optimizer = torch.optim.Adam(part.parameters())
    part(torch.randn(4, *subspace.input_shape[1:]), spread(subspace).requires_grad_()).sum().backward()
    optimizer.step()
    assert 0 < len(optimizer.state) <= len(names)


def test_the_weights_of_a_network_are_those_that_it_shares(subspace: Subspace) -> None:
    part, x = seeded(subspace), torch.randn(4, *subspace.input_shape[1:])
    for indices in ([0] * len(subspace.kept), [len(each) - 1 for each in subspace.kept]):
        if not subspace.is_usable(indices):
            continue
        network = subspace.network(subspace.architecture(indices))
        inherit(network, part, tuple(indices))
        torch.testing.assert_close(network.train()(x), part(x, indices), atol=1e-4, rtol=1e-3)


def test_fewer_candidates_than_are_left_can_be_run(space: ChainSpace) -> None:
    part = seeded(Subspace(space, TOY))
    x, path = torch.randn(4, 1, 8, 8), torch.tensor([[1.0, 0, 0], [0.7, 0.3, 0], [0.2, 0.1, 0.7]])
    everyone = part(x, path)
    part.set_memory(recompute=False, most=3)
    torch.testing.assert_close(part(x, path), everyone)
    part.set_memory(recompute=False, most=1)
    torch.testing.assert_close(part(x, path), part(x, torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]])))


@pytest.mark.parametrize("base", [MadeUpSpace(), MadeUpSpace(dead=True), PickySpace()])
def test_costs_liveness_and_use_are_those_of_the_whole(base: SearchSpace) -> None:
    kept: Sequence[Sequence[int]] = [[1], [0, 2], [0, 1, 3], [0, 1], [1]]
    part = Subspace(base, kept)
    ours, theirs = Macs(part), Macs(base)
    paths = list(itertools.product(*(range(len(each)) for each in kept)))
    assert part.size == len(paths) and part.has_unusable == base.has_unusable
    for path in paths:
        whole = part.path_of_base(path)
        assert ours.value(path) == theirs.value(whole)
        assert part.is_usable(path) == base.is_usable(whole)
        assert part.live(np.array([path])).tolist() == base.live(np.array([whole])).tolist()
    usable = [path for path in paths if part.is_usable(path)]
    assert ours.value(ours.smallest) == min(map(ours.value, usable))
    assert {each.key for each in part.workloads()} < {each.key for each in base.workloads()}


def test_a_structure_tells_what_is_run_where_choices_are_shared(space: ChainSpace) -> None:
    assert Structure(space).used(TOY) == list(map(frozenset, TOY))
    darts = find_space("darts?layers=3&width=4", image_shape=(3, 16, 16), classes=3)
    kept = [[0] if g % 2 == 0 else [2] for g in range(32)]
    kept[2], kept[3] = [1], [4]  # node 2: operation 2 of input 0, operation 4 of input 1
    used = Structure(darts).used(kept)
    assert used[:2] == [frozenset({2}), frozenset({4})]
    assert used[2:5] == [frozenset({2}), frozenset(), frozenset()]  # node 3: nothing of inputs 1 and 2
    held = [left_in(mixed) for mixed in Subspace(darts, kept).supernet().mixed_ops()]
    assert held[3] == [0]  # the lightest of what nobody uses


def test_the_penalty_of_equal_edges_is_that_of_the_whole() -> None:
    darts = find_space("darts?layers=3&width=4", image_shape=(3, 16, 16), classes=3)
    part = Subspace(darts, DARTS)
    path = spread(part)
    assert float(part.duplicate_edges(path)) == pytest.approx(float(darts.duplicate_edges(part.of_base(path))))  # type: ignore[attr-defined]
    assert not hasattr(Subspace(find_space("nas_bench_201"), [range(5)] * 6), "duplicate_edges")


@pytest.mark.parametrize("kept", [[[0], [1]], [[], [0], [0]], [[0], [7], [0]], [[0], [-1], [0]]])
def test_what_cannot_be_kept_is_refused(kept: list[list[int]], space: ChainSpace) -> None:
    with pytest.raises(SpaceError, match="cannot be kept"):
        Subspace(space, kept)
    assert Subspace(space, everything(space)).size == space.size
