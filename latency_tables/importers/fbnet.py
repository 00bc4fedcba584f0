"""FBNet tables, layers by operations: JSON of lists, or text under a line of the operations' names."""

from __future__ import annotations

import re
from typing import Any, final

from latency_tables.importers.base import Entry, Importer, Source
from latency_tables.importers.json_file import parse_json
from profilers.opspec import OpSpec

_OPERATION = re.compile(r"(ir_k\d_[es]\d\w{0,20}|skip)", re.ASCII)
_LIST = re.compile(r"\s*\[\s*(null\s*,\s*)*\[", re.ASCII)


@final
class FBNet(Importer):
    """Only layer and operation are known of a row; in JSON operations have places, not names. ``null`` is no row."""

    name = "fbnet"
    summary = "FBNet tables: layers by operations, JSON lists or text; the unit is nowhere in them"

    def recognises(self, source: Source) -> bool:
        return _LIST.match(source.text) is not None or len(_operations(source)) > 1

    def entries(self, source: Source) -> list[Entry]:
        return _from_text(source) if _operations(source) else _from_json(source)


def _operations(source: Source) -> list[str]:
    """The names in the first line; empty if it is none of names."""
    words = source.text.lstrip().partition("\n")[0].split()
    return words if words and all(_OPERATION.fullmatch(word) for word in words) else []


def _from_text(source: Source) -> list[Entry]:
    operations = _operations(source)
    entries = []
    lines = [(number, line.split()) for number, line in enumerate(source.text.split("\n"), 1) if line.strip()][1:]
    for layer, (number, cells) in enumerate(lines):
        if len(cells) != len(operations):
            raise source.error(f"line {number}", " ".join(cells), f"is not of {len(operations)} numbers")
        for operation, cell in zip(operations, cells, strict=True):
            where = f"line {number} ({operation})"
            entries.append(_entry(source, where, layer, operation, source.number(where, cell)))
    return entries


def _from_json(source: Source) -> list[Entry]:
    layers = parse_json(source)
    if not isinstance(layers, list):
        raise source.error("line 1", layers, "is not a list of layers")
    entries = []
    for layer, cells in enumerate(layers):
        if cells is not None and not isinstance(cells, list):
            raise source.error(f"layer {layer}", cells, "is not a list of latencies")
        entries += [
            _entry(source, f"layer {layer}, operation {operation}", layer, operation, cell)
            for operation, cell in enumerate(cells or ())
        ]
    return entries


def _entry(source: Source, where: str, layer: int, operation: str | int, cell: Any) -> Entry:
    key = OpSpec("fbnet", {"layer": layer, "op": operation}, (1,)).key
    return Entry(where=where, name=f"layer {layer} {operation}", key=key, time=source.positive(where, cell))
