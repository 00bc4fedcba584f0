"""OpSpec: what ran, as a value. Its key is the key of every latency table."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from profilers.errors import OpSpecError

Attribute = int | float | str
_WORD = r"[^\[\],=@]+"
_KEY = re.compile(
    rf"(?P<kind>[\w.-]+)\[(?P<attrs>(?:{_WORD}={_WORD}(?:,{_WORD}={_WORD})*)?)\]@(?P<shape>\d+(?:x\d+)*):(?P<dtype>\w+)",
    re.ASCII,
)
_MEND = "write kind[name=value,...]@NxCxHxW:dtype, as in conv[kernel=3,out=16,stride=1]@1x3x32x32:float32"


@dataclass(frozen=True, eq=False)
class OpSpec:
    """One operation on one input shape; equal specs have equal keys on every machine.

    Attributes:
        kind: What it is: ``mbconv``, ``conv``, ``classifier``, ``network``.
        attrs: What distinguishes it from others of its kind; sorted, read-only.
        shape: Input shape, batch first: ``(N, C, H, W)``.
        dtype: The precision it is computed in, of ``profilers.precision.PRECISIONS``.

    Raises:
        OpSpecError: If they cannot be written as a key and read again.
    """

    kind: str
    attrs: Mapping[str, Attribute]
    shape: tuple[int, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "attrs", MappingProxyType(dict(sorted(self.attrs.items()))))
        match = _KEY.fullmatch(self.key)
        if match is None or match["attrs"].count("=") != len(self.attrs):
            raise OpSpecError(f"{self.key!r} is not the key of an operation", mend=_MEND)

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, OpSpec) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    @cached_property
    def key(self) -> str:
        """The canonical key, such as ``mbconv[expand=3,kernel=5,out=40,stride=2]@1x24x112x112:float32``."""
        attrs = ",".join(f"{name}={value}" for name, value in self.attrs.items())
        return f"{self.kind}[{attrs}]@{'x'.join(map(str, self.shape))}:{self.dtype}"

    @property
    def numel(self) -> int:
        """Elements of the input."""
        return math.prod(self.shape)

    @classmethod
    def from_key(cls, key: str) -> OpSpec:
        """The spec that a key was made of; raises ``OpSpecError`` where it is not one."""
        match = _KEY.fullmatch(key)
        if match is None:
            raise OpSpecError(f"{key!r} is not the key of an operation", mend=_MEND)
        pairs = [pair.split("=") for pair in match["attrs"].split(",") if pair]
        attrs = {name: _value(text) for name, text in pairs}
        if len(attrs) < len(pairs):
            raise OpSpecError(f"{key!r} gives an attribute twice", mend=_MEND)
        return cls(match["kind"], attrs, tuple(map(int, match["shape"].split("x"))), match["dtype"])


def _value(text: str) -> Attribute:
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if str(value) == text:  # "007" and "1e3" stay words, so that a key read and written is the same key
            return value
    return text
