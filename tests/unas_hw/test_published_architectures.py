"""Published architectures have names, and are the published networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from unas_hw.errors import ArchitectureError
from unas_hw.jobs.predict import predict_network
from unas_hw.progress import finish
from unas_hw.spaces import find_space
from unas_hw.spaces.published import PUBLISHED, find_published_architecture

SIZES = {"unas-mbconv": (5_965_528, 428.0), "proxylessnas-gpu": (7_119_848, 465.3)}


@pytest.mark.parametrize("name", SIZES)
def test_a_published_architecture_has_the_published_size(name: str) -> None:
    architecture = find_published_architecture(name)
    assert architecture is not None
    space = find_space(architecture.space)
    assert space.parse(str(architecture)) == architecture
    network = space.network(architecture)
    assert sum(weight.numel() for weight in network.parameters()) == SIZES[name][0]
    assert round(space.workload(architecture).cost.macs / 1e6, 1) == SIZES[name][1]


def test_every_published_architecture_is_held_to_its_size() -> None:
    assert set(PUBLISHED) == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_it_is_predicted_by_its_name(name: str) -> None:
    found = finish(predict_network(name))
    assert (found["space"], found["input_shape"]) == ("mbconv", [1, 3, 224, 224])
    assert (found["params"], round(found["macs"] / 1e6, 1)) == SIZES[name]


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ArchitectureError, match="'unas-mbcon'") as caught:
        finish(predict_network("unas-mbcon"))
    assert caught.value.mend == "did you mean 'unas-mbconv'?"


@pytest.mark.parametrize("text", ["k3e3,id", "mbconv:k3e3,id", "unas-mbconv.json", "unas-mbcon"])
def test_other_texts_and_paths_are_left_to_others(text: str, tmp_path: Path) -> None:
    if text == "unas-mbcon":
        (tmp_path / text).touch()  # the working directory is the test's own
    assert find_published_architecture(text) is None
