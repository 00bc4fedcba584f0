"""What ProxylessNAS and Once-for-All files have in common: YAML of ``name: {count, mean, var or std}``.

The text is composed into nodes and read from there: no object is ever constructed from a tag, and an alias is refused
where it stands, so that a small file cannot become a large one.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, final

import yaml

from latency_tables.importers.base import MAX_COUNT, MAX_KEY, Entry, Importer, Source, named
from profilers.opspec import Attribute, OpSpec

_NAME = re.compile(
    r"(?P<kind>\w{1,40})-input:(?P<height>\d{1,6})x(?P<width>\d{1,6})x(?P<channels>\d{1,6})"
    r"-output:(?:(?P<out_height>\d{1,6})x(?P<out_width>\d{1,6})x)?(?P<out>\d{1,6})(?P<rest>(?:-\w{1,20}:\d{1,6})*)",
    re.ASCII,
)


@dataclass(frozen=True)
class Block:
    """A published row's name, taken apart.

    Attributes:
        kind: ``Conv``, ``Conv_1``, ``expanded_conv``, ``Logits``, ``AvgPool2D``.
        shape: Of the input: height, width, channels.
        out: Height, width and channels of the output; one by one where the name gives channels only.
        numbers: What follows: ``expand``, ``kernel``, ``stride``, ``idskip``, ``se``, ``hs``.
    """

    kind: str
    shape: tuple[int, int, int]
    out: tuple[int, int, int]
    numbers: dict[str, int]

    def key(self, kind: str, attrs: dict[str, Attribute], pooled: bool = False) -> str:
        """The key of this block as an operation of ours, batch of one."""
        height, width, channels = (1, 1, self.shape[2]) if pooled else self.shape
        return OpSpec(kind, attrs, (1, channels, height, width)).key

    def has_stride(self, stride: int) -> bool:
        """Whether the sizes are those that this stride leaves."""
        return stride > 0 and self.out[:2] == tuple((size - 1) // stride + 1 for size in self.shape[:2])


def row_of(end: str) -> re.Pattern[str]:
    """Finds a block whose name ends like this before its numbers, in YAML and in JSON."""
    return re.compile(
        rf"""(?:^|[{{,]\s*)(["']?)expanded_conv-input:[^\s"',]+{end}\1\s*:\s*(?:$|\{{)""", re.MULTILINE | re.ASCII
    )


class MobileRows(Importer):
    """A format of such files.

    Attributes:
        line: Finds a row of this format in the text.
    """

    lacks = ("pool",)
    line: ClassVar[re.Pattern[str]]

    @staticmethod
    @abstractmethod
    def key(block: Block) -> str | None:
        """The key of a block; None for one that is none of ours."""

    @final
    def recognises(self, source: Source) -> bool:
        return self.line.search(source.text) is not None

    @final
    def unit(self, source: Source) -> str:
        return "ms"  # of the format: the publishers' estimators add the means up to ms

    @final
    def entries(self, source: Source) -> list[Entry]:
        """Every row with its mean and the standard error of that mean."""
        try:
            root = yaml.compose(source.text.replace("\t", " "), Loader=yaml.SafeLoader)  # JSON may be indented by tabs
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            where = f"line {mark.line + 1}" if mark is not None else "somewhere"
            raise source.error(where, getattr(error, "problem", None) or type(error).__name__, "says YAML") from error
        if not isinstance(root, yaml.MappingNode):
            raise source.error("line 1", source.text[:40], "does not begin a mapping of names to numbers")
        seen: set[int] = set()
        rows = [_row(source, name, fields, seen) for name, fields in root.value]
        return [replace(row, key=self._key_of(row.name)) for row in rows]

    def _key_of(self, name: str) -> str:
        """That of a block of ours where it is one; else of that name, of which only the name is known."""
        block = parse_block(name)
        return (block and self.key(block)) or named(self.name, name)


def parse_block(name: str) -> Block | None:
    """The block of that name; None for a name of another form."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    pairs = [pair.split(":") for pair in match["rest"].split("-") if pair]
    shape = (int(match["height"]), int(match["width"]), int(match["channels"]))
    out = (int(match["out_height"] or 1), int(match["out_width"] or 1), int(match["out"]))
    numbers = {label: int(number) for label, number in pairs}
    return Block(match["kind"], shape, out, numbers) if len(numbers) == len(pairs) else None


def fixed_key(block: Block, act: dict[str, Attribute]) -> str | None:
    """The key of a part that is not searched; None where it is none that we know.

    By the publishers' programs ``Conv`` is the 3x3 convolution at the beginning, ``Conv_1`` and ``Conv_2`` are 1x1, and
    ``Logits`` is what follows them.
    """
    channels = block.out[2]
    if block.kind == "Conv" and block.has_stride(2):
        return block.key("conv", {"kernel": 3, "out": channels, "stride": 2, **act})
    if block.kind in ("Conv_1", "Conv_2") and block.has_stride(1):
        return block.key("conv", {"kernel": 1, "out": channels, "stride": 1, **act})
    if block.kind == "Logits":
        return block.key("linear", {"classes": channels}, pooled=True)
    if block.kind == "AvgPool2D" and block.out == (1, 1, block.shape[2]):
        return block.key("pool", {})
    return None


def residual_key(block: Block, attrs: dict[str, Attribute]) -> str:
    """The key of an inverted residual.

    Our block adds its input wherever stride and width allow it, and the key of such a block does not say so. A row
    whose ``idskip`` is another than its shapes imply therefore keeps it in its key, and prices no block of ours.
    """
    adds_input = block.numbers["stride"] == 1 and block.shape == block.out
    if block.numbers["idskip"] != adds_input:
        attrs = {**attrs, "idskip": block.numbers["idskip"]}
    return block.key("mbconv", attrs)


def _row(source: Source, name: yaml.Node, fields: yaml.Node, seen: set[int]) -> Entry:
    where = f"line {name.start_mark.line + 1}"
    label = _text(source, where, name, seen)
    if not 0 < len(label) <= MAX_KEY:
        raise source.error(where, label, f"is not a name of 1 to {MAX_KEY} letters")
    _once(source, where, fields, seen)
    if not isinstance(fields, yaml.MappingNode):
        raise source.error(where, label, "has no count, mean and var")
    numbers: dict[str, float] = {}
    for field, value in fields.value:
        line = f"line {value.start_mark.line + 1} ({label})"
        known = _text(source, line, field, seen)
        if known in numbers:
            raise source.error(line, known, "is given twice")
        written = _text(source, line, value, seen)
        if value.style is not None:
            raise source.error(line, written, "is a string, not a number")
        numbers[known] = source.number(line, written)
    if "mean" not in numbers:
        raise source.error(where, label, "has no mean")
    mean = source.positive(f"{where} ({label})", numbers["mean"])
    deviation = _standard_error(source, f"{where} ({label})", numbers)
    return Entry(where=where, name=label, key=label, time=mean, deviation=deviation)


def _text(source: Source, where: str, node: yaml.Node, seen: set[int]) -> str:
    _once(source, where, node, seen)
    if not isinstance(node, yaml.ScalarNode):
        raise source.error(where, node.tag, "stands where a name or a number should")
    return str(node.value)


def _once(source: Source, where: str, node: yaml.Node, seen: set[int]) -> None:
    if id(node) in seen:
        raise source.error(where, node.tag, "is an alias; no published table has any")
    seen.add(id(node))


def _standard_error(source: Source, where: str, numbers: dict[str, float]) -> float:
    """``var`` is the variance of single measurements, ``std`` its root; NaN without them or without a count."""
    count = numbers.get("count")
    if count is not None and not (1 <= count <= MAX_COUNT and count == int(count)):
        raise source.error(where, count, "is not a number of measurements")
    spread = numbers["var"] ** 0.5 if numbers.get("var", -1.0) >= 0 else numbers.get("std", math.nan)
    for name in ("var", "std"):
        if numbers.get(name, 0.0) < 0:
            raise source.error(where, numbers[name], f"is not a {name}")
    return spread / count**0.5 if count is not None else math.nan
