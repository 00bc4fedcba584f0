"""The blocks of a described space, by the words that stand for them in the file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from profilers.opspec import Attribute
from profilers.workload import Workload
from unas_hw.ops import darts
from unas_hw.ops.residual import BasicBlock
from unas_hw.spaces.building import Chain
from unas_hw.spaces.options import Option, Whole, Word
from unas_hw.spaces.reading import Entry, nearest
from unas_hw.spaces.user_code import find_class

OUT, STRIDE = Whole(0, 1, 65_536), Whole(1, 1, 8)
"""``out`` is what comes in where it is not said."""
IDENTITY, TORCH = "identity", "torch"


@dataclass(frozen=True)
class Odd(Whole):
    """A kernel: odd, so that padding by half of it keeps the size."""

    @property
    def allowed(self) -> str:
        return f"an odd number from {self.low} to {self.high}"

    def read(self, text: str) -> int:
        value = super().read(text)
        if value % 2 == 0:
            raise ValueError(text)
        return value


@dataclass(frozen=True)
class Kind:
    """A block: what it may be told, or else is taken for it, and what makes it of a chain and these values."""

    keys: Mapping[str, Option]
    make: Callable[..., Workload]


def _conv(chain: Chain, *, out: int, kernel: int, stride: int, act: str) -> Workload:
    return chain.conv(out, kernel=kernel, stride=stride, act=act == "relu6")


def _mbconv(chain: Chain, *, out: int, kernel: int, expand: int, stride: int) -> Workload:
    return chain.mbconv(out, kernel=kernel, expand=expand, stride=stride)


def _residual(chain: Chain, *, out: int, kernel: int, stride: int) -> Workload:
    build = partial(BasicBlock, chain.channels, out, kernel=kernel, stride=stride)
    return chain.block("basic_block", {"kernel": kernel, "out": out, "stride": stride}, build)


def _sep_conv(chain: Chain, *, kernel: str, stride: int) -> Workload:
    build = partial(darts.build, f"sep_conv_{kernel}x{kernel}", chain.channels, stride)
    return chain.block("sep_conv", {"kernel": int(kernel), "stride": stride}, build)


def _dil_conv(chain: Chain, *, stride: int) -> Workload:
    return chain.block(
        "dil_conv", {"kernel": 3, "stride": stride}, partial(darts.build, "dil_conv_3x3", chain.channels, stride)
    )


def _pool(chain: Chain, *, mode: str, kernel: int, stride: int) -> Workload:
    padding = (kernel - 1) // 2
    build: Callable[[], nn.Module] = partial(nn.MaxPool2d, kernel, stride, padding)
    if mode == "avg":
        build = partial(nn.AvgPool2d, kernel, stride, padding, count_include_pad=False)
    return chain.block("pooling", {"kernel": kernel, "mode": mode, "stride": stride}, build)


_WIDTH: Mapping[str, Option] = {"out": OUT, "kernel": Odd(3, 1, 31), "stride": STRIDE}
BLOCKS: Mapping[str, Kind] = MappingProxyType(
    {
        "conv": Kind({**_WIDTH, "act": Word("relu6", ("relu6", "none"))}, _conv),
        "mbconv": Kind({**_WIDTH, "expand": Whole(6, 1, 64)}, _mbconv),
        "residual": Kind(_WIDTH, _residual),
        "sep_conv": Kind({"kernel": Word("3", ("3", "5", "7")), "stride": STRIDE}, _sep_conv),
        "dil_conv": Kind({"stride": STRIDE}, _dil_conv),
        "pool": Kind({"mode": Word("max", ("max", "avg")), "kernel": Whole(3, 1, 31), "stride": STRIDE}, _pool),
        "global_pool": Kind({}, Chain.pool),
        "linear": Kind({}, Chain.linear),
        "classifier": Kind({}, Chain.classifier),
    }
)
"""``linear`` and ``classifier`` are given the number of classes."""
HEADS = ("linear", "classifier")
_OURS = ("block", "out", "stride", "name", "repeat")
"""Keys of ``torch`` that are no arguments of the module."""


@dataclass(frozen=True)
class Block:
    """A block as the file has it, not yet at a place of the chain: its word, what it is told, and the file's folder."""

    entry: Entry
    kind: str
    keys: Mapping[str, Entry]
    folder: Path

    def at(self, chain: Chain, classes: int, given: Mapping[str, Entry], *, first: bool = True) -> Workload:
        """The block for this place; ``given`` is what a choice says for all of its blocks.

        Of a repeated block only the first changes the size.
        """
        keys = {**given, **self.keys}
        if self.kind == TORCH:
            return self._torch(chain, keys, first)
        kind = BLOCKS[self.kind]
        if self.kind not in (*HEADS, "global_pool") and "out" in keys and "out" not in kind.keys:
            out = keys.pop("out")
            if out.read(OUT) != chain.channels:
                raise self.entry.error(
                    f"{self.kind} keeps the {chain.channels} channels it gets and cannot have out: {out.value}",
                    f"write - conv: {{out: {out.value}, kernel: 1}} before it, and leave out: out",
                )
        values = {name: _value(name, option, keys, chain, first) for name, option in kind.keys.items()}
        if self.kind in HEADS:
            values["classes"] = classes
        return kind.make(chain, **values)

    def _torch(self, chain: Chain, keys: Mapping[str, Entry], first: bool) -> Workload:
        target = keys["block"]
        found, source = find_class(str(target.value), self.folder)
        out = _value("out", OUT, keys, chain, first)
        stride = _value("stride", STRIDE, keys, chain, first)
        given = {name: _attribute(entry) for name, entry in keys.items() if name not in _OURS}
        arguments = {"in_channels": chain.channels, "out_channels": out, "stride": stride, **given}
        try:
            inspect.signature(found).bind(**arguments)
        except (TypeError, ValueError) as error:
            raise target.error(
                f"{found.__name__} does not take {', '.join(arguments)}: {error}",
                f"def __init__(self, {', '.join(arguments)}):",
            ) from error
        build = partial(found, **arguments)
        attrs: dict[str, Attribute] = {"out": out, "stride": stride, **given, "source": source}
        return chain.block(f"torch.{found.__name__}", attrs, build)


def _value(name: str, option: Option, keys: Mapping[str, Entry], chain: Chain, first: bool) -> Any:
    if name == "stride" and not first:
        return 1
    if name not in keys:
        return chain.channels if name == "out" else option.default
    return keys[name].read(option)


def _attribute(entry: Entry) -> Attribute:
    """An argument for the user's own module: a number, a word, true or false."""
    value = entry.value
    if not isinstance(value, int | float | str) or (isinstance(value, str) and set(value) & set("[],=@")):
        raise entry.error(f"{entry} is no number, no word and not true or false", "put it into the module itself")
    return value


def read_block(entry: Entry, folder: Path, *, extra: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> Block:
    """A block as ``kind``, or as ``kind: {key: value}``.

    ``extra`` are further keys that are allowed here, ``without`` those that are not: the choice around it has them.
    """
    if isinstance(entry.value, str):
        kind, inner = entry.value, replace(entry, value=None)
    else:
        found = entry.mapping("expected a block, such as conv: {out: 16}")
        if len(found) != 1:
            raise entry.error(
                f"expected one block, here is {entry}", "write one block per entry: - conv: {out: 16, kernel: 3}"
            )
        ((kind, inner),) = found.items()
    if kind == IDENTITY:
        raise inner.error("identity is no block of its own", "leave it out, or put it among a choice as id: identity")
    if kind not in BLOCKS and kind != TORCH:
        raise inner.error(f"there is no block {kind!r}", nearest(kind, (*BLOCKS, TORCH)))
    if kind == TORCH:
        keys = {"block": inner} if isinstance(inner.value, str) else dict(inner.mapping("expected block: module:Class"))
        if "block" not in keys or ":" not in str(keys["block"].value):
            raise inner.error("torch needs block: module:Class", "write torch: {block: my_blocks:MyBlock, out: 32}")
    else:
        keys = inner.keys((*BLOCKS[kind].keys, *extra), kind)
    for name in without:
        if name in keys:
            raise keys[name].error(
                f"{name} is the same for all blocks of a choice", f"write {name}: beside among: instead"
            )
    return Block(inner, kind, keys, folder)
