"""Genotypes: how published programs of the DARTS family write their cells, as text or as JSON."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unas_hw.errors import ArchitectureError
from unas_hw.ops.darts import LISTS
from unas_hw.ops.darts_cell import EDGES, INPUTS, NODES, PAIRS
from unas_hw.space import Architecture

Edge = tuple[str, int]
"""Operation and the node that it takes; 0 and 1 are the cell's inputs."""
CELLS = ("normal", "reduce")
FORM = "Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))"
_FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
_CONCAT = range(INPUTS, INPUTS + NODES)
_CALL = re.compile(r"\s*(?:\w+\s*=\s*)?((?:\w+\.)*Genotype\s*\(.*)", re.DOTALL)


@dataclass(frozen=True)
class Genotype:
    """A normal and a reducing cell: two edges for each of four nodes."""

    normal: tuple[Edge, ...]
    reduce: tuple[Edge, ...]

    @property
    def ops(self) -> frozenset[str]:
        """All operations."""
        return frozenset(op for op, _ in self.normal + self.reduce)

    @property
    def option(self) -> str:
        """The value of ``ops`` for a space that has them all: the first of 7, darts and all."""
        return next(name for name in ("7", "darts", "all") if self.ops <= set(LISTS[name]))

    @property
    def space(self) -> str:
        """A space that has them all, by name."""
        return "darts" if self.option == "7" else f"darts?ops={self.option}"

    @property
    def choices(self) -> tuple[str, ...]:
        """Of the decisions of a ``darts`` space."""
        return tuple(part for op, source in self.normal + self.reduce for part in (str(source), op))

    def __str__(self) -> str:
        """As the published programs print it and read it again."""
        normal, reduce, concat = list(self.normal), list(self.reduce), _CONCAT
        return f"Genotype({normal=!r}, normal_concat={concat!r}, {reduce=!r}, reduce_concat={concat!r})"

    def to_json(self) -> dict[str, list[list[str | int]] | list[int]]:
        """The same as what JSON can hold."""
        return {
            "normal": [[*edge] for edge in self.normal],
            "normal_concat": [*_CONCAT],
            "reduce": [[*edge] for edge in self.reduce],
            "reduce_concat": [*_CONCAT],
        }


def genotype_of(architecture: Architecture) -> Genotype:
    """That of an architecture of a ``darts`` space."""
    sources, ops = architecture.choices[::2], architecture.choices[1::2]
    edges = tuple((op, int(source)) for source, op in zip(sources, ops, strict=True))
    return Genotype(edges[:EDGES], edges[EDGES:])


def read_genotype(text: str) -> Genotype | None:
    """The genotype in a text, ``Genotype(...)`` or JSON, with ``NAME =`` before it or without, or in the file of that
    path; None where there is none.

    Nothing in it is executed.

    Raises:
        ArchitectureError: If it is one, and cannot be read or is not of this family.
    """
    if os.path.isfile(text):
        text = Path(text).read_text(encoding="utf-8", errors="replace")
    fields: dict[str, Any] | None = None
    if call := _CALL.fullmatch(text):
        fields = _evaluated(call[1])
    elif text.lstrip().startswith("{"):
        try:
            content = json.loads(text)
        except json.JSONDecodeError:
            return None  # whoever reads it as an architecture says what is wrong
        fields = content if isinstance(content, dict) and set(CELLS) <= set(content) else None
    return None if fields is None else Genotype(*(_edges(cell, fields) for cell in CELLS))


def _evaluated(call: str) -> dict[str, Any]:
    try:
        body = ast.parse(call.strip(), mode="eval").body
        if not isinstance(body, ast.Call):
            raise ValueError("there is something after it")
        named = {str(keyword.arg): _value(keyword.value) for keyword in body.keywords}
        return dict(zip(_FIELDS, map(_value, body.args), strict=False)) | named
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ArchitectureError(f"the genotype cannot be read: {error}", mend=f"write {FORM}") from error


def _value(node: ast.expr) -> Any:
    """A literal, or a ``range``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        return range(*map(ast.literal_eval, node.args))
    return ast.literal_eval(node)


def _edges(cell: str, fields: dict[str, Any]) -> tuple[Edge, ...]:
    edges, concat = fields.get(cell), fields.get(f"{cell}_concat", _CONCAT)
    if not isinstance(edges, Sequence) or not all(map(_is_edge, edges)):
        raise ArchitectureError(
            f"{cell} of the genotype is no list of operations and nodes: {edges!r}", mend=f"write {FORM}"
        )
    if len(edges) != EDGES:
        raise ArchitectureError(
            f"the {cell} cell of the genotype has {len(edges)} edges, one of this space has {EDGES}",
            mend="give a genotype of four nodes with two edges each: cells of another size are of another space",
        )
    if not isinstance(concat, Sequence) or len(concat) != NODES or set(map(str, concat)) != set(map(str, _CONCAT)):
        raise ArchitectureError(
            f"{cell}_concat of the genotype is {concat!r}: the output of a cell is nodes 2, 3, 4 and 5, all of them",
            mend="give a genotype with range(2, 6): others are of another space",
        )
    for place, (op, source) in enumerate(edges):
        earlier = INPUTS + place // PAIRS
        if op not in LISTS["all"]:
            raise ArchitectureError(
                f"the {cell} cell of the genotype has the operation {op!r}, which no space here has",
                mend=f"there are {', '.join(LISTS['all'])}",
            )
        if not 0 <= source < earlier:
            raise ArchitectureError(
                f"edge {place} of the {cell} cell, {op} of node {earlier}, takes node {source}",
                mend=f"give one of the nodes before it, 0 to {earlier - 1}",
            )
    return tuple((op, source) for op, source in edges)


def _is_edge(edge: object) -> bool:
    """An operation and a number; ``True`` is none."""
    return isinstance(edge, Sequence) and len(edge) == 2 and isinstance(edge[0], str) and type(edge[1]) is int
