"""Settings in YAML, as people mean them: nothing twice, and no number that YAML takes for another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from unas_hw.errors import ConfigurationError

_MEND = "write lines such as latency-budget: 80ms"
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)")


@final
class RefusedError(ConfigurationError):
    """What is YAML, but not what people mean by it; ``line``, from 1, is where it stands in a file not named yet."""

    def __init__(self, what: str, node: Node, mend: str) -> None:
        super().__init__(what, mend=mend)
        self.line = node.start_mark.line + 1


class Loader(yaml.SafeLoader):
    """Plain values; a number that YAML takes for octal or for base 60, as ``010`` and ``1:30``, is refused."""


def _number(loader: Loader, node: ScalarNode) -> Any:
    text, whole = str(node.value), node.tag.endswith(":int")
    value = loader.construct_yaml_int(node) if whole else loader.construct_yaml_float(node)
    if ":" in text or (whole and not _DECIMAL.fullmatch(text)):
        raise RefusedError(f"{text} is {value:g} to YAML", node, f"write it in decimal, or as a word: '{text}'")
    return value


Loader.add_constructor("tag:yaml.org,2002:int", _number)
Loader.add_constructor("tag:yaml.org,2002:float", _number)


@final
class _OnceLoader(Loader):
    """Refuses a key that a mapping has twice; what is merged into it (``<<``) it may have anew."""

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node: MappingNode = super().compose_mapping_node(anchor)
        seen = set[str]()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                raise RefusedError("a key is no word", key, "write lines such as latency-budget: 80ms")
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise RefusedError(f"{key.value} is given twice", key, "leave one of them out")
            seen.add(key.value)
        return node


def read_settings(text: str, name: str) -> dict[str, Any]:
    """``{"unas": {"tau": 1}}`` as ``{"unas.tau": 1}``; options under names as Python writes them.

    Options keep what stands there as text, as the command line would have it, so that both are read alike; None says
    nothing.

    Args:
        text: Of the file.
        name: Of the file.

    Raises:
        ConfigurationError: If it is no YAML of settings, or says one twice.
    """
    with _explained(name):
        loader = _OnceLoader(text)
        node = loader.get_single_node()
        if not isinstance(node, MappingNode):
            raise ConfigurationError(f"{name} holds no settings", mend=_MEND)
        loader.flatten_mapping(node)
        nodes = {str(key.value): value for key, value in node.value}  # what was merged comes first
        return _once(name, (pair for key, value in nodes.items() for pair in _flat(loader, key, value)))


def read_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """The same of ``KEY=VALUE``."""
    found: list[tuple[str, Any]] = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not value.strip():
            raise ConfigurationError(f"--set {text} has no value", mend=f"write --set {key}=VALUE")
        with _explained(f"--set {text}"):
            loader = _OnceLoader(value)
            found += _flat(loader, key, loader.get_single_node() or ScalarNode("tag:yaml.org,2002:null", ""))
    return _once("--set", found)


def _once(name: str, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in pairs:
        if key in flat:
            raise ConfigurationError(f"{name} says {key} twice", mend="leave one of them out")
        flat[key] = value
    return flat


def _flat(loader: Loader, key: str, node: Node) -> Iterator[tuple[str, Any]]:
    value: Any = loader.construct_document(node)
    if isinstance(value, dict):
        yield from ((f"{key}.{inner}", each) for inner, each in value.items())
    elif "." in key:
        yield key, value
    elif isinstance(node, SequenceNode):
        yield key.replace("-", "_"), [str(each.value) for each in node.value]
    else:
        yield key.replace("-", "_"), None if value is None else str(node.value)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns what YAML raises into ours, with the line."""
    try:
        yield
    except RefusedError as error:
        raise ConfigurationError(f"{name}, line {error.line}: {error.what}", mend=error.mend) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"{name}{where} is not YAML: {error.problem or error.context}", mend=_MEND) from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{name} is not YAML: {str(error).splitlines()[0]}", mend=_MEND) from error
    except RecursionError as error:
        raise ConfigurationError(f"{name} is nested too deep, or refers to itself", mend=_MEND) from error
    except ValueError as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"{name} is not YAML: {error}", mend=_MEND) from error  # a date that is none
