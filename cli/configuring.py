"""``--config FILE`` and ``--set KEY=VALUE``: every option of a command, and its hyper-parameters, from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

Command = TypeVar("Command", bound=Callable[..., Any])
_TOLD = "unas_hw.configuration"


def configurable(sections: Mapping[str, str] = MappingProxyType({})) -> Callable[[Command], Command]:
    """Adds both options. What the command line says itself counts more than ``--set``, and that more than the file.

    Args:
        sections: ``module:name`` of a dataclass of hyper-parameters, by the key under which a file has them, such as
            ``unas``; ``section_of`` then gives what was told, checked.
    """

    def read(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        told = context.meta.setdefault(_TOLD, {"config": {}, "set": {}})
        if parameter.name == "config" and value is not None:
            told["config"] = _flat(_read(value), value)
        elif parameter.name == "set" and value:
            told["set"] = dict(_assignment(text) for text in value)
        merged = {**told["config"], **told["set"]}
        if not merged:
            return
        names = {
            option.lstrip("-").replace("-", "_"): each.name
            for each in context.command.params
            if isinstance(each, click.Option) and each.expose_value and not each.is_eager
            for option in each.opts
        }
        inner = [f"{key}.{each.name}" for key, target in sections.items() for each in fields(imported(target))]
        for key in merged:
            _refuse_unknown(key, [*names, *inner])
        context.default_map = {names[key]: each for key, each in merged.items() if key in names and each is not None}

    more = f", and of hyper-parameters under {':, '.join(sections)}:" if sections else ""

    def decorate(command: Command) -> Command:
        options = (
            click.option(
                "--set", multiple=True, metavar="KEY=VALUE", is_eager=True, expose_value=False, callback=read,
                help="One setting, as it would stand in such a file.",
            ),
            click.option(
                "--config", type=click.Path(), metavar="FILE", is_eager=True, expose_value=False, callback=read,
                help=f"YAML of these options{more} (docs/configuration.md).",
            ),
        )  # fmt: skip
        for option in options:
            command = option(command)
        return command

    return decorate


def imported(target: str) -> type:
    """What ``module:name`` names."""
    module, _, name = target.partition(":")
    found: type = getattr(import_module(module), name)
    return found


def section_of(context: click.Context, section: str, hyper_parameters: type) -> dict[str, Any]:
    """The hyper-parameters that file and ``--set`` name, of their types; raises ``ConfigurationError``."""
    told = context.meta.get(_TOLD, {"config": {}, "set": {}})
    hints = get_type_hints(hyper_parameters)
    start, named = f"{section}.", {**told["config"], **told["set"]}
    mine = {key.removeprefix(start): value for key, value in named.items() if key.startswith(start)}
    return {name: _typed(start + name, hints[name], value) for name, value in mine.items()}


def resolved(context: click.Context, sections: Mapping[str, Any]) -> dict[str, Any]:
    """All options that have a value, and all hyper-parameters: as a file it gives the same result again.

    Without options that say what becomes of the result.
    """
    inner = {section: sorted(field.name for field in fields(each)) for section, each in sections.items()}
    others = {"as_json", "export_format"}.union(*inner.values())
    options = {
        str(each.name).replace("_", "-"): value
        for each in context.command.params
        if isinstance(each, click.Option) and (value := context.params.get(str(each.name))) is not None
        if each.name not in others
    }
    return options | {key: {name: getattr(sections[key], name) for name in names} for key, names in inner.items()}


def _read(name: str) -> Any:
    import yaml

    from profilers.files import read_text

    try:
        return yaml.safe_load(read_text(Path(name)))
    except yaml.YAMLError as error:
        raise _error(f"{name} is not YAML: {error}", "write lines such as latency-budget: 80ms") from error


def _flat(content: Any, name: str) -> dict[str, Any]:
    """``{"unas": {"tau": 1}}`` as ``{"unas.tau": 1}``; options as Python writes them."""
    if not isinstance(content, Mapping):
        raise _error(f"{name} holds no settings", "write lines such as latency-budget: 80ms")
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": each for inner, each in value.items()}
        else:
            flat[str(key).replace("-", "_")] = value
    return flat


def _assignment(text: str) -> tuple[str, Any]:
    import yaml

    key, equals, value = text.partition("=")
    if not equals:
        raise _error(f"--set {text} has no value", f"write --set {text}=VALUE")
    try:
        return key if "." in key else key.replace("-", "_"), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise _error(f"--set {text}: {value!r} is not YAML: {error}", f"quote it: --set '{key}=\"...\"'") from error


def _refuse_unknown(key: str, known: list[str]) -> None:
    if key not in known:
        near = get_close_matches(key, known)
        shown = (near[0] if "." in near[0] else near[0].replace("_", "-")) if near else ""
        raise _error(
            f"no setting is called {key.replace('_', '-') if '.' not in key else key!r}",
            f"did you mean {shown!r}?" if near else f"there are {', '.join(sorted(known))}",
        )


def _typed(key: str, hint: Any, value: Any) -> Any:
    """The value, where it is of the type; numbers such as 1e-3, which YAML takes for words, are read."""
    choices = get_args(hint)
    if get_origin(hint) is Literal:
        if value not in choices:
            raise _error(f"{key} is {value!r}", f"choose one of {', '.join(map(str, choices))}")
        return value
    wanted = choices[0] if type(None) in choices else hint
    if value is None and type(None) in choices:
        return None
    if wanted is float and value is not None and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            raise _error(f"{key} is {value!r}, not a number", f"write {key}: 0.1") from None
    if type(value) is not wanted:
        raise _error(f"{key} is {value!r}, not of type {wanted.__name__}", f"give {key} another value")
    return value


def _error(what: str, mend: str) -> Exception:
    from unas_hw.errors import ConfigurationError

    return ConfigurationError(what, mend=mend)
