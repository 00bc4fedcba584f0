"""The built-in spaces are the published ones: their networks have the published numbers of weights and of MACs, what
they run is exactly what their latency terms say, and they take the images that they say they take.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch

from unas_hw.errors import UnknownSpaceError
from unas_hw.space import SearchSpace
from unas_hw.spaces import SPACES, default_space, find_space

UNAS_NET = "k5e3,k3e3,id,id,k7e3,id,id,id,k7e3,k3e3,k3e3,k3e3,k5e3,k3e3,k3e3,k3e3,k7e6,k7e3,k7e3,k7e3,k7e6"
PROXYLESS_GPU = "k5e3,id,id,id,k7e3,id,id,k3e3,k7e6,id,id,k5e3,k5e6,id,k3e3,k5e3,k7e6,k7e6,k7e6,k5e6,k7e6"


@pytest.fixture(params=sorted(SPACES))
def named(request: pytest.FixtureRequest) -> SearchSpace:
    return find_space(request.param)


@pytest.mark.parametrize(
    ("choices", "params", "mega_macs"),
    [
        pytest.param(UNAS_NET, 5_965_528, 428.0, id="unas"),
        pytest.param(PROXYLESS_GPU, 7_119_848, 465.3, id="proxylessnas-gpu"),
    ],
)
def test_a_published_network_has_the_published_size(choices: str, params: int, mega_macs: float) -> None:
    mbconv = find_space("mbconv")
    architecture = mbconv.parse(choices)
    network = mbconv.network(architecture)
    cost = mbconv.workload(architecture).cost
    assert sum(weight.numel() for weight in network.parameters()) == params == cost.params
    assert round(cost.macs / 1e6, 1) == mega_macs


def test_the_published_space_has_as_many_networks_as_published() -> None:
    assert find_space("mbconv").size == 7**15 * 6**6
    assert find_space("mbconv-small").size == 7**6 * 6**3


def test_only_layers_that_keep_the_width_may_be_left_out() -> None:
    decisions = find_space("mbconv").decisions
    changing = [number for number, decision in enumerate(decisions, 1) if "id" not in decision.choices]
    assert changing == [1, 5, 9, 13, 17, 21]


def test_the_published_space_halves_the_image_where_published() -> None:
    mbconv = find_space("mbconv")
    largest = mbconv.architecture([len(decision.choices) - 1 for decision in mbconv.decisions])
    searched = [part.op for part in mbconv.parts(largest) if part.op.kind == "mbconv"][1:]
    assert [number for number, op in enumerate(searched, 1) if op.attrs["stride"] == 2] == [1, 5, 9, 17]
    assert [op.attrs["out"] for op in searched[::4]] == [32, 56, 112, 128, 256, 432]
    assert mbconv.parts(largest)[-1].op.shape == (1, 1728, 7, 7)


def test_what_a_network_runs_is_what_its_latency_terms_say(named: SearchSpace) -> None:
    rng = random.Random(0)
    for _ in range(20):
        architecture = named.draw(rng)
        running = named.running(named.indices(architecture))
        said: Counter[str] = Counter()
        for term in named.terms():
            chosen, place = [running[g] for g in term.decisions], 0
            for g, index in zip(term.decisions, chosen, strict=True):
                place = place * len(named.decisions[g].choices) + index
            keys = () if -1 in chosen else term.keys[place]
            said.update({key: term.count * count for key, count in Counter(keys).items()})
        assert said == Counter(part.key for part in named.parts(architecture))


def test_every_operation_is_listed_once_and_every_part_is_listed(named: SearchSpace) -> None:
    listed = [workload.key for workload in named.workloads()]
    used = {key for term in named.terms() for keys in term.keys for key in keys}
    assert len(listed) == len(set(listed))
    assert set(listed) == used


@pytest.mark.parametrize("size", [8, 16, 28, 32, 64])
def test_the_small_space_takes_small_images_of_every_size(size: int) -> None:
    small = find_space("mbconv-small", image_shape=(3, size, size), classes=5)
    ends = [[pick(range(len(d.choices))) for d in small.decisions] for pick in (min, max)]
    for indices in ends:
        network = small.network(small.architecture(indices)).eval()
        with torch.inference_mode():
            assert network(torch.randn(2, 3, size, size)).shape == (2, 5)
    assert small.parts(small.architecture(ends[0]))[-1].op.shape[-1] >= (2 if size < 16 else 4)


def test_keys_say_the_batch_that_latencies_are_for() -> None:
    for workload in find_space("mbconv-small", batch=7).workloads():
        assert workload.op.shape[0] == 7


def test_a_misspelt_space_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(UnknownSpaceError, match="'mbcomv-small'") as caught:
        find_space("mbcomv-small")
    assert caught.value.mend == "did you mean 'mbconv-small'?"


def test_an_unknown_space_is_answered_with_all_names() -> None:
    with pytest.raises(UnknownSpaceError) as caught:
        find_space("transformer")
    assert all(name in caught.value.mend for name in SPACES)


@pytest.mark.parametrize(("name", "size", "smallest"), [("mbconv", 31, 32), ("mbconv-small", 7, 8)])
def test_images_too_small_for_a_space_are_refused_with_the_size_that_works(name: str, size: int, smallest: int) -> None:
    with pytest.raises(UnknownSpaceError, match=f"these have {size}") as caught:
        find_space(name, image_shape=(1, size, size))
    assert caught.value.mend == f"add --image-size {smallest}"
    assert find_space(name, image_shape=(1, smallest, smallest)).input_shape[-1] == smallest


def test_small_images_get_the_small_space_by_default() -> None:
    assert default_space(64) == "mbconv-small"
    assert default_space(65) == "mbconv"
