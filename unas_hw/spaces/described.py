"""A space that is described by a YAML file (``docs/spaces.md``).

name: my-space
input: [3, 32, 32]
classes: 10
layers:
  - conv: {out: 16, kernel: 3}
  - choice:
      repeat: 3
      out: 24
      stride: 2
      among:
        k3e3: {mbconv: {kernel: 3, expand: 3}}
        k5e6: {mbconv: {kernel: 5, expand: 6}}
        id: identity
  - classifier
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from profilers.workload import Workload
from unas_hw.errors import SpaceError
from unas_hw.spaces.blocks import IDENTITY, OUT, STRIDE, Block, read_block
from unas_hw.spaces.building import Chain
from unas_hw.spaces.chain import ChainSpace
from unas_hw.spaces.options import Whole
from unas_hw.spaces.reading import Entry, read_yaml

NAME, LABEL = re.compile(r"[A-Za-z][\w.-]*", re.ASCII), re.compile(r"[\w.]+", re.ASCII)
REPEAT = Whole(1, 1, 1000)
IMAGES = (Whole(3, 1, 4096), Whole(32, 1, 65_536), Whole(32, 1, 65_536))
CLASSES = Whole(10, 1, 1_000_000)


@dataclass(frozen=True)
class Description:
    """What the file says, its layers not yet looked at; images and classes are for when nobody says otherwise."""

    name: str
    image_shape: tuple[int, int, int]
    classes: int
    layers: list[Entry]
    folder: Path


def read_description(path: Path) -> Description:
    """Reads a file; raises ``SpaceError`` with the line."""
    whole = read_yaml(path)
    found = whole.keys(("name", "input", "classes", "layers"), "a space")
    if "layers" not in found:
        raise whole.error("a space needs layers", "write layers: and a list of blocks below it")
    name = found.get("name", Entry(path.name, "name", 1, path.stem))
    if not isinstance(name.value, str) or not NAME.fullmatch(name.value):
        raise name.error(
            f"{name} is no name for a space", "write name: and a word of letters, digits, - and _, such as my-space"
        )
    channels, height, width = _images(found["input"]) if "input" in found else (3, 32, 32)
    classes = found["classes"].read(CLASSES) if "classes" in found else CLASSES.default
    layers = found["layers"].list("expected a list of blocks, each line beginning with -")
    return Description(name.value, (channels, height, width), classes, layers, path.resolve().parent)


def _images(entry: Entry) -> tuple[int, int, int]:
    sizes = entry.list("expected [channels, height, width]")
    if len(sizes) != 3:
        raise entry.error(f"expected [channels, height, width], here are {len(sizes)} numbers", "input: [3, 32, 32]")
    channels, height, width = (each.read(option) for each, option in zip(sizes, IMAGES, strict=True))
    if height != width:
        raise entry.error(
            f"images are square, these have {height} x {width}", f"input: [{channels}, {height}, {height}]"
        )
    return channels, height, width


def described(
    description: Description,
    *,
    image_size: int,
    channels: int,
    classes: int,
    batch: int,
    precision: str,
) -> ChainSpace:
    """The space for images ``(channels, image_size, image_size)``; raises ``SpaceError`` with the line."""
    chain = Chain(description.name, image_size=image_size, channels=channels, batch=batch, precision=precision)
    names: set[str] = set()
    for number, entry in enumerate(description.layers, 1):
        keys = entry.value if isinstance(entry.value, dict) else {}
        if list(keys) == ["choice"]:
            _choice(chain, keys["choice"], description, classes, f"layer{number}", names)
        else:
            block = read_block(entry, description.folder, extra=("name", "repeat"))
            named = _named(block.entry, block.keys, f"layer{number}", names)
            repeat = block.keys["repeat"].read(REPEAT) if "repeat" in block.keys else 1
            for index in range(repeat):
                try:
                    workload = block.at(chain, classes, {}, first=index == 0)
                except SpaceError as error:
                    raise _placed(error, block.entry) from error
                chain.fixed(named if repeat == 1 else f"{named}.{index + 1}", workload)
    if not any(layer.searched for layer in chain.layers):
        raise description.layers[0].error("there is nothing to choose", "add a layer - choice: {among: {...}}")
    try:
        return chain.space(classes)
    except SpaceError as error:
        raise _placed(error, description.layers[-1]) from error


def _choice(chain: Chain, entry: Entry, description: Description, classes: int, named: str, names: set[str]) -> None:
    keys = entry.keys(("name", "repeat", "out", "stride", "among"), "choice")
    named = _named(entry, keys, named, names)
    repeat = keys["repeat"].read(REPEAT) if "repeat" in keys else 1
    if "among" not in keys:
        raise entry.error("choice needs among", "write among: and below it a line per candidate, such as a: conv")
    among = keys["among"].mapping("expected candidates by name, such as k3: {mbconv: {kernel: 3}}")
    blocks = {label: _candidate(each, label, description.folder) for label, each in among.items()}
    if len(blocks) < 2 or not any(blocks.values()):
        raise keys["among"].error(
            f"a choice among {len(blocks)} with {sum(map(bool, blocks.values()))} that does something is none",
            "give two candidates or more; a block that is always there needs no choice",
        )
    given = {name: keys[name] for name, option in (("out", OUT), ("stride", STRIDE)) if name in keys}
    for index in range(repeat):
        _one_of(chain, entry, blocks, given, classes, named if repeat == 1 else f"{named}.{index + 1}", index, repeat)


def _one_of(
    chain: Chain,
    entry: Entry,
    blocks: dict[str, Block | None],
    given: dict[str, Entry],
    classes: int,
    name: str,
    index: int,
    repeat: int,
) -> None:
    """A layer of a choice. Where it changes the shape it offers no identity: nothing would change the shape then."""
    candidates: dict[str, Workload | None] = {}
    for label, block in blocks.items():
        try:
            candidates[label] = None if block is None else block.at(chain, classes, given, first=index == 0)
        except SpaceError as error:
            raise _placed(error, block.entry if block else entry) from error
    labels: dict[Workload, str] = {}
    for label, workload in candidates.items():
        if workload is not None and labels.setdefault(workload, label) != label:
            raise entry.error(f"{labels[workload]} and {label} are the same block", "leave one of them out")
    if chain.changes(candidates):
        kept = [label for label, block in candidates.items() if block is None]
        if kept and repeat == 1:
            raise entry.error(
                f"{kept[0]} is identity and keeps the shape, which the others change",
                f"leave {kept[0]} out, or write repeat: 2 or more: the first layer then has no identity",
            )
        candidates = {label: block for label, block in candidates.items() if block is not None}
    try:
        if len(candidates) > 1:
            chain.choose(name, candidates)
        else:
            (only,) = candidates.values()
            assert only is not None  # there is one that is no identity
            chain.fixed(name, only)
    except SpaceError as error:
        raise _placed(error, entry) from error


def _candidate(entry: Entry, label: str, folder: Path) -> Block | None:
    """None for identity."""
    if not LABEL.fullmatch(label):
        raise entry.error(f"{label!r} is no name for a candidate", "use letters, digits, _ and . only, such as k3e6")
    if entry.value == IDENTITY or (isinstance(entry.value, dict) and list(entry.value) == [IDENTITY]):
        return None
    return read_block(entry, folder, without=("out", "stride"))


def _named(entry: Entry, keys: Mapping[str, Entry], default: str, names: set[str]) -> str:
    """What a layer is called; every name once."""
    given = keys.get("name", replace(entry, value=default))
    if not isinstance(given.value, str) or not NAME.fullmatch(given.value):
        raise given.error(f"{given} is no name for a layer", "write a word, such as stage2")
    if given.value in names:
        raise given.error(f"two layers are called {given}", "call one of them otherwise")
    names.add(given.value)
    return given.value


def _placed(error: SpaceError, entry: Entry) -> SpaceError:
    """The same with file and line, where it does not say them yet."""
    return error if error.what.startswith(f"{entry.file}, line ") else entry.error(error.what, error.mend)
