"""A card says what is known in the words of the facts, and nothing that is not known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from unas_hw.export.card import write_card

FACTS: dict[str, Any] = {
    "name": "phone-net",
    "license": "mit",
    "architecture": "nas_bench_201:|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|",
    "space": "nas_bench_201",
    "dataset": "cifar10",
    "classes": ["air_plane", "ship"],
    "input_shape": (4, 3, 32, 32),
    "preprocessing": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "scale": 1 / 255},
    "params": 1234567,
    "macs": 89012345,
    "test_accuracy": 0.9123,
    "test_interval": (0.9066, 0.9177),
    "device": "Pixel 1",
    "runtime": "litert",
    "precision": "float16",
    "budget_ms": 80,
    "predicted_ms": 71.24,
    "measured_ms": 73.5,
    "table": "pixel1.jsonl",
    "files": {"model.py": "ab" * 32, "model.safetensors": "cd" * 32},
    "versions": {"torch": "2.13.0"},
    "how_to_use": "from model import load\nmodel = load()",
    "verify": "unas-hw verify model.safetensors",
    "training": {"epochs": 600, "optimizer": "sgd", "seed": None},
    "limits": "Only for tests.",
}


def written(facts: dict[str, Any]) -> str:
    path = Path("model.md")
    write_card(path, facts)
    return path.read_text(encoding="utf-8")


def test_everything_that_is_known_is_said_in_its_section() -> None:
    _, front, text = written(FACTS).split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "mit",
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["neural-architecture-search", "unas-hw"],
        "datasets": ["cifar10"],
        "metrics": ["accuracy"],
    }
    title, *sections = text.strip().split("\n## ")
    assert title.splitlines()[0] == "# phone-net"
    for line in ("- Input: `(N, 3, 32, 32)`", "- Parameters: 1,234,567", f"- Architecture: `{FACTS['architecture']}`"):
        assert line in title.splitlines()
    found = dict(section.split("\n\n", 1) for section in sections)
    assert list(found) == [
        "How to use",
        "Latency",
        "Accuracy",
        "Data and preprocessing",
        "Training",
        "Files",
        "How to verify",
        "Versions",
        "Limits",
    ]
    assert found["How to use"].strip() == "```python\nfrom model import load\nmodel = load()\n```"
    assert found["Latency"].strip().splitlines() == [
        "- Device: `Pixel 1`",
        "- Runtime: `litert`",
        "- Budget: 80 ms",
        "- Predicted: 71.24 ms, by the table `pixel1.jsonl`",
        "- Measured: 73.5 ms, as measured by unas-hw, batch of 4",
    ]
    assert found["Accuracy"].strip() == "- Test accuracy: 91.23% (95% interval 90.66% to 91.77%)"
    assert "- Classes, in the order of the outputs (2): `air_plane`, `ship`" in found["Data and preprocessing"]
    assert "- mean: `[0.5, 0.4, 0.3]`" in found["Data and preprocessing"]
    assert found["Training"].strip() == "- epochs: `600`\n- optimizer: `sgd`"
    assert f"- `model.safetensors`: SHA-256 `{'cd' * 32}`" in found["Files"]
    assert found["How to verify"].strip() == "```sh\nunas-hw verify model.safetensors\n```"


def test_what_was_not_measured_is_never_claimed() -> None:
    text = written(FACTS | {"measured_ms": None, "test_accuracy": None})
    assert "- Measured: not measured" in text and "- Predicted: 71.24 ms" in text
    assert "as measured by" not in text
    assert "- Test accuracy: not measured" in text
    assert "%" not in text and "metrics" not in text


@pytest.mark.parametrize("key", sorted(FACTS.keys() - {"measured_ms", "test_accuracy", "table", "test_interval"}))
def test_a_line_whose_fact_is_missing_is_left_out(key: str) -> None:
    whole, less = (written({each: FACTS[each] for each in FACTS if each != left}) for left in ("", key))
    assert len(less.splitlines()) < len(whole.splitlines()) or key in ("name", "input_shape")
    assert less != whole and "None" not in less


def test_nothing_known_is_a_card_that_claims_nothing() -> None:
    _, front, text = written({}).split("---\n", 2)
    assert "license" not in yaml.safe_load(front)
    lines = ["# Model", "## Latency", "- Measured: not measured", "## Accuracy", "- Test accuracy: not measured"]
    assert [line for line in text.splitlines() if line] == lines


def test_text_from_elsewhere_stays_in_its_line_or_block() -> None:
    text = written({"name": "a\n# b", "dataset": "x: [\n---", "architecture": "`a\nb`", "how_to_use": "'''\n```\nx"})
    assert yaml.safe_load(text.split("---\n")[1])["datasets"] == ["x: [\n---"]
    assert "# a # b\n" in text and "- Architecture: `` `a b` ``\n" in text
    assert "````python\n'''\n```\nx\n````" in text
