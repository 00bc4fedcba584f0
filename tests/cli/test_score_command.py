"""``unas-hw score``: given networks, random ones, and those of a file with accuracies, ranked beside their sizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run, read
from tests.cli.test_bad_input import refused

SPACE = ("--space", "mbconv-small?width=0.25")
SCORES = ("freeflow", "synflow", "log-synflow", "naswot", "zen", "snip", "params", "macs")
LARGE, SMALL = "k5e6,k5e6,k5e6,k5e6,k5e6,k5e6,k5e6,k5e6,k5e6", "k3e3,id,id,k3e3,id,id,k3e3,id,id"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks here are tiny: threads would only wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_given_networks_have_every_score_and_the_larger_one_more_flow(unas_hw: Run) -> None:
    result = read(unas_hw("score", LARGE, SMALL, *SPACE, "--json"))
    assert (result["space"], result["alpha"], result["correlations"]) == ("mbconv-small?width=0.25", 1.0, None)
    large, small = result["networks"]
    assert set(SCORES) < large.keys() and large["architecture"].endswith(LARGE)
    for name in ("freeflow", "synflow", "params", "macs"):
        assert large[name] > small[name]


def test_people_get_a_table_that_says_what_the_batch_was(unas_hw: Run) -> None:
    text = unas_hw("score", *SPACE, "--networks", "3").stdout
    first, _, head, *rows = text.strip().split("\n")
    assert "32 random images with random labels" in first
    assert head.split() == [*SCORES, "architecture"] and len(rows) == 3
    assert len(set(rows)) == 3 and all(row.split()[-1].startswith("mbconv-small") for row in rows)


def test_the_same_seed_gives_the_same_scores_and_images_of_a_data_set_others(unas_hw: Run, images: str) -> None:
    shape = ("--image-size", "8")
    first, again, other = (
        read(unas_hw("score", SMALL, *SPACE, *shape, *more, "--json"))
        for more in ((), (), ("--dataset", images))
    )  # fmt: skip
    assert first == again
    assert other["batch"] == "32 images of rows.npz"
    assert other["networks"][0]["snip"] != first["networks"][0]["snip"]


def accuracies(name: str, count: int = 6) -> str:
    """A file of networks with the same operation everywhere but in one place, more accurate the larger they are."""
    choices = [f"k{kernel}e{expand}" for expand in (3, 6) for kernel in (3, 5, 7)]
    networks = [",".join([each] * 8 + [last]) for each in choices for last in ("k3e3", "k7e6")][:count]
    lines = [f'"{network}",{number},{number * 0.5}' for number, network in enumerate(networks)]
    Path(name).write_text("\n".join(["arch,number,accuracy", *lines]) + "\n")
    return name


def test_accuracies_of_a_file_give_correlations_beside_those_of_the_sizes(unas_hw: Run) -> None:
    name = accuracies("known.csv")
    result = read(unas_hw("score", *SPACE, "--accuracies", name, "--json"))
    assert [row["accuracy"] for row in result["networks"]] == [number * 0.5 for number in range(6)]
    assert list(result["correlations"]) == list(SCORES)
    found = result["correlations"]["macs"]["all"]
    assert found["networks"] == 6 and found["low"] <= found["spearman"] <= found["high"] and found["spearman"] > 0.5
    text = unas_hw("score", *SPACE, "--accuracies", name, "--networks", "3", "--column", "number").stdout
    assert "all 3" in text and [line.split()[0] for line in text.strip().split("\n")[-8:]] == list(SCORES)


@pytest.mark.slow
def test_a_file_in_the_other_format_is_read_too(unas_hw: Run) -> None:
    import pandas as pd

    frame = pd.read_csv(accuracies("known.csv", 4)).rename(columns={"arch": "architecture"})
    frame[["architecture", "accuracy"]].to_parquet("known.parquet")
    assert len(read(unas_hw("score", *SPACE, "--accuracies", "known.parquet", "--json"))["networks"]) == 4


def test_files_that_hold_no_accuracies_are_refused_with_what_they_hold(unas_hw: Run) -> None:
    refused(unas_hw("score", *SPACE, "--accuracies", "nothere.csv"), 1, "nothere.csv", "no such file")
    name = accuracies("known.csv")
    refused(unas_hw("score", *SPACE, "--accuracies", name, "--column", "numbr"), 1, "'numbr'", "--column number")
    Path(name).write_text(Path(name).read_text().replace("accuracy", "top1"))
    refused(unas_hw("score", *SPACE, "--accuracies", name), 1, "does not say which", "number, top1")
    Path("other.csv").write_text("name,accuracy\nx,1\n")
    refused(unas_hw("score", *SPACE, "--accuracies", "other.csv"), 1, "no column of architectures", "arch")
    Path("holes.csv").write_text(f'arch,accuracy\n"{SMALL}",1\n"{LARGE}",\n')
    refused(unas_hw("score", *SPACE, "--accuracies", "holes.csv"), 1, "no number for every architecture")
    for broken in ("broken.csv", "broken.parquet"):
        Path(broken).write_bytes(b"\x00\xff\xfe" if broken.endswith("t") else b"")
        refused(unas_hw("score", *SPACE, "--accuracies", broken), 1, f"{broken} is no table")


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (("foo:bar",), "choose one of"),
        (("k3e3,id", *SPACE), "one choice per decision"),
        ((SMALL.replace("id", "k3e4"), *SPACE), "did you mean 'k"),
        ((SMALL, *SPACE, "--accuracies", "known.csv"), "leave out the architectures"),
    ],
)
def test_networks_that_cannot_be_read_are_misuse(unas_hw: Run, words: tuple[str, ...], mend: str) -> None:
    accuracies("known.csv")
    refused(unas_hw("score", *words), 2, mend)


def test_a_genotype_with_other_operations_names_the_space_that_has_them(unas_hw: Run) -> None:
    edges = [(op, source) for _ in range(4) for op, source in (("dil_conv_5x5", 0), ("sep_conv_3x3", 1))]
    text = f"Genotype(normal={edges}, normal_concat=range(2, 6), reduce={edges}, reduce_concat=range(2, 6))"
    refused(unas_hw("score", text, "--space", "darts?width=2&layers=3"), 2, "add --space 'darts?width=2&layers=3&ops=")


def seeds(name: str, rows: list[str], head: str = "arch,seed,accuracy") -> str:
    Path(name).write_text("\n".join([head, *rows]) + "\n")
    return name


def test_of_several_seeds_the_mean_counts_and_the_spread_is_told(unas_hw: Run) -> None:
    rows = [
        f'"{LARGE}",0,90',
        f'"{SMALL}",0,60',
        f'"{LARGE}",1,92',
        f'"{LARGE.replace(",", "/")}",2,97',
        f'"{SMALL}",1,64',
    ]
    words = ("score", *SPACE, "--accuracies", seeds("seeds.csv", rows))
    result = read(unas_hw(*words, "--json"))
    assert [row["accuracy"] for row in result["networks"]] == [93, 62], "one row a network, however it is written"
    spread = ((3**2 + 1**2 + 4**2 + 2**2 + 2**2) / 3) ** 0.5  # five rows, two means
    assert result["accuracies"] == (
        f"2 of 2 networks have several of the 5 rows: their means count, their standard deviation is {spread:.3g}"
    )
    told = unas_hw(*words)
    assert result["accuracies"] in told.stdout and f"seeds.csv: {result['accuracies']}" in told.stderr
    single = read(unas_hw("score", *SPACE, "--accuracies", accuracies("known.csv", 2), "--json"))
    assert single["accuracies"] is None


@pytest.mark.parametrize(
    ("head", "rows", "words"),
    [
        ("arch,dataset,accuracy", ["L,cifar10,90", "S,cifar10,60", "L,cifar100,70"], "dataset cifar10 and cifar100"),
        ("arch,epochs,accuracy", ["L,12,90", "S,12,60", "L,200,93", "S,200,70"], "epochs 12 and 200"),
        ("arch,accuracy", ["L,0.93", "S,62.5", "L,91.5", "S,0.61"], "accuracies up to 1, such as 0.77"),
        ("arch,accuracy,accuracy", ["L,90,91"], "has 2 columns called 'accuracy'"),
        ("arch,accuracy", ["L,90,91"], "rows of more cells than its first line"),
        ("arch,accuracy", ["L,90", "L,"], "no number for every architecture"),
        ("arch,accuracy", ["L,inf"], "no number for every architecture"),
        ("arch,accuracy", ["L,93%"], "does not say which are the accuracies"),
        ("arch;accuracy", ["L;93,5"], "part columns by commas"),
    ],
)
def test_rows_that_are_no_seeds_of_one_network_are_refused(
    unas_hw: Run, head: str, rows: list[str], words: str
) -> None:
    lines = [row.replace("L", f'"{LARGE}"', 1).replace("S", f'"{SMALL}"', 1) for row in rows]
    refused(unas_hw("score", *SPACE, "--accuracies", seeds("rows.csv", lines, head)), 1, words)


def test_a_network_that_the_space_does_not_have_is_refused(unas_hw: Run) -> None:
    name = seeds("rows.csv", [f'"{LARGE}",0,90', f'"{LARGE.replace("k5e6", "k9e6", 1)}",0,91'])
    refused(unas_hw("score", *SPACE, "--accuracies", name), 2, "no choice 'k9e6'")


def test_percent_near_chance_and_rows_with_other_results_are_taken_as_they_are(unas_hw: Run) -> None:
    rows = [f'"{LARGE}",0,1,47.5,0.2', f'"{SMALL}",1,1,0.83,0.9', f'"{SMALL}",2,1,0.85,0.7']
    name = seeds("rows.csv", rows, "arch,number,epochs,accuracy,loss")
    found = read(unas_hw("score", *SPACE, "--accuracies", name, "--json"))["networks"]
    assert [row["accuracy"] for row in found] == [47.5, pytest.approx(0.84)]
