"""A published table prices networks as the sum of the rows that were published, and stands in for its device."""

from __future__ import annotations

import math
import random

import pytest

from latency_tables.errors import MissingEntryError
from latency_tables.home import Target, open_table
from latency_tables.table import LatencyTable
from unas_hw.errors import BudgetError
from unas_hw.latency_model import LatencyModel, predict
from unas_hw.meter import TableMeter
from unas_hw.methods.settings import settings_of
from unas_hw.methods.unas.config import UnasConfig
from unas_hw.search.published import MOBILE, proxy, published_table, refuse_percentile, shapes
from unas_hw.space import SearchSpace
from unas_hw.spaces import find_space

PROXYLESS_MOBILE = (
    "k5e3,k3e3,id,id,k7e3,k3e3,k5e3,k5e3,k7e6,k5e3,k5e3,k5e3,k5e6,k5e3,k5e3,k5e3,k7e6,k7e6,k7e3,k7e3,k7e6"
)
AS_MOBILENET_V2 = "k3e6,k3e6,id,id,k3e6,k3e6,k3e6,id,k3e6,k3e6,k3e6,k3e6,k3e6,k3e6,k3e6,id,k3e6,k3e6,k3e6,id,k3e6"
STAGES = [(24, 2, 112), (40, 2, 56), (80, 2, 28), (96, 1, 14), (192, 2, 14), (320, 1, 7)]
LAYERS = [4, 4, 4, 4, 4, 1]


@pytest.fixture(scope="module")
def mobile() -> SearchSpace:
    return find_space(MOBILE)


@pytest.fixture
def pixel1() -> LatencyTable:
    return open_table("pixel1")


def names(choices: list[str]) -> list[str]:
    """What the publisher calls the rows of these choices, written down from the layout alone."""
    found = [
        "Conv-input:224x224x3-output:112x112x32",
        "expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0",
    ]
    width, left = 16, iter(choices)
    for (out, stride, size), layers in zip(STAGES, LAYERS, strict=True):
        for layer in range(layers):
            choice, step = next(left), stride if layer == 0 else 1
            inside = size if layer == 0 else size // stride
            if choice != "id":
                found.append(
                    f"expanded_conv-input:{inside}x{inside}x{width}-output:{inside // step}x{inside // step}x{out}"
                    f"-expand:{choice[3]}-kernel:{choice[1]}-stride:{step}-idskip:{int(layer > 0)}"
                )
            width = out
    return [*found, "Conv_1-input:7x7x320-output:7x7x1280", "Logits-input:7x7x1280-output:1000"]


def architectures(space: SearchSpace, model: LatencyModel) -> list[tuple[str, ...]]:
    drawn = [space.draw(random.Random(seed)).choices for seed in range(20)]
    named = [space.parse(text).choices for text in (PROXYLESS_MOBILE, AS_MOBILENET_V2)]
    return [*(space.architecture(path).choices for path in (model.smallest, model.largest)), *named, *drawn]


def test_smallest_largest_and_named_networks_are_the_sums_of_their_published_rows(
    mobile: SearchSpace, pixel1: LatencyTable
) -> None:
    published = {value.source: value.ms for value in pixel1.values.values()}
    model = LatencyModel(mobile, pixel1)
    for choices in architectures(mobile, model):
        expected = math.fsum(published[name] for name in names(list(choices)))
        architecture = mobile.parse(",".join(choices))
        found = predict(mobile, pixel1, architecture)
        assert found.predicted_ms == pytest.approx(expected, abs=1e-9)
        assert model.latency_ms(mobile.indices(architecture)) == pytest.approx(expected, abs=1e-9)


def test_pooling_is_reported_as_not_covered_and_nothing_is_said_of_an_interval(
    mobile: SearchSpace, pixel1: LatencyTable
) -> None:
    found = predict(mobile, pixel1, mobile.parse(PROXYLESS_MOBILE))
    assert found.not_covered == ("pool[]@1x1280x7x7:float32",)
    parts = len(mobile.parts(mobile.parse(PROXYLESS_MOBILE)))
    assert found.coverage == (parts - 1) / parts
    assert (found.low_ms, found.high_ms) == (0, math.inf)


def test_any_other_operation_without_a_row_is_an_error(pixel1: LatencyTable) -> None:
    smaller = find_space(MOBILE, image_shape=(3, 192, 192))
    with pytest.raises(MissingEntryError, match=r"conv.kernel=3,out=32,stride=2.@1x3x192x192"):
        predict(smaller, pixel1, smaller.parse(PROXYLESS_MOBILE))
    with pytest.raises(MissingEntryError):
        LatencyModel(smaller, pixel1)


def test_the_mobile_space_has_the_published_layout(mobile: SearchSpace, pixel1: LatencyTable) -> None:
    assert mobile.size == 7**15 * 6**6
    assert mobile.input_shape == (1, 3, 224, 224)
    assert mobile.classes == 1000
    assert [part.op.kind for part in mobile.parts(mobile.parse(AS_MOBILENET_V2))][-3:] == ["conv", "pool", "linear"]
    needed = {workload.key for workload in mobile.workloads()}
    assert {key.partition("[")[0] for key in needed - pixel1.values.keys()} == {"pool"}
    # The first block is not searched: its other kernels were published for nothing.
    assert sorted(pixel1.values[key].source[-36:] for key in pixel1.values.keys() - needed) == [
        f"-expand:1-kernel:{kernel}-stride:1-idskip:0"[-36:] for kernel in (5, 7)
    ]


def test_the_table_stands_in_for_the_device_with_its_own_values(mobile: SearchSpace, pixel1: LatencyTable) -> None:
    model = LatencyModel(mobile, pixel1)
    architecture = mobile.parse(PROXYLESS_MOBILE)
    first, second = TableMeter(model).measure([architecture, architecture], label="search")
    assert first == second
    expected = model.latency_ms(mobile.indices(architecture))
    assert (first.raw_ms, first.scaled_ms, first.judged_ms, first.upper_ms) == (expected,) * 4


def test_what_is_trained_has_the_images_that_there_are_and_what_is_priced_the_published_shape(
    pixel1: LatencyTable,
) -> None:
    found = proxy(pixel1, "digits", None, 0, MOBILE, 1)
    assert found.trained.input_shape == (1, 1, 32, 32)
    assert found.trained.classes == 10
    assert found.trained.decisions == found.priced.decisions
    assert shapes(found.trained, found.priced) == {
        "input_shape": [1, 1, 32, 32],
        "classes": 10,
        "precision": "float32",
        "priced_input_shape": [1, 3, 224, 224],
        "priced_classes": 1000,
    }
    assert "1x1x32x32 with 10 classes" in str(found)
    larger = proxy(pixel1, "digits", 48, 0, MOBILE, 1)
    assert larger.trained.input_shape == (1, 1, 48, 48)


def test_a_published_device_prices_its_own_space_only() -> None:
    target = Target(device="pixel1")
    found = published_table(None, target, MOBILE, 1)
    assert found is not None
    assert found.path.stem == "pixel1"
    for space in (None, "mbconv"):
        with pytest.raises(MissingEntryError) as caught:
            published_table(None, target, space, 1)
        assert "--space mbconv-mobile" in caught.value.mend
    assert published_table(None, Target(device="cpu"), MOBILE, 1) is None


def test_a_table_of_means_knows_no_percentile(pixel1: LatencyTable) -> None:
    refuse_percentile(pixel1, 50)
    with pytest.raises(BudgetError, match="90th"):
        refuse_percentile(pixel1, 90)


def test_defaults_suit_the_space() -> None:
    assert settings_of(budget="50%").config == settings_of(budget="50%", space="mbconv-small").config == UnasConfig()
    mobile = settings_of(budget="80ms", space=MOBILE).config
    assert isinstance(mobile, UnasConfig)
    assert mobile.epochs + mobile.warmup_epochs < UnasConfig().epochs + UnasConfig().warmup_epochs
