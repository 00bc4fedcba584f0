"""Genotypes are read as published programs print them, never executed, and become the networks they stand for."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.unas_hw.darts_by_hand import by_hand
from unas_hw.errors import ArchitectureError
from unas_hw.extremes import spread
from unas_hw.jobs.predict import predict_network
from unas_hw.progress import finish
from unas_hw.spaces import find_space
from unas_hw.spaces.darts import DartsSpace
from unas_hw.spaces.genotypes import Genotype, genotype_of, read_genotype

Edges = tuple[tuple[str, int], ...]
NORMAL: Edges = (
    ("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("skip_connect", 0), ("sep_conv_5x5", 2),
    ("dil_conv_3x3", 1), ("skip_connect", 0), ("avg_pool_3x3", 3), ("sep_conv_7x7", 4),
)  # fmt: skip
REDUCE: Edges = (
    ("max_pool_3x3", 0), ("skip_connect", 1), ("skip_connect", 2), ("max_pool_3x3", 0),
    ("dil_conv_3x3", 1), ("skip_connect", 2), ("sep_conv_3x3", 1), ("skip_connect", 1),
)  # fmt: skip
FOUND = Genotype(NORMAL, REDUCE)
TEXT = str(FOUND)
DARTS = Genotype((("dil_conv_5x5", 0), *NORMAL[1:7], ("sep_conv_3x3", 4)), REDUCE)
EVERY = Genotype((("dil_conv_5x5", 0), *NORMAL[1:7], ("conv_7x1_1x7", 4)), REDUCE)


def _space(name: str = "darts?width=4&layers=3") -> DartsSpace:
    space = find_space(name)
    assert isinstance(space, DartsSpace)
    return space


def test_the_text_is_that_of_published_programs() -> None:
    assert TEXT.startswith("Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ")
    assert "], normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), " in TEXT
    assert TEXT.endswith("('skip_connect', 1)], reduce_concat=range(2, 6))")


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"  {TEXT}\n",
        f"MY_NET = {TEXT}",
        f"genotype = genotypes.{TEXT}".replace("range(2, 6)", "[2, 3, 4, 5]"),
        TEXT.replace(", normal", ",\n    normal").replace("range(2, 6)", "(5, 4, 3, 2)"),
        f"Genotype({list(NORMAL)}, range(2, 6), {[list(edge) for edge in REDUCE]}, range(2, 6))",
        json.dumps(FOUND.to_json()),
        json.dumps({"normal": NORMAL, "reduce": REDUCE}, indent=1),
    ],
)
def test_every_way_to_write_it_is_read(text: str, tmp_path: Path) -> None:
    assert read_genotype(text) == FOUND
    for name in ("net.txt", "net.json"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read_genotype(str(tmp_path / name)) == FOUND
        assert _space().parse(str(tmp_path / name)) == _space().parse(TEXT)


@pytest.mark.parametrize(
    "text", ["k3e3,id", "darts:0,sep_conv_3x3", '{"space": "darts", "choices": []}', "{", "none.json", "Genotypes"]
)
def test_what_is_no_genotype_is_left_to_others(text: str) -> None:
    assert read_genotype(text) is None


def test_choices_are_the_input_and_the_operation_of_each_edge() -> None:
    architecture = _space().parse(TEXT)
    assert architecture.choices[:6] == ("0", "sep_conv_3x3", "1", "sep_conv_3x3", "0", "skip_connect")
    assert architecture.choices[16:18] == ("0", "max_pool_3x3")
    assert genotype_of(architecture) == FOUND
    assert _space().parse(str(architecture)) == architecture


def test_architectures_of_the_space_are_written_and_read_again() -> None:
    space = _space()
    for architecture in spread(space, 6, random.Random(0)):
        assert space.parse(str(genotype_of(architecture))) == architecture
        assert space.parse(json.dumps(genotype_of(architecture).to_json())) == architecture


@pytest.mark.parametrize(("genotype", "ops"), [(FOUND, ""), (DARTS, "darts"), (EVERY, "all")])
def test_a_genotype_names_the_space_that_has_its_operations(genotype: Genotype, ops: str) -> None:
    assert genotype.space == (f"darts?ops={ops}" if ops else "darts")
    for name in ("darts?width=4&layers=3", "darts?width=4&layers=3&ops=5"):
        architecture = _space(name).parse(str(genotype))
        assert architecture.space == "darts?width=4&layers=3" + (f"&ops={ops}" if ops else "")
        named = find_space(architecture.space)
        assert named.name == architecture.space
        assert named.indices(architecture)
        assert named.parse(str(genotype)) == architecture
        assert named.parts(architecture) == _space(name).parts(architecture)
    assert _space("darts?ops=all").parse(str(genotype)).space == "darts?ops=all"


@pytest.mark.parametrize("genotype", [FOUND, DARTS, EVERY])
@pytest.mark.parametrize("imagenet", [False, True])
def test_the_evaluated_network_has_the_weights_counted_by_hand(genotype: Genotype, imagenet: bool) -> None:
    width, layers, size, classes = (48, 14, 224, 1000) if imagenet else (36, 20, 32, 10)
    space = find_space(f"darts?width={width}&layers={layers}", image_shape=(3, size, size), classes=classes)
    expected = by_hand(genotype, width=width, layers=layers, channels=3, classes=classes, imagenet=imagenet)
    network = space.network(space.parse(str(genotype)))
    assert sum(weight.numel() for weight in network.parameters()) == expected
    assert not any("bias" in name for name, _ in network.named_parameters() if "conv" in name)


def test_predict_takes_a_genotype_for_any_width() -> None:
    small = finish(predict_network(str(DARTS)))
    large = finish(predict_network(str(DARTS), space="darts?width=36&layers=20"))
    assert (small["space"], small["input_shape"]) == ("darts?ops=darts", [1, 3, 32, 32])
    assert small["params"] == by_hand(DARTS, width=16, layers=8, channels=3, classes=10, imagenet=False)
    assert large["params"] == by_hand(DARTS, width=36, layers=20, channels=3, classes=10, imagenet=False)


def _with(**fields: Any) -> str:
    return json.dumps({**FOUND.to_json(), **fields})


@pytest.mark.parametrize(
    ("text", "what", "mend"),
    [
        (_with(normal=[*NORMAL, *NORMAL[:2]]), "normal cell of the genotype has 10 edges", "four nodes"),
        (_with(reduce=REDUCE[:7]), "reduce cell of the genotype has 7 edges", "four nodes"),
        (_with(normal_concat=[3, 4, 5]), "normal_concat of the genotype is [3, 4, 5]", "range(2, 6)"),
        (_with(reduce_concat=None), "reduce_concat of the genotype is None", "range(2, 6)"),
        (TEXT.replace("range(2, 6), reduce=", "range(2, 9**9), reduce="), "cannot be read", "Genotype(normal="),
        (TEXT.replace("range(2, 6), reduce=", "range(2, 999999999), reduce="), "is range(2, 999999999)", "range(2, 6)"),
        (_with(normal=[("none", 0), *NORMAL[1:]]), "operation 'none', which no space", "there are skip_connect"),
        (_with(normal=[("sep_conv_3x3", 2), *NORMAL[1:]]), "edge 0 of the normal cell, sep_conv_3x3 of", "0 to 1"),
        (_with(reduce=[*REDUCE[:7], ("skip_connect", -1)]), "node 5, takes node -1", "0 to 4"),
        (_with(normal=[("sep_conv_3x3", "0"), *NORMAL[1:]]), "normal of the genotype is no list", "Genotype(normal="),
        (_with(normal=[("sep_conv_3x3", True), *NORMAL[1:]]), "is no list of operations", "Genotype(normal="),
        (_with(normal="sep_conv_3x3"), "is no list of operations", "Genotype(normal="),
        ("Genotype()", "normal of the genotype is no list", "Genotype(normal="),
        (TEXT[:-1], "cannot be read", "Genotype(normal="),
        (f"{TEXT}.normal", "cannot be read: there is something after it", "Genotype(normal="),
        ("Genotype(" + "[" * 5000, "cannot be read", "Genotype(normal="),
    ],
)  # fmt: skip
def test_what_is_of_another_space_or_unreadable_is_refused_with_the_mend(text: str, what: str, mend: str) -> None:
    with pytest.raises(ArchitectureError) as caught:
        _space().parse(text)
    assert what in caught.value.what
    assert mend in caught.value.mend


def test_nothing_in_a_genotype_is_executed(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for code in (f"open({str(trap)!r}, 'w')", f"range(open({str(trap)!r}, 'w'))", f"[*open({str(trap)!r}, 'w')]"):
        with pytest.raises(ArchitectureError, match="cannot be read"):
            read_genotype(TEXT.replace("range(2, 6))", f"{code})"))
    assert not trap.exists()
