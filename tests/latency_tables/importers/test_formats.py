"""Each row becomes the operation that it is: keys of the space where there is one, names of the publisher else."""

from __future__ import annotations

import math

import pytest

from latency_tables.importers import find_importer
from latency_tables.importers.base import Source
from latency_tables.importers.testing import Example
from latency_tables.rows import Value
from profilers.errors import UnasError
from tests.latency_tables.importers.examples import CSV, FBNET_JSON, FBNET_TEXT, ONCEFORALL, PROXYLESSNAS, SINGLE_PATH
from unas_hw.spaces import find_space


def values(name: str, example: Example) -> dict[str, Value]:
    return {value.key: value for value in find_importer(name).values(example.source())}


def test_proxylessnas_rows_are_operations_of_the_mobile_space() -> None:
    found = values("proxylessnas", PROXYLESSNAS)
    block = "mbconv[expand=6,kernel=5,out=80,stride=1]@1x80x14x14:float32"
    ours = {workload.key for workload in find_space("mbconv-mobile").workloads()}
    expected = {
        "conv[kernel=3,out=32,stride=2]@1x3x224x224:float32",
        "conv[kernel=1,out=1280,stride=1]@1x320x7x7:float32",
        "linear[classes=1000]@1x1280x1x1:float32",
        "mbconv[expand=3,kernel=3,out=24,stride=2]@1x16x112x112:float32",
        block,
    }
    assert expected <= ours
    others = {
        "mbconv[expand=6,idskip=0,kernel=5,out=80,stride=1]@1x80x14x14:float32": "-idskip:0",
        "proxylessnas[row=Upsample-input:7x7x8-output:14x14x8]@1:float32": "Upsample",
    }
    assert found.keys() == expected | others.keys()
    # Our block adds its input, and so did what was published as idskip:1.
    assert found[block].source.endswith("-idskip:1")
    assert found[block].ms == 2.5
    for key, words in others.items():
        assert words in found[key].source


def test_the_deviation_is_that_of_the_mean_from_the_variance_or_the_standard_deviation() -> None:
    proxyless, once = values("proxylessnas", PROXYLESSNAS), values("onceforall", ONCEFORALL)
    assert proxyless["conv[kernel=3,out=32,stride=2]@1x3x224x224:float32"].sd_ms == 0.5 / 10
    assert math.isnan(proxyless["proxylessnas[row=Upsample-input:7x7x8-output:14x14x8]@1:float32"].sd_ms)
    assert once["conv[act=hswish,kernel=3,out=24,stride=2]@1x3x160x160:float32"].sd_ms == 0.01 / 20


def test_onceforall_rows_keep_hidden_channels_squeeze_and_activation_apart() -> None:
    assert values("onceforall", ONCEFORALL).keys() == {
        "pool[]@1x1152x5x5:float32",
        "conv[act=hswish,kernel=3,out=24,stride=2]@1x3x160x160:float32",
        "conv[act=hswish,kernel=1,out=1536,stride=1]@1x1152x1x1:float32",
        "mbconv[act=hswish,kernel=3,mid=408,out=136,se=1,stride=1]@1x136x10x10:float32",
        "mbconv[act=hswish,kernel=3,mid=408,out=136,se=0,stride=1]@1x136x10x10:float32",
        "mbconv[act=relu,kernel=3,mid=408,out=136,se=1,stride=1]@1x136x10x10:float32",
    }


def test_fbnet_and_single_path_rows_are_known_by_their_places() -> None:
    listed, named = values("fbnet", FBNET_JSON), values("fbnet", FBNET_TEXT)
    assert listed["fbnet[layer=2,op=1]@1:float32"].ms == 16.17075
    assert "fbnet[layer=0,op=0]@1:float32" not in listed  # null is no row
    assert named["fbnet[layer=1,op=skip]@1:float32"].ms == 0.847875
    assert values("single-path-nas", SINGLE_PATH)["single-path-nas[block=1,option=3]@1:float32"].ms == 11.5892


def test_csv_keeps_keys_of_ours_and_names_of_others_with_origin_and_source() -> None:
    first, second, third = values("csv", CSV).values()
    assert (first.key, first.ms, first.sd_ms, first.origin, first.source) == (
        "conv[kernel=3,out=32,stride=2]@1x3x224x224:float32",
        4.5,
        0.05,
        "published",
        "Conv, first",
    )
    assert (second.key, second.origin, second.source) == ("csv[row=my block 7]@1:float32", "published", "my block 7")
    assert math.isnan(second.sd_ms)
    assert (third.origin, third.source) == ("adapted", "elsewhere")


@pytest.mark.parametrize(
    ("column", "unit"),
    [("ms", "ms"), ("latency_us", "us"), ("time (s)", "s"), ("mean [ms]", "ms"), ("Latency_MS", "ms")],
)
def test_the_unit_of_a_column_is_read_off_its_name(column: str, unit: str) -> None:
    text = f"name,{column}\nx,2.5\n"
    source = Source(path=CSV.source().path, text=text, columns={"key": "name", "ms": column})
    importer = find_importer("csv")
    assert importer.recognises(source)
    (value,) = importer.values(source)
    assert value.ms == {"ms": 2.5, "us": 0.0025, "s": 2500.0}[unit]


@pytest.mark.parametrize("column", ["latency", "items", "class", "latency_m", "time_per_image"])
def test_a_column_without_a_unit_asks_for_it(column: str) -> None:
    columns = {"key": "name", "ms": column}
    source = Source(path=CSV.source().path, text=f"name,{column}\nx,2.5\n", columns=columns)
    with pytest.raises(UnasError, match="--unit us"):
        find_importer("csv").values(source)


def test_rows_that_would_be_one_operation_all_keep_their_own_names() -> None:
    text = PROXYLESSNAS.text.replace("Upsample-input:7x7x8-output:14x14x8", "Logits-input:5x5x1280-output:1000")
    found = values("proxylessnas", Example(text, rows=7))
    assert len(found) == 7
    assert "linear[classes=1000]@1x1280x1x1:float32" not in found  # which of the two it would be is not known
    assert "proxylessnas[row=Logits-input:5x5x1280-output:1000]@1:float32" in found
