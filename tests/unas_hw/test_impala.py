"""The space of RL-DARTS: its cells, its supernet, and what both cost."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from unas_hw.errors import MethodError
from unas_hw.methods.rl_darts.search import choice_log_probs
from unas_hw.ops.impala import EDGES, LISTS, NODES, OPS, MixedCell, impala_cnn
from unas_hw.spaces import find_space
from unas_hw.spaces.impala import ImpalaSpace


def impala(name: str = "impala") -> ImpalaSpace:
    space = find_space(name, image_shape=(4, 10, 10), classes=6)
    assert isinstance(space, ImpalaSpace)
    return space


@pytest.mark.parametrize("name", LISTS)
def test_the_mixed_cell_is_the_sum_over_all_edges_and_operations(name: str) -> None:
    ops, C = LISTS[name], 3
    cell = MixedCell(C, ops, nn.Parameter(torch.randn(EDGES, len(ops) + 1)))
    x, p = torch.randn(2, C, 7, 7), cell.alpha.softmax(1)
    states = [x]
    for node in range(1, NODES + 1):
        total = torch.zeros_like(x)
        for source in range(node):
            edge = node * (node - 1) // 2 + source
            for number, op in enumerate(ops):
                if number in cell.weighted:
                    convs = cell.convs[source]
                    assert isinstance(convs, nn.ModuleList)
                    every = convs[cell.weighted.index(number)](states[source])
                    made = every[:, (node - 1 - source) * C :][:, :C]
                else:
                    made = OPS[op](C)(states[source])
                total = total + p[edge, number] * made
        mean, variance = total.mean((0, 2, 3), keepdim=True), total.var((0, 2, 3), unbiased=False, keepdim=True)
        states.append((total - mean) / (variance + 1e-5).sqrt())
    expected = cell.out(torch.cat(states[1:], 1))
    assert torch.allclose(cell(x), expected, atol=1e-5)


def test_what_an_edge_gives_falls_with_the_probability_of_zero() -> None:
    ops = LISTS["micro"]
    alpha = nn.Parameter(torch.zeros(EDGES, len(ops) + 1))
    cell, x = MixedCell(2, ops, alpha), torch.randn(2, 2, 5, 5)
    first = cell(x)
    alpha.data[2, len(ops)] = 50.0  # nothing of the first node reaches the second
    convs = cell.convs[1]
    assert isinstance(convs, nn.ModuleList)
    without = cell(x)
    next(convs[0].parameters()).data[:2] += 1.0
    assert torch.allclose(cell(x), without, atol=1e-5) and not torch.allclose(first, without, atol=1e-3)


def test_discretising_keeps_the_two_most_probable_edges_by_their_best_operation_but_zero() -> None:
    space = impala()
    alpha = torch.randn(EDGES, len(space.ops) + 1, generator=torch.Generator().manual_seed(3))
    alpha[:, -1] += 2  # zero is the most probable almost everywhere
    p = alpha.softmax(1)[:, :-1]
    for node, log_p in enumerate(choice_log_probs(space, alpha), 1):
        first = node * (node - 1) // 2
        best = p[first : first + node].max(1)
        sources = best.values.topk(min(2, node)).indices.sort().values.tolist()
        expected = tuple((space.ops[int(best.indices[source])], source) for source in sources)
        assert space.edges[node - 1][int(log_p.argmax())] == expected
        assert float(log_p.exp().sum()) == pytest.approx(1)


def test_all_choices_are_different_cells_and_are_written_as_they_are_read() -> None:
    space = impala()
    assert [len(each.choices) for each in space.decisions] == [4, 16, 48, 96] and space.size == 294_912
    assert len(impala("impala?ops=classic").decisions[3].choices) == 6 * 25
    drawn = space.draw(random.Random(1))
    assert space.parse(str(drawn)) == drawn
    written = space.parse("conv_3x3.0,relu.0+skip.1,tanh.0+conv_3x3.2,skip.1+skip.3")
    assert space.cell(written)[2] == (("tanh", 0), ("conv_3x3", 2))


def test_a_network_runs_what_its_parts_are_and_the_terms_count_them() -> None:
    space = impala()
    keys = {each.key: number for number, each in enumerate(space.workloads(), 1)}
    assert len(keys) == len(space.workloads())
    costs = space.costs(lambda key: float(keys[key]))
    for seed in range(5):
        drawn = space.draw(random.Random(seed))
        path = np.array([space.indices(drawn)])
        assert costs.total(path)[0] == sum(keys[part.key] for part in space.parts(drawn))
        network = space.network(drawn)
        convs = sum(isinstance(each, nn.Conv2d) and each.kernel_size == (3, 3) for each in network.modules())
        kinds = Counter(part.op.kind for part in space.parts(drawn))
        assert convs == kinds["conv_3x3"] + kinds["conv_pool"]
        workload = space.workload(drawn)
        weights = sum(each.numel() for each in network.parameters())
        assert workload.cost.params == weights


def test_a_policy_gives_a_frame_the_same_action_in_any_batch() -> None:
    space, frames = impala(), torch.rand(5, 4, 10, 10)
    policy = space.network(space.draw(random.Random(0)))
    logits, values = policy.both(frames)
    assert logits.shape == (5, 6) and values.shape == (5,)
    assert torch.allclose(policy(frames[2:3]), logits[2:3], atol=1e-6)
    assert logits.softmax(1).max() < 0.25  # the first policy tries everything


def test_the_supernet_is_the_macro_with_one_alpha_for_all_cells() -> None:
    space = impala()
    actor, alpha = space.mixed()
    cells = [each for each in actor.modules() if isinstance(each, MixedCell)]
    assert len(cells) == 4 and all(cell.alpha is alpha for cell in cells)
    logits, _ = actor.both(torch.rand(3, 4, 10, 10))
    logits.square().sum().backward()
    assert alpha.grad is not None and (alpha.grad != 0).all()
    assert sum(each is alpha for each in actor.parameters()) == 1


def test_the_baseline_is_two_residual_blocks_a_stage_and_large_frames_have_three_stages() -> None:
    assert sum(isinstance(each, nn.Conv2d) for each in impala().baseline.modules()) == 2 * (1 + 4)
    large = find_space("impala", image_shape=(3, 64, 64), classes=15)
    assert isinstance(large, ImpalaSpace) and large.depths == (8, 16, 16)
    full = impala_cnn((3, 64, 64), (16, 32, 32), 15)
    weights = sum(each.numel() for each in full.parameters())
    assert weights == 626_256  # as counted by hand: 97,600 of convolutions, 524,544, 3,855 and 257 of the head


def test_it_has_no_supernet_for_labelled_images() -> None:
    with pytest.raises(MethodError) as error:
        impala().supernet()
    assert "--task" in error.value.mend
