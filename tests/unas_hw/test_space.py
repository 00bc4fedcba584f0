"""An architecture is read in every form that people and our own commands write it, and refused with the mend where it
is of no use; the networks that a space spreads out reach from its smallest to its largest.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from unas_hw.errors import ArchitectureError
from unas_hw.extremes import spread
from unas_hw.space import Architecture
from unas_hw.spaces.chain import ChainSpace

CHOICES = ("k5e3", "id", "k7e6")


def test_indices_and_names_are_the_same_architecture(space: ChainSpace) -> None:
    rng = random.Random(0)
    for _ in range(50):
        architecture = space.draw(rng)
        assert space.architecture(space.indices(architecture)) == architecture


def test_an_architecture_reads_as_its_space_and_its_choices(space: ChainSpace) -> None:
    architecture = Architecture(space.name, CHOICES)
    assert str(architecture) == "toy:k5e3,id,k7e6"
    assert space.parse(str(architecture)) == architecture


@pytest.mark.parametrize(
    "text",
    [
        "k5e3,id,k7e6",
        "k5e3, id, k7e6",
        "k5e3 id k7e6",
        " k5e3\tid\n k7e6 ",
        "toy:k5e3,id,k7e6",
        "toy:k5e3-id-k7e6",
        "k5e3,identity,k7e6",
        "k5e3,skip,k7e6",
        '{"space": "toy", "choices": ["k5e3", "id", "k7e6"]}',
        '  {"space": "toy", "choices": ["k5e3", "skip", "k7e6"], "classes": 3}',
        '{"architecture": "toy:k5e3,id,k7e6", "feasible": true}',
    ],
)
def test_every_way_to_write_an_architecture_is_read(space: ChainSpace, text: str) -> None:
    assert space.parse(text) == Architecture("toy", CHOICES)


@pytest.mark.parametrize(
    "content",
    [{"space": "toy", "choices": list(CHOICES), "version": 1}, {"architecture": "toy:k5e3,id,k7e6", "seconds": 1.0}],
    ids=["architecture.json", "search --json"],
)
@pytest.mark.parametrize("name", ["found.json", "found"])
def test_a_file_that_search_wrote_is_read(
    space: ChainSpace, tmp_path: Path, content: dict[str, object], name: str
) -> None:
    (tmp_path / name).write_text(json.dumps(content))
    assert space.parse(str(tmp_path / name)) == Architecture("toy", CHOICES)


@pytest.mark.parametrize(
    ("text", "what", "mend"),
    [
        ("mbconv:k5e3,id,k7e6", "of space 'mbconv', not of 'toy'", "--space mbconv"),
        ("k5e3,id", "3 decisions, the architecture has 2", "k3e3,id,k3e3"),
        ("k5e3,id,k7e6,id", "the architecture has 4", "k3e3,id,k3e3"),
        ("", "the architecture has 0", "k3e3,id,k3e3"),
        ("k5e3,id,k9e6", "decision third has no choice 'k9e6'", "did you mean 'k"),
        ("id,id,k7e6", "decision first has no choice 'id'", "k3e3, k5e3, k7e3"),
        ("{", "not JSON", '{"space": NAME, "choices"'),
        ('{"space": "toy", "choices": "k5e3,id,k7e6"}', "no list of choices", '{"space": NAME, "choices"'),
        ('{"space": "toy", "choices": [1, 2, 3]}', "no list of choices", '{"space": NAME, "choices"'),
        ('{"architecture": null, "feasible": false}', "no list of choices", "a file that search wrote"),
        ("missing.json", "there is no file missing.json", "a file that search wrote"),
    ],
)
def test_what_is_no_architecture_of_the_space_is_refused_with_the_mend(
    space: ChainSpace, text: str, what: str, mend: str
) -> None:
    with pytest.raises(ArchitectureError) as caught:
        space.parse(text)
    assert what in caught.value.what
    assert mend in caught.value.mend


@pytest.mark.parametrize("content", [b"[]", b"\xff\xfe", b"k5e3", b""])
def test_a_file_with_something_else_is_refused_by_its_name(space: ChainSpace, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "found.json").write_bytes(content)
    with pytest.raises(ArchitectureError, match=r"found\.json"):
        space.parse(str(tmp_path / "found.json"))


def test_a_network_as_a_whole_has_a_key_of_its_own_and_the_cost_of_its_parts(space: ChainSpace) -> None:
    keys = {space.workload(space.draw(random.Random(seed))).key for seed in range(300)}
    assert len(keys) > 150
    workload = space.workload(Architecture(space.name, CHOICES))
    assert "choices=k5e3-id-k7e6" in workload.key
    assert len(workload.parts) == 4  # stem, first, third, classifier: an identity runs nothing
    assert workload.cost.params == sum(weight.numel() for weight in workload.build().parameters())


def test_draws_are_uniform_over_the_space(space: ChainSpace) -> None:
    rng = random.Random(0)
    drawn = [space.indices(space.draw(rng)) for _ in range(4200)]
    for decision, choices in enumerate(space.decisions):
        for index in range(len(choices.choices)):
            share = sum(indices[decision] == index for indices in drawn) / len(drawn)
            assert share == pytest.approx(1 / len(choices.choices), abs=0.025)


def _macs(space: ChainSpace, architecture: Architecture) -> int:
    return space.workload(architecture).cost.macs


def test_a_spread_begins_with_the_smallest_and_the_largest_network(space: ChainSpace) -> None:
    smallest, largest = spread(space, 12, random.Random(0))[:2]
    everything = [space.architecture([a, b, c]) for a in range(6) for b in range(7) for c in range(6)]
    macs = [_macs(space, each) for each in everything]
    assert (_macs(space, smallest), _macs(space, largest)) == (min(macs), max(macs))


def test_a_spread_covers_the_sizes_between_evenly(space: ChainSpace) -> None:
    found = spread(space, 60, random.Random(0))
    low, high = _macs(space, found[0]), _macs(space, found[1])
    shares = [(_macs(space, each) - low) / (high - low) for each in found]
    for quarter in range(4):  # uniform draws leave the outer quarters almost empty
        assert sum(quarter / 4 <= share <= (quarter + 1) / 4 for share in shares) >= 6


def test_a_spread_has_no_network_twice_and_follows_from_its_seed(space: ChainSpace) -> None:
    found = spread(space, 40, random.Random(7))
    assert len(set(found)) == len(found) == 40
    assert spread(space, 40, random.Random(7)) == found
    assert spread(space, 40, random.Random(8)) != found


def test_a_spread_over_a_space_with_fewer_networks_ends(space: ChainSpace) -> None:
    first, stem, end = space.layers[1], space.layers[0], space.layers[-1]
    tiny = ChainSpace("tiny", space.input_shape, 3, [stem, first, end])
    assert set(spread(tiny, 50, random.Random(0))) == {tiny.architecture([index]) for index in range(6)}
