"""The card of a model: what is known of it, in Markdown as hubs show it; what is not known is not said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from profilers.files import write_atomic
from profilers.workload import lacking

MOST_CLASSES = 100
"""That are named; of more, so many."""
UNKNOWN = "not measured"


def write_card(path: Path, facts: Mapping[str, Any]) -> None:
    """Writes the card; a line whose facts are missing or None is left out, but what was not measured says so.

    Args:
        path: Of the ``.md`` file; replaced at once or left as it was.
        facts: Any of ``name``, ``license``, ``architecture``, ``space``, ``dataset``, ``classes`` (names in the order
            of the outputs), ``input_shape`` (batch first), ``preprocessing`` (``scale``, ``mean``, ``std``),
            ``params``, ``macs``, ``test_accuracy`` and ``test_interval`` (shares), ``device``, ``runtime``,
            ``precision``, ``budget_ms``, ``predicted_ms``, ``measured_ms``, ``table``, ``files`` (SHA-256 by name),
            ``versions``, ``how_to_use`` (Python), ``verify`` (a command), ``training`` (settings by name), ``limits``.

    Raises:
        FileError: If it cannot be written.
    """
    known = {key: value for key, value in facts.items() if value is not None}
    blocks = [_front_matter(known), f"# {_line(known.get('name', 'Model'))}"]
    sections = {
        "": _what(known),
        "How to use": _fenced("python", known.get("how_to_use")),
        "Latency": _latency(known),
        "Accuracy": _accuracy(known),
        "Data and preprocessing": _data(known),
        "Training": _pairs(known.get("training", {})),
        "Files": (f"{_code(name)}: SHA-256 {_code(digest)}" for name, digest in known.get("files", {}).items()),
        "How to verify": _fenced("sh", known.get("verify")),
        "Versions": _pairs(known.get("versions", {})),
        "Limits": str(known.get("limits", "")),
    }
    for title, content in sections.items():
        text = content if isinstance(content, str) else "\n".join(f"- {line}" for line in content)
        if text:
            blocks += [f"## {title}", text] if title else [text]
    write_atomic(path, "\n\n".join(blocks) + "\n")


def _front_matter(facts: Mapping[str, Any]) -> str:
    head = {
        "license": facts.get("license"),
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["neural-architecture-search", "unas-hw"],
        "datasets": [str(facts["dataset"])] if "dataset" in facts else None,
        "metrics": ["accuracy"] if "test_accuracy" in facts else None,
    }
    said = {key: value for key, value in head.items() if value is not None}
    return f"---\n{yaml.safe_dump(said, sort_keys=False, allow_unicode=True)}---"


def _what(facts: Mapping[str, Any]) -> Iterator[str]:
    for key, title in (("architecture", "Architecture"), ("space", "Search space")):
        if key in facts:
            yield f"{title}: {_code(facts[key])}"
    if "input_shape" in facts:
        yield f"Input: `({', '.join(map(str, ('N', *facts['input_shape'][1:])))})`"
    for key, title in (("params", "Parameters"), ("macs", "Multiply-accumulates for one image")):
        if key in facts:
            without = lacking(facts.get("macs_without", ())) if key == "macs" else ""
            yield f"{title}: {facts[key]:,}" + (f", {without}" if without else "")
    if "precision" in facts:
        yield f"Precision: {_code(facts['precision'])}"


def _latency(facts: Mapping[str, Any]) -> Iterator[str]:
    for key, title in (("device", "Device"), ("runtime", "Runtime")):
        if key in facts:
            yield f"{title}: {_code(facts[key])}"
    if "budget_ms" in facts:
        yield f"Budget: {facts['budget_ms']:.4g} ms"
    if "predicted_ms" in facts:
        table = f", by the table {_code(facts['table'])}" if "table" in facts else ""
        yield f"Predicted: {facts['predicted_ms']:.4g} ms{table}"
    batch = f", batch of {facts['input_shape'][0]}" if "input_shape" in facts else ""
    measured = f"{facts['measured_ms']:.4g} ms, as measured by unas-hw{batch}" if "measured_ms" in facts else UNKNOWN
    yield f"Measured: {measured}"


def _accuracy(facts: Mapping[str, Any]) -> Iterator[str]:
    accuracy = UNKNOWN
    if "test_accuracy" in facts:
        accuracy = f"{facts['test_accuracy']:.2%}"
        if "test_interval" in facts:
            low, high = facts["test_interval"]
            accuracy += f" (95% interval {low:.2%} to {high:.2%})"
    yield f"Test accuracy: {accuracy}"


def _data(facts: Mapping[str, Any]) -> Iterator[str]:
    if "dataset" in facts:
        yield f"Data set: {_code(facts['dataset'])}"
    if "classes" in facts:
        classes: Sequence[str] = facts["classes"]
        more = f" and {len(classes) - MOST_CLASSES} more" if len(classes) > MOST_CLASSES else ""
        named = ", ".join(_code(each) for each in classes[:MOST_CLASSES])
        yield f"Classes, in the order of the outputs ({len(classes)}): {named}{more}"
    preprocessing = facts.get("preprocessing", {})
    if {"scale", "mean", "std"} <= preprocessing.keys():
        yield "Preprocessing: `(pixels * scale - mean) / std`, by channel, with"
    yield from _pairs(preprocessing)


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    return (f"{_line(key)}: {_code(value)}" for key, value in values.items() if value is not None)


def _fenced(language: str, text: str | None) -> str:
    """A block of code, whatever is in it."""
    if not text:
        return ""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _code(value: Any) -> str:
    text = _line(value)
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _line(value: Any) -> str:
    return " ".join(str(value).split())
