"""A YAML file, every value of which knows where it stands; what is wrong with it is said with its line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import yaml

from profilers.errors import did_you_mean
from profilers.files import read_text
from unas_hw.configuration import Loader, RefusedError
from unas_hw.errors import SpaceError
from unas_hw.spaces.options import Option

MEND = "docs/spaces.md shows the format by example"


@final
@dataclass(frozen=True)
class Entry:
    """A value of the file, with the file's name, its keys, such as ``layers[1].choice.out``, and its line, from 1.

    It is entries by key, a list of entries, or what stands there.
    """

    file: str
    where: str
    line: int
    value: Any

    def error(self, what: str, mend: str = MEND) -> SpaceError:
        """An error that begins with file, line and keys."""
        where = f", {self.where}" if self.where else ""
        return SpaceError(f"{self.file}, line {self.line}{where}: {what}", mend=mend)

    def __str__(self) -> str:
        if isinstance(self.value, dict):
            return f"a mapping of {', '.join(self.value) or 'nothing'}"
        return "a list" if isinstance(self.value, list) else repr(self.value)

    def keys(self, known: Iterable[str], what: str) -> dict[str, Entry]:
        """The entries of a mapping that has no other keys than these."""
        known = tuple(known)
        found = self.mapping(f"{what} has {', '.join(known)}" if known else f"{what} has no keys")
        for key, entry in found.items():
            if key not in known:
                raise entry.error(f"{what} has no {key!r}", nearest(key, known))
        return found

    def mapping(self, expected: str) -> dict[str, Entry]:
        """The entries of a mapping; nothing at all is an empty one."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.error(f"{expected}, here is {self}")
        return self.value

    def list(self, expected: str) -> list[Entry]:
        """The entries of a list that has some."""
        if not isinstance(self.value, list) or not self.value:
            raise self.error(f"{expected}, here is {self}")
        return self.value

    def read(self, option: Option) -> Any:
        """The value, as an option allows it."""
        try:
            if isinstance(self.value, dict | list):
                raise ValueError
            return option.read(str(self.value))
        except (ValueError, OverflowError):
            mend = did_you_mean(str(self.value), getattr(option, "words", ()), f"write {option.allowed}")
            raise self.error(f"{self} is not {option.allowed}", mend) from None


def nearest(word: str, known: Iterable[str]) -> str:
    """What was meant, or what there is."""
    known = tuple(known)
    return did_you_mean(word, known, f"there is {', '.join(known)}" if known else "leave it out")


def read_yaml(path: Path) -> Entry:
    """The file's only document.

    Only what ``yaml.safe_load`` takes: plain values, nothing that runs.

    Raises:
        FileError: If it cannot be read.
        SpaceError: If it is not YAML, gives a key twice, or refers to itself.
    """
    text = read_text(path)
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise SpaceError(f"{path} is empty", mend=MEND)
        return _entry(loader, node, path.name, "")
    except SpaceError:
        raise
    except RefusedError as error:
        raise SpaceError(f"{path.name}, line {error.line}: {error.what}", mend=error.mend) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise SpaceError(f"{path.name}{line} is not YAML: {error.problem or error.context}", mend=MEND) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
        raise SpaceError(f"{path.name} is not YAML: {str(error).splitlines()[0]}", mend=MEND) from error
    except RecursionError as error:
        raise SpaceError(f"{path.name} is nested too deep, or refers to itself", mend=MEND) from error


def _entry(loader: yaml.SafeLoader, node: yaml.Node, file: str, where: str) -> Entry:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        items = [_entry(loader, each, file, f"{where}[{number}]") for number, each in enumerate(node.value)]
        return Entry(file, where, line, items)
    if not isinstance(node, yaml.MappingNode):
        return Entry(file, where, line, loader.construct_object(node))
    found: dict[str, Entry] = {}
    for key, at, value in _pairs(loader, node, file, where):
        keys = f"{where}.{key}" if where else key
        entry = _entry(loader, value, file, keys)
        if key in found:
            raise SpaceError(f"{file}, line {at}, {keys} is given twice", mend="leave one of them out")
        # A key stands where its error is looked for; a list or mapping may begin a line below.
        found[key] = Entry(file, keys, at, entry.value)
    return Entry(file, where, line, found)


def _pairs(
    loader: yaml.SafeLoader, node: yaml.MappingNode, file: str, where: str
) -> Iterator[tuple[str, int, yaml.Node]]:
    """Keys, their lines and values."""
    for key_node, value in node.value:
        line = key_node.start_mark.line + 1
        key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            seen = key_node.value if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
            at = f", {where}" if where else ""
            raise SpaceError(
                f"{file}, line {line}{at}: the key {seen} is no word to YAML", mend=f"write it in quotes: '{seen}'"
            )
        yield key, line, value
