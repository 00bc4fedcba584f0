"""The user's own space: the examples that ship pass their checks, and one of them goes through the whole job."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import QUICK, Run, read
from tests.cli.test_bad_input import refused
from unas_hw.spaces import SPACES

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.mark.parametrize("name", ["tiny.yaml", "bottlenecks.py"])
@pytest.mark.slow
def test_the_examples_pass_every_check(unas_hw: Run, name: str) -> None:
    result = unas_hw("spaces", "check", str(EXAMPLES / name), "--device", "sim:phone")
    assert result.exit_code == 0, result.output
    lines = result.stdout.strip().split("\n")
    assert len(lines) == 9 and all(line.startswith("pass  ") for line in lines)


def test_the_document_shows_the_example_that_ships() -> None:
    shown = (EXAMPLES.parent / "docs" / "spaces.md").read_text().partition("```yaml\n")[2].partition("```")[0]

    def words(text: str) -> list[str]:
        return [line.partition("#")[0].rstrip() for line in text.split("\n") if line.partition("#")[0].strip()]

    assert words(shown) == words((EXAMPLES / "tiny.yaml").read_text())


def test_the_list_has_every_space_with_its_options(unas_hw: Run) -> None:
    found = {each["name"]: each for each in read(unas_hw("spaces", "--json"))}
    assert list(found) == list(SPACES)
    assert found["mbconv"]["options"]["width"] == {"default": "1", "allowed": "a number from 0.1 to 8"}
    text = unas_hw("spaces").stdout
    assert "stem=imagenet: imagenet or cifar" in text


def test_a_check_that_fails_is_shown_with_its_mend_and_exit_code_one(unas_hw: Run) -> None:
    Path("mine.yaml").write_text("layers:\n  - conv: {otu: 3}\n")
    result = unas_hw("spaces", "check", "mine.yaml")
    assert result.exit_code == 1
    what, mend = result.stdout.strip().split("\n")
    assert what.startswith("FAIL  description") and "line 2, layers[0].conv.otu" in what
    assert mend.strip() == "mend: did you mean 'out'?"
    assert read(unas_hw("spaces", "check", "mine.yaml", "--json"))["passed"] is False


def test_a_space_that_is_not_there_is_misuse(unas_hw: Run) -> None:
    refused(unas_hw("spaces", "check", "mbcnov"), 2, "did you mean 'mbconv'?")
    refused(unas_hw("profile", "--space", "nothere.yaml"), 2, "there is no file nothere.yaml")
    refused(unas_hw("profile", "--space", "mbconv?wdth=1"), 2, "did you mean 'width'?")


@pytest.mark.slow
def test_a_described_space_is_profiled_searched_trained_exported_and_predicted(unas_hw: Run, images: str) -> None:
    for name in ("tiny.yaml", "tiny_blocks.py"):
        shutil.copy(EXAMPLES / name, name)
    unas_hw("profile", "--space", "tiny.yaml", "--dataset", images, "--device", "sim:phone", "--rounds", "12")
    assert [path.name for path in Path("home", "tables").iterdir()] == ["sim_phone-simulated-1t-tiny@1x1x8x8.jsonl"]
    words = ("search", "--space", "tiny.yaml", "--dataset", images, "--device", "sim:phone", *QUICK)
    found = read(unas_hw(*words, "--latency-budget", "60%", "--json"))
    assert found["feasible"] and found["architecture"].startswith("tiny:")
    run = Path(found["run"])
    for text in (str(run / "architecture.json"), f"./tiny.yaml:{found['architecture'].partition(':')[2]}"):
        predicted = read(unas_hw("predict", "--architecture", text, "--dataset", images, "--json"))
        assert predicted["architecture"] == found["architecture"]
        assert predicted["predicted_ms"] == pytest.approx(found["predicted_ms"])
    assert read(unas_hw("train", "--epochs", "1", "--json"))["architecture"] == found["architecture"]
    exported = unas_hw("export", "--format", "onnx", "--json")
    assert exported.exit_code in (0, 3), exported.output
    assert (run / "export" / "model.onnx").is_file()

    described = Path("tiny.yaml").read_text()
    Path("tiny.yaml").write_text(described.replace("out: 24", "out: 32"))
    refused(unas_hw("train", "--epochs", "1"), 1, "tiny.yaml has changed since", "search again")
    Path("tiny.yaml").write_text("# another comment\n" + described)
    assert unas_hw("train", "--epochs", "1", "--json").exit_code == 0
    Path("tiny.yaml").rename("moved.yaml")
    refused(unas_hw("export"), 2, "there is no file", "tiny.yaml")
