"""Options in the name of a space change what they say, are refused with what is allowed, and survive files and keys."""

from __future__ import annotations

import pytest
import torch

from latency_tables.home import default_path
from profilers.opspec import OpSpec
from profilers.registry import open_profiler
from profilers.timing import TimingRule
from unas_hw.errors import UnknownSpaceError
from unas_hw.jobs.predict import predict_network
from unas_hw.jobs.profile import profile
from unas_hw.jobs.tables import space_of
from unas_hw.progress import finish
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space, in_precision, origin_of, smallest_image

SCALED = "mbconv-small?width=0.5&stem=cifar"


def widths(space: SearchSpace) -> list[int]:
    largest = space.architecture([len(decision.choices) - 1 for decision in space.decisions])
    return [out for part in space.parts(largest) if isinstance(out := part.op.attrs.get("out"), int)]


@pytest.mark.parametrize("name", ["mbconv", "mbconv-mobile", "mbconv-small"])
def test_a_width_of_one_changes_nothing(name: str) -> None:
    assert [each.key for each in find_space(f"{name}?width=1.0&stem=imagenet").workloads()] == [
        each.key for each in find_space(name).workloads()
    ]


def test_widths_are_scaled_to_multiples_of_eight_and_never_below_nine_tenths() -> None:
    # Of 40, 24, 32, 56, 112, 128, 256, 432 and 1728.
    assert list(dict.fromkeys(widths(find_space("mbconv?width=0.5")))) == [24, 16, 32, 56, 64, 128, 216, 864]
    assert min(widths(find_space("mbconv?width=0.1"))) == 8
    for text in ("0.3", "0.6", "1.7"):
        pairs = zip(widths(find_space("mbconv")), widths(find_space(f"mbconv?width={text}")), strict=True)
        for published, scaled in pairs:
            asked = float(text) * published
            assert scaled % 8 == 0 and scaled >= 0.9 * asked and scaled - asked < 8


def test_the_cifar_stem_leaves_four_by_four_positions_of_a_cifar_image() -> None:
    space = find_space("mbconv?stem=cifar&width=0.1")
    assert space.input_shape == (1, 3, 32, 32) and space.classes == 10
    smallest = space.architecture([0] * len(space.decisions))
    assert space.parts(smallest)[-1].op.shape[2:] == (4, 4)
    with torch.inference_mode():
        assert space.network(smallest).eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert find_space("mbconv", image_shape=(3, 32, 32)).parts(smallest)[-1].op.shape[2:] == (1, 1)


def test_the_cells_and_width_of_nas_bench_201_are_options() -> None:
    space = find_space("nas_bench_201?width=8&cells=2")
    assert {term.count for term in space.terms() if term.decisions} == {2}
    assert space.workloads()[0].op.attrs["out"] == 8


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("mbconv?width=.50", "mbconv?width=0.5"),
        ("mbconv?stem=cifar&width=1", "mbconv?stem=cifar"),
        ("mbconv?stem=cifar&width=2.0", "mbconv?width=2&stem=cifar"),
        ("nas_bench_201?", "nas_bench_201"),
    ],
)
def test_equal_spaces_have_equal_names_however_they_are_written(written: str, name: str) -> None:
    assert find_space(written).name == find_space(name).name == origin_of(written) == name


@pytest.mark.parametrize(
    ("name", "what", "mend"),
    [
        ("mbconv?wdith=1", "no option 'wdith'", "did you mean 'width'?"),
        ("mbconv?cells=1", "no option 'cells'", "mbconv takes width, stem"),
        ("mbconv?width=wide", "width=wide", "a number from 0.1 to 8"),
        ("mbconv?width=nan", "width=nan", "a number from 0.1 to 8"),
        ("mbconv?width=9", "width=9", "a number from 0.1 to 8"),
        ("mbconv?width=1&width=2", "given twice", "leave one"),
        ("mbconv?stem=cifra", "stem=cifra", "did you mean 'cifar'?"),
        ("nas_bench_201?cells=2.5", "cells=2.5", "a whole number from 1 to 100"),
        ("mbcnov?width=1", "'mbcnov'", "did you mean 'mbconv'?"),
        ("my.yaml?width=1", "my.yaml", "change the file"),
    ],
)
def test_an_option_or_value_that_is_none_is_refused_with_what_is_allowed(name: str, what: str, mend: str) -> None:
    with pytest.raises(UnknownSpaceError) as caught:
        find_space(name)
    assert what in caught.value.what and mend in caught.value.mend


def test_images_by_default_and_the_fewest_pixels_follow_the_stem() -> None:
    assert smallest_image("mbconv") == 32 and smallest_image("mbconv?stem=cifar") == 8
    with pytest.raises(UnknownSpaceError, match="at least 8 pixels, these have 7"):
        find_space("mbconv?stem=cifar", image_shape=(3, 7, 7))


def test_a_space_with_options_is_found_again_in_another_precision() -> None:
    space = in_precision(find_space(SCALED, image_shape=(1, 8, 8), classes=3, batch=2), "float16")
    assert space.name == find_space(SCALED).name
    assert (space.input_shape, space.classes, space.precision) == ((2, 1, 8, 8), 3, "float16")


def test_keys_and_file_names_of_a_space_with_options_can_be_read_again(rule: TimingRule) -> None:
    space = find_space(SCALED, image_shape=(1, 8, 8))
    table = finish(profile(space, open_profiler("sim:phone"), rule=rule, networks=2))
    assert table.path == default_path(space.title, "sim:phone", "simulated", 1)
    assert "?" not in table.path.name and "&" not in table.path.name
    assert table.header["subject"] == f"{space.name}@1x1x8x8"
    key = space.workload(space.architecture([0] * 9)).key
    assert OpSpec.from_key(key).key == key
    found = space_of(table)
    assert (found.name, found.title) == (space.name, space.title)
    assert [each.key for each in found.workloads()] == [each.key for each in space.workloads()]


def test_an_architecture_names_its_space_with_options_in_any_spelling() -> None:
    choices = "k3e3,id,id,k3e3,id,id,k3e3,id,id"
    found = finish(predict_network(f"mbconv-small?stem=cifar&width=.5:{choices}", measure=False))
    assert found["architecture"] == f"{SCALED}:{choices}"
    assert found["input_shape"] == [1, 3, 32, 32]
    assert found["space"] == SCALED
